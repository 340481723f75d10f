//! The challenge of one connection (NIP-42). `policy` checks the answers.

use crate::nostr::{RelayMessage, hex};

/// 128 random bits in hex, created when first needed.
#[derive(Default)]
pub struct Challenge {
    bytes: Option<[u8; 16]>,
    text: Box<str>,
}

impl Challenge {
    /// A challenge that has not been sent.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it has been sent.
    #[must_use]
    pub const fn is_sent(&self) -> bool {
        self.bytes.is_some()
    }

    /// The text; empty until it is sent, so that no answer matches.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The message with the challenge, which stays the same for the whole connection.
    ///
    /// # Panics
    /// When the operating system provides no random numbers, since nothing safe can be done then.
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
