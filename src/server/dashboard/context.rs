//! What the dashboard is made of beside its page: the operator's choices, the sessions, where it is served, and the
//! configuration that it shows.
//!
//! It answers no request.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::sessions::{NoSession, Sessions};

/// The `[dashboard]` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Whether the address of the metrics serves it.
    pub on_metrics_address: bool,
    /// Whether the clients' address serves it.
    pub on_relay_address: bool,
    /// Where it is.
    pub path: String,
    /// Seconds that a session lasts.
    pub session_s: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { on_metrics_address: false, on_relay_address: false, path: "/dashboard".into(), session_s: 8 * 3600 }
    }
}

impl Options {
    /// Whether any address serves it.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.on_metrics_address || self.on_relay_address
    }
}

/// A key of the configuration, as it is shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Setting {
    /// Its name, such as `limits.max_filters`.
    pub key: String,
    /// Its value, as the file would have it.
    pub value: String,
    /// Its default, likewise, where that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// Which address a request came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// That of the metrics.
    Metrics,
    /// The clients'.
    Relay,
}

/// See the module. All threads share it.
pub struct DashboardContext {
    /// The options.
    pub options: Options,
    /// Who is logged in.
    pub sessions: Sessions,
    /// The configuration in force.
    pub configuration: ArcSwap<Vec<Setting>>,
    /// The addresses of the metrics and of clients.
    addresses: OnceLock<(Option<SocketAddr>, SocketAddr)>,
}

impl DashboardContext {
    /// A board that nobody has opened yet.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn new(options: Options) -> Result<Self, NoSession> {
        let sessions = Sessions::new(Duration::from_secs(options.session_s), Instant::now())?;
        Ok(Self { options, sessions, configuration: ArcSwap::default(), addresses: OnceLock::new() })
    }

    /// Tells where metrics and clients are served.
    pub fn serve_at(&self, metrics: Option<SocketAddr>, relay: SocketAddr) {
        // They are told once, before the first request.
        let _ = self.addresses.set((metrics, relay));
    }

    /// Whether an address serves it.
    #[must_use]
    pub const fn is_on(&self, side: Side) -> bool {
        match side {
            Side::Metrics => self.options.on_metrics_address,
            Side::Relay => self.options.on_relay_address,
        }
    }

    /// The rest of a path below the dashboard's own: empty for the page itself; `None` for another path.
    #[must_use]
    pub fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(&*self.options.path)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }

    /// Where a browser on this machine finds it.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        let Some((metrics, relay)) = self.addresses.get() else { return Vec::new() };
        let metrics = metrics.filter(|_| self.options.on_metrics_address);
        let relay = Some(*relay).filter(|_| self.options.on_relay_address);
        let url = |address: SocketAddr| format!("http://{}{}", reachable(address), self.options.path);
        [metrics, relay].into_iter().flatten().map(url).collect()
    }

    /// Hosts besides those of `auth.urls` by which a browser may have come.
    #[must_use]
    pub fn hosts(&self, side: Side) -> Vec<String> {
        let metrics = self.addresses.get().and_then(|(metrics, _)| *metrics);
        match (side, metrics) {
            (Side::Metrics, Some(address)) => {
                let own = match address {
                    SocketAddr::V4(address) => address.ip().to_string(),
                    SocketAddr::V6(address) => format!("[{}]", address.ip()),
                };
                ["localhost".into(), "127.0.0.1".into(), "[::1]".into(), own].into()
            }
            _ => Vec::new(),
        }
    }
}

/// An address to connect to: that of this machine if it listens on all.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let local = if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::IpAddr::from(std::net::Ipv6Addr::LOCALHOST)
        };
        address.set_ip(local);
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_the_dashboards_own_or_not() {
        let dashboard = DashboardContext::new(Options::default()).expect("random numbers");
        let below = |path| dashboard.below(path);
        assert_eq!(["/dashboard", "/dashboard/", "/dashboard/call"].map(below), [Some(""), Some("/"), Some("/call")]);
        assert_eq!(["/", "/dashboards", "/Dashboard", ""].map(below), [None; 4]);
    }

    #[test]
    fn a_browser_on_this_machine_is_told_an_address_that_it_can_reach() {
        let options = Options { on_metrics_address: true, on_relay_address: true, ..Options::default() };
        let dashboard = DashboardContext::new(options).expect("random numbers");
        assert_eq!(dashboard.urls(), [""; 0]);
        dashboard.serve_at(Some("[::]:9090".parse().expect("an address")), "0.0.0.0:7777".parse().expect("an address"));
        assert_eq!(dashboard.urls(), ["http://[::1]:9090/dashboard", "http://127.0.0.1:7777/dashboard"]);
        assert_eq!(dashboard.hosts(Side::Metrics), ["localhost", "127.0.0.1", "[::1]", "[::]"]);
        assert_eq!(dashboard.hosts(Side::Relay), [""; 0]);
    }
}
