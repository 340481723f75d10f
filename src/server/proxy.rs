//! Tells the operator what a proxy in front gets wrong about WebSockets. It does not change the answer.

use hyper::{Request, Version};

use super::log_limit::LogLimit;
use crate::ws::upgrade;

/// One line a minute at most for each kind of fault, because a proxy makes the same mistake for every client.
#[derive(Debug, Default)]
pub struct ProxyFaults {
    old_http: LogLimit,
    stripped_upgrade: LogLimit,
    rubbish: LogLimit,
}

impl ProxyFaults {
    /// Notes that a trusted proxy sent something other than HTTP.
    pub fn sent_rubbish(&self, now_us: u64) {
        if let Some(count) = self.rubbish.admit(now_us) {
            tracing::info!(
                count,
                "a proxy in server.trusted_proxies sent something other than an HTTP request: a proxy must speak plain \
                 HTTP/1.1 to the relay, neither TLS nor HTTP/2, and a PROXY header only with server.proxy_protocol"
            );
        }
    }

    /// Checks a request that is meant to become a WebSocket.
    pub fn watch<B>(&self, request: &Request<B>, now_us: u64) {
        if request.version() < Version::HTTP_11 {
            if let Some(count) = self.old_http.admit(now_us) {
                tracing::info!(
                    count,
                    "WebSockets were asked for in HTTP/1.0, which has none: a proxy must speak HTTP/1.1 to the relay \
                     (nginx: proxy_http_version 1.1)"
                );
            }
        } else if !upgrade::is_requested(request)
            && let Some(count) = self.stripped_upgrade.admit(now_us)
        {
            tracing::info!(
                count,
                "WebSockets were asked for without Upgrade and Connection: a proxy must pass these headers on \
                 (nginx: proxy_set_header Upgrade $http_upgrade)"
            );
        }
    }
}
