//! The byte stream below a WebSocket: TCP, or TLS over it.
//!
//! It must never stand between a plain connection and its socket: what is measured there is the relay.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::codec::Codec;
use super::frame::Assembler;

/// A connection after the upgrade, with what was negotiated and the bytes that came behind the answer's head.
pub struct Upgraded {
    /// The stream.
    pub stream: Stream,
    /// First frames of the relay, if they came in the same read.
    pub early: Vec<u8>,
    /// Reads the relay's frames; it may hold a part of one.
    pub assembler: Assembler,
    /// Writes ours.
    pub codec: Codec,
}

/// A connected stream.
#[derive(Debug)]
pub enum Stream {
    /// `ws://`
    Plain(TcpStream),
    /// `wss://`
    Secure(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Writes what the socket takes at once. With TLS nothing: it may have to read before it can write.
    ///
    /// # Errors
    /// `WouldBlock` if nothing can be written now; otherwise as write(2).
    pub fn try_write(&self, bytes: &[u8]) -> Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_write(bytes),
            Self::Secure(_) => Err(Error::from(ErrorKind::WouldBlock)),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secure(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Secure(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
