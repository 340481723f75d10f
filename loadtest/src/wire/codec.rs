//! How text messages become frames on the connections of a run.
//!
//! It must never differ between the connections of one run: their frames are prepared before they are open.

use super::deflate::deflate;
use super::frame::{MASK, RSV1, encode, opcode};

/// The form of the messages that are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codec {
    /// permessage-deflate was negotiated (RFC 7692).
    pub deflate: bool,
}

impl Codec {
    /// Appends one text message as a frame.
    pub fn text(self, text: &[u8], out: &mut Vec<u8>) {
        if self.deflate {
            encode(opcode::TEXT | RSV1, &deflate(text), MASK, out);
        } else {
            encode(opcode::TEXT, text, MASK, out);
        }
    }
}
