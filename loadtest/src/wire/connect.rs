//! Opens a WebSocket to the relay: address, source address, upgrade.
//!
//! It must never offer an extension, so that every relay sends the same bytes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Connections from one loopback address before the next one is used: below the 28,232 ports of Linux's default range.
const CONNECTIONS_PER_SOURCE: usize = 20_000;
/// A relay that has not answered the upgrade by then is counted as a failed connection.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer to the upgrade that is read.
const MAX_ANSWER_BYTES: usize = 16 << 10;

/// Where the relay is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Resolved address.
    pub address: SocketAddr,
    /// `Host` header.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Loopback source addresses to spread connections over (at least 1); some relays limit connections per address.
    pub sources: usize,
}

impl Target {
    /// Resolves `ws://host[:port][/path]`.
    ///
    /// # Errors
    /// If the URL has another form or the name does not resolve.
    pub async fn resolve(url: &str) -> Result<Self> {
        if url.starts_with("wss://") {
            bail!("{url}: TLS is not supported; point the tool at the relay's plain ws:// port");
        }
        let rest = url.strip_prefix("ws://").with_context(|| format!("{url}: expected ws://host[:port][/path]"))?;
        let (host, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        ensure!(!host.is_empty(), "{url}: no host");
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let lookup = if has_port { host.to_string() } else { format!("{host}:80") };
        let mut addresses = tokio::net::lookup_host(&lookup).await.with_context(|| format!("resolve {lookup}"))?;
        let address = addresses.next().with_context(|| format!("{lookup} has no address"))?;
        Ok(Self { address, host: host.to_string(), path: path.to_string(), sources: 1 })
    }

    /// The source address of connection `number`, if one has to be chosen: only on IPv4 loopback.
    fn source(&self, number: usize) -> Option<SocketAddr> {
        let IpAddr::V4(address) = self.address.ip() else {
            return None;
        };
        if !address.is_loopback() {
            return None;
        }
        let spread = number % self.sources.max(1);
        let full = number / self.sources.max(1) / CONNECTIONS_PER_SOURCE;
        match spread + full * self.sources.max(1) {
            0 => None,
            step => {
                let step = step.min(250) as u8;
                Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1 + step)), 0))
            }
        }
    }
}

/// A connection after the upgrade, with the bytes that came behind the answer's head.
pub struct Upgraded {
    /// The socket.
    pub stream: TcpStream,
    /// First frames of the relay, if they came in the same read.
    pub early: Vec<u8>,
}

/// Connects and upgrades connection `number`; `receive_buffer` fixes the kernel's receive buffer in bytes.
///
/// # Errors
/// If the relay refuses the connection or the upgrade; the message has its status line.
pub async fn connect(target: &Target, number: usize, receive_buffer: Option<u32>) -> Result<Upgraded> {
    tokio::time::timeout(UPGRADE_TIMEOUT, upgrade(target, number, receive_buffer))
        .await
        .context("no answer to the upgrade within 30 s")?
}

async fn upgrade(target: &Target, number: usize, receive_buffer: Option<u32>) -> Result<Upgraded> {
    let socket = if target.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = target.source(number) {
        socket.bind(source).with_context(|| format!("bind {source}"))?;
    }
    let mut stream = socket.connect(target.address).await.context("connect")?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: bG9hZHRlc3QgZm9yIE5JUA==\r\nUser-Agent: loadtest\r\n\r\n",
        target.path, target.host
    );
    stream.write_all(request.as_bytes()).await.context("send the upgrade")?;
    let mut answer = Vec::with_capacity(512);
    let head = loop {
        if let Some(at) = memchr::memmem::find(&answer, b"\r\n\r\n") {
            break at;
        }
        ensure!(answer.len() < MAX_ANSWER_BYTES, "the answer to the upgrade has no end");
        let read = stream.read_buf(&mut answer).await.context("read the answer to the upgrade")?;
        ensure!(read > 0, "the relay closed the connection during the upgrade");
    };
    let status = answer.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let status = String::from_utf8_lossy(status);
    ensure!(status.split(' ').nth(1) == Some("101"), "upgrade refused: {status}");
    Ok(Upgraded { stream, early: answer.split_off(head + 4) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_gives_address_host_and_path() {
        let target = Target::resolve("ws://127.0.0.1:7777/relay").await.expect("a good URL");
        let expected = Target {
            address: "127.0.0.1:7777".parse().expect("an address"),
            host: "127.0.0.1:7777".into(),
            path: "/relay".into(),
            sources: 1,
        };
        assert_eq!(target, expected);
        assert!(Target::resolve("wss://127.0.0.1").await.expect_err("no TLS").to_string().contains("TLS"));
        assert!(Target::resolve("http://127.0.0.1").await.is_err());
    }

    #[tokio::test]
    async fn sources_change_before_the_ports_of_one_run_out() {
        let mut target = Target::resolve("ws://127.0.0.1:7777").await.expect("a good URL");
        let ip = |target: &Target, number| target.source(number).map(|source| source.ip().to_string());
        assert_eq!(ip(&target, 0), None);
        assert_eq!(ip(&target, 19_999), None);
        assert_eq!(ip(&target, 20_000), Some("127.0.0.2".into()));
        target.sources = 3;
        assert_eq!(ip(&target, 2), Some("127.0.0.3".into()));
        assert_eq!(ip(&target, 3), None);
    }
}
