//! Opens a WebSocket to the relay: address, source address, TLS, upgrade, authentication.
//!
//! It must never negotiate differently for two connections of one run.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY};
use hyper::header::{SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;
use tungstenite::handshake::{client::generate_key, derive_accept_key};

use super::auth::{Identity, authenticate};
use super::codec::Codec;
use super::deflate::{self, Inflater};
use super::frame::Assembler;
use super::stream::{Stream, Upgraded};
use super::tls::Tls;

/// Connections from one loopback address before the next one is used: below the 28,232 ports of Linux's default range.
const CONNECTIONS_PER_SOURCE: usize = 20_000;
/// A relay that has not answered the upgrade by then is counted as a failed connection.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest head of an answer that is read.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// How the connections of a run are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Loopback source addresses to spread connections over; some relays limit connections per address.
    pub sources: usize,
    /// Offer permessage-deflate.
    pub deflate: bool,
    /// File of the secret key to authenticate with.
    pub auth: Option<PathBuf>,
    /// File of the certificates to trust with `wss://`, in place of the system's.
    pub authorities: Option<PathBuf>,
}

/// Whether permessage-deflate is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deflate {
    /// Never.
    Off,
    /// The relay may decline.
    Offered,
    /// It was accepted once, so it must be accepted again.
    Agreed,
}

/// Where the relay is, and how it is connected to.
#[derive(Clone)]
pub struct Target {
    /// The URL as given.
    pub url: String,
    /// Resolved address.
    pub address: SocketAddr,
    /// `Host` header.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Loopback source addresses to spread connections over; at least 1.
    pub sources: usize,
    /// Whether permessage-deflate is offered.
    pub deflate: Deflate,
    identity: Option<Identity>,
    tls: Option<Tls>,
}

impl Target {
    /// Resolves `ws://host[:port][/path]` or `wss://…`.
    ///
    /// # Errors
    /// If the URL has another form, the name does not resolve, or a file of the options cannot be used.
    pub async fn resolve(url: &str, options: &Options) -> Result<Self> {
        let (rest, is_secure) = match (url.strip_prefix("ws://"), url.strip_prefix("wss://")) {
            (Some(rest), _) => (rest, false),
            (_, Some(rest)) => (rest, true),
            _ => bail!("{url}: expected ws://host[:port][/path] or wss://host[:port][/path]"),
        };
        let (host, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        ensure!(!host.is_empty(), "{url}: no host");
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if is_secure { 443 } else { 80 };
        let lookup = if has_port { host.to_string() } else { format!("{host}:{port}") };
        let name = host.rsplit_once(':').filter(|_| has_port).map_or(host, |(name, _)| name);
        let tls = is_secure.then(|| Tls::new(name, options.authorities.as_deref())).transpose()?;
        let mut addresses = tokio::net::lookup_host(&lookup).await.with_context(|| format!("resolve {lookup}"))?;
        let address = addresses.next().with_context(|| format!("{lookup} has no address"))?;
        Ok(Self {
            url: url.to_string(),
            address,
            host: host.to_string(),
            path: path.to_string(),
            sources: options.sources.max(1),
            deflate: if options.deflate { Deflate::Offered } else { Deflate::Off },
            identity: options.auth.as_deref().map(Identity::read).transpose()?,
            tls,
        })
    }

    /// How connections are made, in words; `codec` is what was negotiated.
    pub fn manner(&self, codec: Codec) -> String {
        let deflate = match self.deflate {
            Deflate::Off => None,
            _ if codec.deflate => Some("permessage-deflate"),
            _ => Some("permessage-deflate declined"),
        };
        let parts = [self.tls.as_ref().map(|_| "TLS"), deflate, self.identity.as_ref().map(|_| "authenticated")];
        let parts: Vec<&str> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "plain".to_string() } else { parts.join(", ") }
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
    async fn open(&self, number: usize, receive_buffer: Option<u32>) -> Result<Stream> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(source) = self.source(number) {
            socket.bind(source).with_context(|| format!("bind {source}"))?;
        }
        let stream = socket.connect(self.address).await.context("connect")?;
        stream.set_nodelay(true)?;
        match &self.tls {
            Some(tls) => tls.secure(stream).await,
            None => Ok(Stream::Plain(stream)),
        }
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
    let mut headers = vec![
        (CONNECTION, "Upgrade"),
        (UPGRADE, "websocket"),
        (SEC_WEBSOCKET_VERSION, "13"),
        (SEC_WEBSOCKET_KEY, key.as_str()),
    ];
    if target.deflate != Deflate::Off {
        headers.push((SEC_WEBSOCKET_EXTENSIONS, deflate::OFFER));
    }
    let response = target.get(&headers, number, receive_buffer).await?;
    check_upgrade(&response, &key)?;
    let inflater = agreed(target.deflate, &response)?;
    let upgraded = hyper::upgrade::on(response).await.context("take over the connection")?;
    let Ok(parts) = upgraded.downcast::<TokioIo<Stream>>() else {
        bail!("the connection is not the one that was opened");
    };
    let mut upgraded = Upgraded {
        stream: parts.io.into_inner(),
        early: parts.read_buf.to_vec(),
        codec: Codec { deflate: inflater.is_some() },
        assembler: Assembler::new(inflater),
    };
    if let Some(identity) = &target.identity {
        authenticate(&mut upgraded, identity, &target.url).await?;
    }
    Ok(upgraded)
}

/// What the relay answered to our offer of permessage-deflate.
fn agreed<B>(offer: Deflate, response: &Response<B>) -> Result<Option<Inflater>> {
    let answer = response.headers().get(SEC_WEBSOCKET_EXTENSIONS).and_then(|value| value.to_str().ok());
    let answer = answer.unwrap_or_default();
    ensure!(offer != Deflate::Off || answer.is_empty(), "the relay chose {answer:?}, which was not offered");
    let inflater = deflate::agree(answer).map_err(|reason| anyhow!("the relay chose {answer:?}: {reason}"))?;
    ensure!(
        offer != Deflate::Agreed || inflater.is_some(),
        "the relay agreed to permessage-deflate before, and now it declines"
    );
    Ok(inflater)
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

    async fn resolve(url: &str) -> Result<Target> {
        Target::resolve(url, &Options::default()).await
    }

    #[tokio::test]
    async fn a_url_gives_address_host_and_path() {
        let target = resolve("ws://127.0.0.1:7777/relay").await.expect("a good URL");
        let expected = ("127.0.0.1:7777".parse().expect("an address"), "127.0.0.1:7777", "/relay", 1);
        assert_eq!((target.address, target.host.as_str(), target.path.as_str(), target.sources), expected);
        assert_eq!(target.manner(Codec::default()), "plain");
        let error = resolve("http://127.0.0.1").await.err().expect("no WebSocket").to_string();
        assert_eq!(error, "http://127.0.0.1: expected ws://host[:port][/path] or wss://host[:port][/path]");
    }

    #[tokio::test]
    async fn sources_change_before_the_ports_of_one_run_out() {
        let mut target = resolve("ws://127.0.0.1:7777").await.expect("a good URL");
        let ip = |target: &Target, number| target.source(number).map(|source| source.ip().to_string());
        assert_eq!(ip(&target, 0), None);
        assert_eq!(ip(&target, 19_999), None);
        assert_eq!(ip(&target, 20_000), Some("127.0.0.2".into()));
        target.sources = 3;
        assert_eq!(ip(&target, 2), Some("127.0.0.3".into()));
        assert_eq!(ip(&target, 3), None);
    }

    #[test]
    fn a_relay_must_keep_to_what_was_offered_and_agreed() {
        let outcome = |offer, answer: &str| {
            let response = Response::builder().header(SEC_WEBSOCKET_EXTENSIONS, answer).body(()).expect("a response");
            agreed(offer, &response).map(|inflater| inflater.is_some()).map_err(|error| error.to_string())
        };
        assert_eq!(outcome(Deflate::Off, ""), Ok(false));
        assert_eq!(outcome(Deflate::Offered, ""), Ok(false));
        assert_eq!(outcome(Deflate::Agreed, "permessage-deflate; server_max_window_bits=12"), Ok(true));
        assert!(outcome(Deflate::Off, "permessage-deflate").is_err());
        assert!(outcome(Deflate::Agreed, "").is_err());
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
