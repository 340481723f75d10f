//! A connection to another relay, as its client: TLS, WebSocket, and what a relay may say.
//!
//! The other relay is not trusted: whatever it sends, or does not send, costs a bounded amount of memory, and nothing
//! here panics. What to ask for, what to believe and how long to wait is decided above.

mod connection;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod message;
mod tls;
mod url;

pub use connection::{Connection, Frame, Options, Traffic};
pub use error::PeerError;
pub use message::{Incoming, event_id, printable};
pub use tls::{Tls, tls};
pub use url::PeerUrl;
