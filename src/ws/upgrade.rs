//! The opening handshake (RFC 6455 §4.2): it checks the request, builds the 101 response, then takes over the socket.
//!
//! It never decides whether a client may connect, only whether its request is well formed.

use bytes::Bytes;
use fastwebsockets::upgrade::UpgradeFut;
use http_body_util::Empty;
use hyper::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::deflate;

/// Why a request is not upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An ordinary HTTP request: no `Upgrade: websocket` with `Connection: upgrade`.
    #[error("not a WebSocket upgrade")]
    NotWebSocket,
    /// Not a GET, or an HTTP version before 1.1 (RFC 6455 §4.2.1).
    #[error("a WebSocket upgrade must be a GET request of HTTP/1.1")]
    BadMethod,
    /// A `Sec-WebSocket-Version` other than 13 (RFC 6455 §4.4).
    #[error("unsupported WebSocket version")]
    BadVersion,
    /// `Sec-WebSocket-Key` is not 16 bytes in base64, or there is not exactly one.
    #[error("bad Sec-WebSocket-Key")]
    BadKey,
}

impl Refusal {
    /// The response to send: 400, or 426 with the version that weir speaks.
    #[must_use]
    pub fn response(self) -> Response<Empty<Bytes>> {
        let mut response = Response::new(Empty::new());
        *response.status_mut() = match self {
            Self::BadVersion => StatusCode::UPGRADE_REQUIRED,
            Self::NotWebSocket | Self::BadMethod | Self::BadKey => StatusCode::BAD_REQUEST,
        };
        if self == Self::BadVersion {
            let version = HeaderValue::from_static("13");
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, version);
        }
        response
    }
}

/// Why an accepted handshake gave no socket.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The connection ended before the response was sent.
    #[error("the connection ended during the upgrade: {0}")]
    Lost(#[from] fastwebsockets::WebSocketError),
    /// hyper serves something other than a `TokioIo<TcpStream>`.
    #[error("the upgraded connection is not a TCP stream")]
    NotTcp,
}

/// An accepted handshake. The socket is available once the response is sent.
pub struct Upgrading {
    pending: UpgradeFut,
    deflate: bool,
}

/// A socket after the handshake.
#[derive(Debug)]
pub struct Upgraded {
    /// The socket itself.
    pub stream: TcpStream,
    /// Bytes that the client sent after its request; the reader must get them first.
    pub leftover: Bytes,
    /// Whether permessage-deflate was negotiated.
    pub deflate: bool,
}

/// Whether the request asks for a WebSocket at all.
#[must_use]
pub fn is_requested<B>(request: &Request<B>) -> bool {
    fastwebsockets::upgrade::is_upgrade_request(request)
}

/// Whether the client wants a WebSocket, even if a proxy has removed the headers that ask for one.
#[must_use]
pub fn is_meant<B>(request: &Request<B>) -> bool {
    is_requested(request) || request.headers().contains_key(SEC_WEBSOCKET_KEY)
}

/// Checks the request and builds the 101 response; `deflate` allows permessage-deflate.
///
/// # Errors
/// A [`Refusal`], which has its own response.
pub fn accept<B>(request: &mut Request<B>, deflate: bool) -> Result<(Response<Empty<Bytes>>, Upgrading), Refusal> {
    check(request)?;
    let extensions = if deflate { negotiate(request.headers()) } else { None };
    // It refuses bad keys and versions only, and both are checked.
    let (mut response, pending) = fastwebsockets::upgrade::upgrade(request).map_err(|_| Refusal::BadKey)?;
    let deflate = extensions.is_some();
    if let Some(value) = extensions {
        response.headers_mut().insert(SEC_WEBSOCKET_EXTENSIONS, value);
    }
    Ok((response, Upgrading { pending, deflate }))
}

impl Upgrading {
    /// Waits until the response is sent and takes the socket out of hyper's hands.
    ///
    /// # Errors
    /// The client disconnected first, or hyper does not serve a plain TCP stream.
    pub async fn socket(self) -> Result<Upgraded, UpgradeError> {
        let websocket = self.pending.await?;
        // No bytes are lost: nothing has been read through this value yet.
        let upgraded = websocket.into_inner().into_inner();
        let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| UpgradeError::NotTcp)?;
        Ok(Upgraded { stream: parts.io.into_inner(), leftover: parts.read_buf, deflate: self.deflate })
    }
}

fn check<B>(request: &Request<B>) -> Result<(), Refusal> {
    if !is_requested(request) {
        return Err(Refusal::NotWebSocket);
    }
    if request.method() != Method::GET || request.version() < Version::HTTP_11 {
        return Err(Refusal::BadMethod);
    }
    let headers = request.headers();
    if headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
        return Err(Refusal::BadVersion);
    }
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key.as_bytes()) => Ok(()),
        _ => Err(Refusal::BadKey),
    }
}

/// Whether `key` is 16 bytes in base64: 22 digits and `==`.
fn is_key(key: &[u8]) -> bool {
    let Some((digits, b"==")) = key.split_last_chunk::<2>() else {
        return false;
    };
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    digits.len() == 22 && digits.iter().all(is_digit)
}

fn negotiate(headers: &HeaderMap) -> Option<HeaderValue> {
    let values = headers.get_all(SEC_WEBSOCKET_EXTENSIONS);
    let response = deflate::negotiate(values.iter().filter_map(|value| value.to_str().ok()))?;
    HeaderValue::try_from(response).ok()
}

#[cfg(test)]
mod tests;
