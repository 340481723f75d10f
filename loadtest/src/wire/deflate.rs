//! permessage-deflate (RFC 7692): what is negotiated, and messages in and out of it.
//!
//! It must never keep a context for what it sends: frames are prepared before the clock starts, and each stands alone.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The value of `Sec-WebSocket-Extensions` that is sent. The relay need not keep a window for our messages.
pub const OFFER: &str = "permessage-deflate; client_no_context_takeover";
/// Ends every message, and is not sent (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];
/// Bytes that the output grows by at least.
const GROWTH: usize = 16 << 10;

/// Takes the answer to [`OFFER`] apart: `None` if the relay declined, otherwise a reader for its messages.
///
/// # Errors
/// If the answer is not one to what was offered.
pub fn agree(answer: &str) -> Result<Option<Inflater>, &'static str> {
    let mut parts = answer.split(';').map(str::trim);
    match parts.next() {
        None | Some("") => return Ok(None),
        Some("permessage-deflate") => {}
        Some(_) => return Err("an extension that was not offered"),
    }
    let mut inflater = Inflater { stream: Decompress::new(false), forgets: false };
    for parameter in parts {
        match parameter.split('=').next().unwrap_or_default().trim() {
            "server_no_context_takeover" => inflater.forgets = true,
            // Any window of the relay fits into ours, and we keep no context.
            "server_max_window_bits" | "client_no_context_takeover" => {}
            _ => return Err("a parameter of permessage-deflate that was not offered"),
        }
    }
    Ok(Some(inflater))
}

/// Reads the compressed messages of one connection.
#[derive(Debug)]
pub struct Inflater {
    stream: Decompress,
    /// Each message begins with an empty window.
    forgets: bool,
}

impl Inflater {
    /// The text of one message, of at most `most` bytes.
    ///
    /// # Errors
    /// If it is not compressed as RFC 7692 says, or longer.
    pub fn message(&mut self, payload: &[u8], most: usize) -> Result<Vec<u8>, &'static str> {
        let mut out = Vec::with_capacity(payload.len() * 4 + GROWTH);
        self.feed(payload, most, &mut out)?;
        self.feed(&TAIL, most, &mut out)?;
        if self.forgets {
            self.stream.reset(false);
        }
        Ok(out)
    }

    fn feed(&mut self, mut input: &[u8], most: usize, out: &mut Vec<u8>) -> Result<(), &'static str> {
        loop {
            if out.capacity() - out.len() < GROWTH / 2 {
                out.reserve(out.len().max(GROWTH));
            }
            let before = (self.stream.total_in(), out.len());
            let status = self.stream.decompress_vec(input, out, FlushDecompress::Sync);
            let status = status.map_err(|_| "a message is not compressed as RFC 7692 says")?;
            input = &input[(self.stream.total_in() - before.0) as usize..];
            if out.len() > most {
                return Err("a compressed message is too long");
            }
            if status == Status::StreamEnd {
                // A last block (BFINAL) ends the context; what follows begins a new one (RFC 7692 §7.2.3.4).
                self.stream.reset(false);
                if input.is_empty() {
                    return Ok(());
                }
                continue;
            }
            if input.is_empty() && out.len() < out.capacity() {
                return Ok(());
            }
            if self.stream.total_in() == before.0 && out.len() == before.1 {
                return Err("a compressed message ends in the middle");
            }
        }
    }
}

thread_local! {
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(Compression::fast(), false));
}

/// Compresses one message, without its tail.
pub fn deflate(payload: &[u8]) -> Vec<u8> {
    COMPRESS.with_borrow_mut(|stream| {
        stream.reset();
        let mut out = Vec::with_capacity(payload.len() / 2 + 64);
        loop {
            let at = stream.total_in() as usize;
            let status = stream.compress_vec(&payload[at..], &mut out, FlushCompress::Sync);
            status.expect("a stream that was reset takes any input");
            if stream.total_in() as usize == payload.len() && out.len() < out.capacity() {
                break;
            }
            out.reserve(payload.len().max(64));
        }
        out.truncate(out.len() - TAIL.len());
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest message of these tests.
    const MOST: usize = 8 << 20;

    /// The messages of a relay that keeps its window, or not.
    fn compressed(texts: &[&str], forgets: bool) -> Vec<Vec<u8>> {
        let mut stream = Compress::new(Compression::best(), false);
        let one = |text: &&str| {
            if forgets {
                stream.reset();
            }
            let mut out = Vec::with_capacity(1 << 20);
            stream.compress_vec(text.as_bytes(), &mut out, FlushCompress::Sync).expect("room for all");
            // Without new text a second flush writes nothing: an empty message is one empty block (RFC 7692 §7.2.3.6).
            let end = out.len().checked_sub(TAIL.len());
            end.map_or(vec![0], |end| out[..end].to_vec())
        };
        texts.iter().map(one).collect()
    }

    #[test]
    fn messages_come_out_as_they_went_in_whatever_the_relay_keeps() {
        let long = "[\"EVENT\",\"s\",{\"id\":\"".repeat(9000);
        let texts = ["[\"EOSE\",\"s\"]", "[\"EOSE\",\"s\"]", "", long.as_str()];
        for (answer, forgets) in
            [("permessage-deflate", false), ("permessage-deflate; server_no_context_takeover", true)]
        {
            let mut inflater = agree(answer).expect("an answer").expect("accepted");
            let read = |message: Vec<u8>| inflater.message(&message, MOST).expect("well compressed");
            let out: Vec<Vec<u8>> = compressed(&texts, forgets).into_iter().map(read).collect();
            assert!(out.iter().zip(texts).all(|(out, text)| out == text.as_bytes()), "{answer}");
        }
    }

    #[test]
    fn a_last_block_ends_the_context_and_not_the_connection() {
        let mut inflater = agree("permessage-deflate").expect("an answer").expect("accepted");
        // "Hello" of RFC 7692 §7.2.3.4, then the one of §7.2.3.2.
        let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        let plain = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        for message in [&last[..], &plain, &last] {
            assert_eq!(inflater.message(message, MOST), Ok(b"Hello".to_vec()));
        }
        let many = [0x03, 0x00].repeat(100_000);
        assert_eq!(inflater.message(&[&many[..], &[0]].concat(), MOST), Ok(Vec::new()));
    }

    #[test]
    fn what_is_sent_can_be_read_message_by_message() {
        let mut inflater = agree(OFFER).expect("an answer").expect("accepted");
        inflater.forgets = true;
        for text in ["", "a", "[\"CLOSE\",\"q1\"]", &"xyz".repeat(100_000)] {
            assert_eq!(inflater.message(&deflate(text.as_bytes()), MOST), Ok(text.as_bytes().to_vec()));
        }
    }

    #[test]
    fn an_answer_that_was_not_offered_is_an_error() {
        assert!(agree("").expect("declined").is_none());
        let wrong = |answer: &str| agree(answer).expect_err("must not be accepted");
        assert_eq!(wrong("x-webkit-deflate-frame"), "an extension that was not offered");
        let message = "a parameter of permessage-deflate that was not offered";
        assert_eq!(wrong("permessage-deflate; client_max_window_bits=10"), message);
    }

    #[test]
    fn a_message_that_is_damaged_or_a_bomb_is_an_error() {
        let read = |payload: &[u8]| agree(OFFER).expect("an answer").expect("accepted").message(payload, MOST);
        assert!(read(&[0xFF; 20]).is_err());
        let bomb = deflate(&vec![b'x'; MOST + 1]);
        assert!(bomb.len() < 1 << 18);
        assert_eq!(read(&bomb), Err("a compressed message is too long"));
    }
}
