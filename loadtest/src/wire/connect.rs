//! Opens a WebSocket to the relay: address, source address, upgrade.
//!
//! It must never offer an extension, so that every relay sends the same bytes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use hyper::header::{UPGRADE, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tungstenite::handshake::{client::generate_key, derive_accept_key};

/// Connections from one loopback address before the next one is used: below the 28,232 ports of Linux's default range.
const CONNECTIONS_PER_SOURCE: usize = 20_000;
/// A relay that has not answered the upgrade by then is counted as a failed connection.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest head of an answer that is read.
const MAX_HEAD_BYTES: usize = 16 << 10;

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

    /// Opens the TCP connection of this number; `receive_buffer` fixes the kernel's receive buffer in bytes.
    async fn open(&self, number: usize, receive_buffer: Option<u32>) -> Result<TcpStream> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(source) = self.source(number) {
            socket.bind(source).with_context(|| format!("bind {source}"))?;
        }
        let stream = socket.connect(self.address).await.context("connect")?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Sends one GET with these headers on a new connection and returns the response; its body is not read yet.
    ///
    /// # Errors
    /// If the relay cannot be reached or does not answer in HTTP.
    pub async fn get(
        &self,
        headers: &[(hyper::header::HeaderName, &str)],
        number: usize,
        receive_buffer: Option<u32>,
    ) -> Result<Response<Incoming>> {
        let stream = self.open(number, receive_buffer).await?;
        let mut request = Request::get(&self.path).header(HOST, &self.host).header(USER_AGENT, "loadtest");
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).context("the URL's path")?;
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(MAX_HEAD_BYTES).handshake(TokioIo::new(stream)).await?;
        // Its errors are those of the request below, which the caller sees.
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.context("no answer in HTTP")
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
/// If the relay refuses the connection or the upgrade; the message has the status or the header that is wrong.
pub async fn connect(target: &Target, number: usize, receive_buffer: Option<u32>) -> Result<Upgraded> {
    tokio::time::timeout(UPGRADE_TIMEOUT, upgrade(target, number, receive_buffer))
        .await
        .context("no answer to the upgrade within 30 s")?
}

async fn upgrade(target: &Target, number: usize, receive_buffer: Option<u32>) -> Result<Upgraded> {
    let key = generate_key();
    let headers = [
        (CONNECTION, "Upgrade"),
        (UPGRADE, "websocket"),
        (SEC_WEBSOCKET_VERSION, "13"),
        (SEC_WEBSOCKET_KEY, key.as_str()),
    ];
    let response = target.get(&headers, number, receive_buffer).await?;
    check_upgrade(&response, &key)?;
    let upgraded = hyper::upgrade::on(response).await.context("take over the connection")?;
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        bail!("the connection is not the one that was opened");
    };
    Ok(Upgraded { stream: parts.io.into_inner(), early: parts.read_buf.to_vec() })
}

/// Makes the checks that RFC 6455 §4.1 asks of a client.
fn check_upgrade<B>(response: &Response<B>, key: &str) -> Result<()> {
    ensure!(response.status() == StatusCode::SWITCHING_PROTOCOLS, "upgrade refused: {}", response.status());
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ensure!(header(UPGRADE).eq_ignore_ascii_case("websocket"), "the answer to the upgrade lacks Upgrade: websocket");
    let mut tokens = header(CONNECTION).split(',');
    let upgrades = tokens.any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    ensure!(upgrades, "the answer to the upgrade lacks Connection: Upgrade");
    let accept = header(SEC_WEBSOCKET_ACCEPT);
    ensure!(accept == derive_accept_key(key.as_bytes()), "Sec-WebSocket-Accept {accept:?} does not answer the key");
    Ok(())
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

    #[test]
    fn an_upgrade_counts_only_with_the_accept_value_of_rfc_6455() {
        // The key and the value of RFC 6455 §1.3.
        let (key, value) = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let answer = |accept: &str, connection: &str| {
            let answer = Response::builder().status(101).header(UPGRADE, "WebSocket").header(CONNECTION, connection);
            answer.header(SEC_WEBSOCKET_ACCEPT, accept).body(()).expect("a response")
        };
        let outcome =
            |accept, connection| check_upgrade(&answer(accept, connection), key).map_err(|error| error.to_string());
        assert_eq!(outcome(value, "keep-alive, Upgrade"), Ok(()));
        assert_eq!(outcome("", "Upgrade"), Err("Sec-WebSocket-Accept \"\" does not answer the key".into()));
        assert_eq!(outcome("AAAA", "Upgrade"), Err("Sec-WebSocket-Accept \"AAAA\" does not answer the key".into()));
        assert_eq!(outcome(value, "close"), Err("the answer to the upgrade lacks Connection: Upgrade".into()));
    }
}
