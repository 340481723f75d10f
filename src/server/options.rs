//! The operator's choices about sockets.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::policy::AddressSet;

/// The `[server]` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where clients connect. Port 0 lets the system choose; the log tells which.
    pub listen: SocketAddr,
    /// The path of the WebSocket and of the information document; upgrades elsewhere get 404.
    pub path: String,
    /// Threads that own sockets; 0 chooses by the number of cores.
    pub io_threads: usize,
    /// Open connections; one more is answered with 503.
    pub max_connections: usize,
    /// Sockets per address (an IPv6 /64 counts as one), from accept on. One WebSocket more is answered with 429. One
    /// socket more without a request costs the address the oldest of those.
    pub max_connections_per_address: usize,
    /// Sockets without an answered request. One more closes the oldest of the address that has the most.
    pub max_half_open: usize,
    /// Addresses and prefixes of proxies whose `X-Forwarded-For` is believed; empty for none.
    pub trusted_proxies: AddressSet,
    /// Whether those proxies begin each connection with a header of the PROXY protocol, version 1 or 2. Then nobody
    /// else may connect.
    pub proxy_protocol: bool,
    /// Whether permessage-deflate is offered.
    pub compression: bool,
    /// Seconds a client may take to send its HTTP request.
    pub header_timeout_s: u64,
    /// Seconds of silence after which a client is pinged; 0 never pings.
    pub ping_after_s: u64,
    /// Seconds after that ping after which a silent client is closed.
    pub pong_timeout_s: u64,
    /// Bytes that may wait for one client; beyond, a live event closes it as a slow consumer.
    pub outbox_bytes: usize,
    /// Frames that may wait for one client.
    pub outbox_frames: usize,
    /// Bytes waiting for one client at which its scans pause.
    pub outbox_high_water_bytes: usize,
    /// Bytes that the kernel may hold for one socket in each direction; it allows itself twice that for its
    /// bookkeeping. 0 leaves the choice to the kernel.
    pub socket_buffer_bytes: usize,
    /// Seconds that SIGTERM gives clients and queues to finish. After a hand-over, clients are closed over three
    /// quarters of it.
    pub drain_timeout_s: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7777)),
            path: "/".into(),
            io_threads: 0,
            max_connections: 30_000,
            max_connections_per_address: 256,
            max_half_open: 4096,
            trusted_proxies: AddressSet::default(),
            proxy_protocol: false,
            compression: true,
            header_timeout_s: 10,
            ping_after_s: 25,
            pong_timeout_s: 25,
            outbox_bytes: 8 << 20,
            outbox_frames: 4096,
            outbox_high_water_bytes: 1 << 20,
            socket_buffer_bytes: 256 << 10,
            drain_timeout_s: 10,
        }
    }
}
