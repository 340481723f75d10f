//! One connection: the socket, the messages that wait to be sent, and what came and went.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use super::error::PeerError;
use super::message::printable;
use super::tls::Tls;
use super::url::PeerUrl;

/// Messages that may wait to be sent. Those who send keep far fewer unanswered, so that only a relay which does not
/// read fills it.
const QUEUE_MESSAGES: usize = 4096;

/// Bytes read from the socket at a time.
const READ_BUFFER_BYTES: usize = 128 << 10;

/// How to connect.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long connecting may take, the handshakes included.
    pub timeout: Duration,
    /// A longer message ends the connection.
    pub max_message_bytes: usize,
}

/// Bytes of messages, without what WebSocket and TLS add.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Received from the relay.
    pub received: u64,
    /// Sent to it.
    pub sent: u64,
}

/// What comes from a relay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// A text message.
    Text(Utf8Bytes),
    /// The answer to the ping with this number. What the relay had sent before it has been received.
    Pong(u64),
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A connection to a relay.
pub struct Connection {
    incoming: futures_util::stream::SplitStream<Socket>,
    outgoing: mpsc::Sender<Message>,
    writer: JoinHandle<()>,
    received: u64,
    sent: Arc<AtomicU64>,
    max_message_bytes: usize,
}

impl Connection {
    /// Connects. Runs on a tokio runtime, which must keep running for what is sent.
    ///
    /// # Errors
    /// When the relay cannot be reached in time, its certificate is not trusted, or it does not speak WebSocket.
    pub async fn open(url: &PeerUrl, tls: Option<Tls>, options: &Options) -> Result<Self, PeerError> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .max_message_size(Some(options.max_message_bytes))
            .max_frame_size(Some(options.max_message_bytes));
        let connector = tls.map_or(Connector::Plain, Connector::Rustls);
        let connecting = connect_async_tls_with_config(url.as_str(), Some(config), true, Some(connector));
        let Ok(connected) = tokio::time::timeout(options.timeout, connecting).await else {
            return Err(PeerError::TooSlow(options.timeout.as_secs()));
        };
        let (socket, _) = connected.map_err(|error| PeerError::Unreachable(describe(&error)))?;
        let (mut sink, incoming) = socket.split();
        let (outgoing, mut waiting) = mpsc::channel::<Message>(QUEUE_MESSAGES);
        // On its own, since both sides may have to be read from while neither takes more.
        let writer = tokio::spawn(async move {
            while let Some(message) = waiting.recv().await {
                let is_last = waiting.is_empty();
                if sink.feed(message).await.is_err() || (is_last && sink.flush().await.is_err()) {
                    // Whoever reads learns why.
                    return;
                }
            }
            // The other side may be gone already.
            let _ = sink.close().await;
        });
        let max_message_bytes = options.max_message_bytes;
        Ok(Self { incoming, outgoing, writer, received: 0, sent: Arc::default(), max_message_bytes })
    }

    /// Sends a message. Never waits.
    ///
    /// # Errors
    /// When the relay has not read thousands of messages before this one.
    pub fn send(&self, text: String) -> Result<(), PeerError> {
        self.queue(text.len(), Message::text(text))
    }

    /// Sends a ping, whose pong comes after everything that the relay had sent before it read the ping. Never waits.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn ping(&self, number: u64) -> Result<(), PeerError> {
        self.queue(0, Message::Ping(number.to_be_bytes().to_vec().into()))
    }

    fn queue(&self, bytes: usize, message: Message) -> Result<(), PeerError> {
        match self.outgoing.try_send(message) {
            Ok(()) => {
                self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(_)) => Err(PeerError::NotReading),
            // The connection is over: `next` tells how.
            Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// The next text message. A call that is dropped before it returns loses nothing.
    ///
    /// # Errors
    /// When the connection is over, or a message is too long.
    pub async fn next(&mut self) -> Result<Utf8Bytes, PeerError> {
        loop {
            if let Frame::Text(text) = self.next_frame().await? {
                return Ok(text);
            }
        }
    }

    /// The next text message or pong. A call that is dropped before it returns loses nothing.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn next_frame(&mut self) -> Result<Frame, PeerError> {
        loop {
            return match self.incoming.next().await {
                Some(Ok(Message::Text(text))) => {
                    self.received += text.len() as u64;
                    Ok(Frame::Text(text))
                }
                Some(Ok(Message::Pong(payload))) => match payload.first_chunk() {
                    Some(number) if payload.len() == 8 => Ok(Frame::Pong(u64::from_be_bytes(*number))),
                    // Relays may send pongs that nobody asked for.
                    _ => continue,
                },
                Some(Ok(Message::Close(frame))) => {
                    let why = frame.map(|frame| printable(&frame.reason)).filter(|why| !why.is_empty());
                    Err(PeerError::Closed(why.map(|why| format!(": {why}")).unwrap_or_default()))
                }
                Some(Ok(_)) => continue,
                Some(Err(Error::Capacity(_))) => Err(PeerError::TooLong(self.max_message_bytes)),
                Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) | None => {
                    Err(PeerError::Closed(String::new()))
                }
                Some(Err(error)) => Err(PeerError::Broken(describe(&error))),
            };
        }
    }

    /// What came and went so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        Traffic { received: self.received, sent: self.sent.load(Ordering::Relaxed) }
    }

    /// Sends what waits and says goodbye, which may take `within`.
    pub async fn close(self, within: Duration) {
        let Self { outgoing, mut writer, .. } = self;
        drop(outgoing);
        if tokio::time::timeout(within, &mut writer).await.is_err() {
            writer.abort();
        }
    }
}

/// What went wrong, in one line that is fit to print.
fn describe(error: &Error) -> String {
    match error {
        Error::Http(response) => format!("it answers with HTTP status {}", response.status()),
        Error::Io(error) => printable(&error.to_string()),
        error => printable(&error.to_string()),
    }
}
