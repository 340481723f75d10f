//! The challenge of one connection (NIP-42). What answers it is checked in `policy`.

use crate::nostr::{RelayMessage, hex};

/// 128 random bits in hex, made when they are first needed.
#[derive(Default)]
pub struct Challenge {
    bytes: Option<[u8; 16]>,
    text: Box<str>,
}

impl Challenge {
    /// A challenge that nobody has seen.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the client holds it.
    #[must_use]
    pub const fn is_sent(&self) -> bool {
        self.bytes.is_some()
    }

    /// The text, empty before it was sent: no answer matches that.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The message that tells the client. The same challenge holds for the whole connection.
    ///
    /// # Panics
    /// When the operating system has no random numbers: nothing safe can be done then.
    pub fn message(&mut self) -> RelayMessage {
        let bytes = self.bytes.get_or_insert_with(|| {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
            bytes
        });
        if self.text.is_empty() {
            self.text = hex::encode(bytes).into();
        }
        RelayMessage::Auth(self.text.clone())
    }
}
