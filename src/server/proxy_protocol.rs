//! Takes the header of the PROXY protocol off a new socket, and learns from it who the client is.
//!
//! Only proxies in `server.trusted_proxies` may send one, and they must: whoever else connects is cut off. It reads no
//! byte of what follows the header, and waits no longer for it than for a request.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::admission::HalfOpenPlace;
use super::context::IoContext;
use super::proxy_header::{Header, parse};
use crate::metrics::TurnedAway;

/// Bytes looked at at a time; most headers are shorter.
const CHUNK: usize = 256;

/// Who is at the other end of a socket.
#[derive(Clone, Copy)]
pub struct Caller {
    /// The address of the socket's peer, or of the client that a header names.
    pub address: SocketAddr,
    /// Whether `X-Forwarded-For` is read if that address is a trusted proxy's. Not if the header of a proxy names no
    /// client: somebody behind it may have written the request.
    pub may_forward: bool,
}

/// Reads the header of a socket from `peer`. Returns who the client is, and its place; `None` if the socket
/// is to be closed, which has been counted.
pub async fn enter(
    context: &IoContext,
    stream: &mut TcpStream,
    peer: SocketAddr,
    waiting: HalfOpenPlace,
) -> Option<(Caller, HalfOpenPlace)> {
    let options = &context.front.options;
    if !options.trusted_proxies.contains(peer.ip()) {
        context.refuse(TurnedAway::Direct, peer.ip());
        return None;
    }
    let within = Duration::from_secs(options.header_timeout_s.max(1));
    let read = tokio::select! {
        read = timeout(within, read(stream)) => read,
        () = waiting.is_sent_away() => return None,
    };
    match read {
        Ok(Ok(Some(client))) => {
            // It is now half-open as the client that it is.
            let waiting = context.arrive(client.ip());
            Some((Caller { address: client, may_forward: true }, waiting))
        }
        Ok(Ok(None)) => Some((Caller { address: peer, may_forward: false }, waiting)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            context.refuse(TurnedAway::ProxyHeader, peer.ip());
            None
        }
        // A check whether the port is open.
        Ok(Err(_)) => None,
        Err(_) => {
            context.refuse(TurnedAway::Slow, peer.ip());
            None
        }
    }
}

/// Reads a header, byte for byte to its end. Returns the client that it names.
///
/// # Errors
/// `InvalidData` when there is none, others when the socket fails or ends.
async fn read(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let (mut head, mut chunk) = (Vec::with_capacity(CHUNK), [0; CHUNK]);
    loop {
        let before = head.len();
        let seen = stream.peek(&mut chunk).await?;
        if seen == 0 && before == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&chunk[..seen]);
        // A socket that ends within a header has sent none.
        let parsed = parse(&head).ok().filter(|header| seen > 0 || *header != Header::Partial);
        let (length, client) = match parsed.ok_or(io::ErrorKind::InvalidData)? {
            Header::Partial => (head.len(), None),
            Header::Whole { length, client } => (length, Some(client)),
        };
        stream.read_exact(&mut chunk[..length - before]).await?;
        if let Some(client) = client {
            return Ok(client);
        }
    }
}
