//! permessage-deflate (RFC 7692) without state per connection: every message is compressed on its own.
//!
//! It never inflates beyond its limits, and never accepts an offer that it cannot honour.

use std::cell::Cell;

use flate2::{Compress, Compression, FlushCompress};
use zlib_rs::{Inflate, InflateFlush, Status};

use super::frame::{self, HeaderBytes, OpCode, Violation};

/// log2 of the compressor's window: 4 KiB, which is what the common Python client asks for and longer than most events.
const WINDOW_BITS: u8 = 12;

/// Level 2 is the first that builds Huffman codes for the message, and nothing else shrinks hex digits. Real events (of
/// 926 B on average) shrank to 0.85 of their size at level 1 in 5 µs, to 0.61 at level 2 in 13 µs, and no further at
/// level 6.
const LEVEL: Compression = Compression::new(2);

/// Shorter messages are sent plain: they would hardly shrink.
pub const MIN_COMPRESS_BYTES: usize = 128;

/// The end of a sync flush, which is removed from every message (RFC 7692 §7.2.1).
const FLUSH_TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The most deflate blocks of a message. A block takes 10 bits at least and up to a microsecond, whether anything comes
/// out of it or not: a mebibyte of empty ones took 190 ms, and these take a millisecond. zlib begins a block where it
/// is flushed and every 16,384 symbols, or with memLevel 5, as Python's `websockets` has it, every 2,048. So a mebibyte
/// has 64 or 512 blocks.
pub const MAX_BLOCKS: u64 = 1024;

/// log2 of the inflater's window: 32 KiB, the largest there is.
const INFLATE_WINDOW_BITS: u8 = 15;

/// The largest scratch buffer that a thread keeps between messages; a larger one is freed after use.
const MAX_KEPT_BYTES: usize = 64 << 10;

/// The header of a stored block (RFC 1951 §3.2.4) that is not the last of its stream and begins at a byte boundary:
/// BFINAL 0, BTYPE 00, padding, LEN, NLEN.
///
/// # Panics
/// If `len` does not fit in 16 bits.
#[must_use]
#[inline]
pub fn stored_block_header(len: usize) -> [u8; 5] {
    let len = u16::try_from(len).expect("a head has a few hundred bytes");
    let ([a, b], [c, d]) = (len.to_le_bytes(), (!len).to_le_bytes());
    [0, a, b, c, d]
}

/// The inflater of one thread: a window of 32 KiB and the text of the current message. flate2 has none that stops
/// between blocks.
struct Inflater {
    stream: Inflate,
    /// The text, and room for more.
    text: Vec<u8>,
    text_bytes: usize,
    /// Blocks of the current message.
    blocks: u64,
}

/// The compressor of one thread.
struct Compressor {
    stream: Compress,
    packed: Vec<u8>,
}

thread_local! {
    static INFLATER: Cell<Option<Box<Inflater>>> = const { Cell::new(None) };
    static COMPRESSOR: Cell<Option<Box<Compressor>>> = const { Cell::new(None) };
}

/// Inflates one message and passes the text to `take`. Adds to `blocks` how many deflate blocks it read.
///
/// # Errors
/// [`Violation::TooBig`] as soon as the text exceeds `max_bytes`, [`Violation::TooManyBlocks`] at the first block after
/// [`MAX_BLOCKS`], [`Violation::NotDeflate`] if the payload is not a deflate stream.
pub fn inflate<R>(
    payload: &[u8],
    max_bytes: usize,
    blocks: &mut u64,
    take: impl FnOnce(&[u8]) -> R,
) -> Result<R, Violation> {
    // Taken out rather than borrowed, since `take` may inflate on this thread too.
    let mut inflater = INFLATER.take().unwrap_or_else(|| Box::new(Inflater::new()));
    let result = inflater.run(payload, max_bytes).map(|()| take(&inflater.text[..inflater.text_bytes]));
    *blocks += inflater.blocks;
    if inflater.text.capacity() > MAX_KEPT_BYTES {
        inflater.text = Vec::new();
    }
    INFLATER.set(Some(inflater));
    result
}

impl Inflater {
    fn new() -> Self {
        Self { stream: Inflate::new(false, INFLATE_WINDOW_BITS), text: Vec::new(), text_bytes: 0, blocks: 0 }
    }

    fn run(&mut self, payload: &[u8], max_bytes: usize) -> Result<(), Violation> {
        self.stream.reset(false);
        (self.text_bytes, self.blocks) = (0, 0);
        self.run_part(payload, max_bytes)?;
        self.run_part(&FLUSH_TAIL, max_bytes)
    }

    /// Inflates `part`, a block at a time. At the end of a block, the stream keeps less than a byte of what it was
    /// given, and no block is that short: so once `part` is used up, everything in it has come out.
    fn run_part(&mut self, part: &[u8], max_bytes: usize) -> Result<(), Violation> {
        let mut rest = part;
        loop {
            if self.text_bytes == self.text.len() {
                // One byte beyond the limit is enough to see that it is exceeded.
                let room = (max_bytes + 1).saturating_sub(self.text_bytes).max(1);
                let more = self.text_bytes.clamp(4096, MAX_KEPT_BYTES * 4).min(room);
                self.text.reserve_exact(more);
                self.text.resize(self.text_bytes + more, 0);
            }
            let before = (self.stream.total_in(), self.stream.total_out());
            let status = self
                .stream
                .decompress(rest, &mut self.text[self.text_bytes..], InflateFlush::Block)
                .map_err(|_| Violation::NotDeflate)?;
            let used = (self.stream.total_in() - before.0) as usize;
            self.text_bytes += (self.stream.total_out() - before.1) as usize;
            rest = &rest[used..];
            if self.text_bytes > max_bytes {
                return Err(Violation::TooBig);
            }
            // A block marked final does not end a message (RFC 7692 §7.2.3.4).
            if status == Status::StreamEnd {
                self.stream.reset(false);
            }
            let is_full = self.text_bytes == self.text.len();
            self.blocks += u64::from(!is_full && status != Status::StreamEnd);
            if self.blocks > MAX_BLOCKS {
                return Err(Violation::TooManyBlocks);
            }
            if rest.is_empty() && !is_full {
                return Ok(());
            }
            if used == 0 && !is_full && status == Status::BufError {
                return Err(Violation::NotDeflate);
            }
        }
    }
}

/// Compresses `plain` into blocks that refer to nothing before them, end at a byte boundary and lack the final
/// `00 00 FF FF`. `None` if that would not be shorter.
#[must_use]
pub fn compress_block(plain: &[u8]) -> Option<Vec<u8>> {
    with_packed(plain, <[u8]>::to_vec)
}

/// Appends a whole text message, compressed if that makes it shorter. The caller guarantees that `payload` is UTF-8 and
/// that the connection negotiated permessage-deflate.
pub fn encode_text_deflated(out: &mut Vec<u8>, payload: &[u8]) {
    let packed = with_packed(payload, |packed| {
        out.extend_from_slice(HeaderBytes::new(OpCode::Text, true, packed.len()).as_slice());
        out.extend_from_slice(packed);
    });
    if packed.is_none() {
        frame::encode_text(out, payload);
    }
}

fn with_packed<R>(plain: &[u8], take: impl FnOnce(&[u8]) -> R) -> Option<R> {
    if plain.len() < MIN_COMPRESS_BYTES {
        return None;
    }
    let mut compressor = COMPRESSOR.take().unwrap_or_else(|| {
        Box::new(Compressor { stream: Compress::new_with_window_bits(LEVEL, false, WINDOW_BITS), packed: Vec::new() })
    });
    let taken = compressor.run(plain).map(take);
    if compressor.packed.capacity() > MAX_KEPT_BYTES {
        compressor.packed = Vec::new();
    }
    COMPRESSOR.set(Some(compressor));
    taken
}

impl Compressor {
    /// `None` if the result would not be shorter.
    fn run(&mut self, plain: &[u8]) -> Option<&[u8]> {
        self.stream.reset();
        self.packed.clear();
        // Room for a result as long as the input: a longer one is useless. If a byte is left over, the flush was
        // written in full.
        self.packed.reserve(plain.len() + FLUSH_TAIL.len() + 1);
        self.stream.compress_vec(plain, &mut self.packed, FlushCompress::Sync).ok()?;
        let whole = self.stream.total_in() == plain.len() as u64 && self.packed.len() < self.packed.capacity();
        let packed = self.packed.strip_suffix(&FLUSH_TAIL)?;
        (whole && packed.len() < plain.len()).then_some(packed)
    }
}

/// Accepts the first suitable offer in the request's `Sec-WebSocket-Extensions` and returns the value of the response's
/// header. `None`: continue without compression.
///
/// The answer rules out context takeover in both directions, which a server may always do (RFC 7692 §7.1.1), so that no
/// connection keeps a window.
#[must_use]
pub fn negotiate<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<String> {
    values.into_iter().flat_map(|value| value.split(',')).find_map(accept_offer)
}

/// The answer to one offer; `None` declines it. Splitting at `,` and `;` is correct because no parameter of
/// permessage-deflate has a value that may contain them.
fn accept_offer(offer: &str) -> Option<String> {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next() != Some("permessage-deflate") {
        return None;
    }
    let mut seen = Vec::new();
    let mut response = "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
    for parameter in parts {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim(), Some(unquote(value.trim()))),
            None => (parameter, None),
        };
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
        match (name, value) {
            ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
            // A hint at what the client can do. Our inflater has the largest window there is.
            ("client_max_window_bits", None) => {}
            ("client_max_window_bits", Some(value)) => {
                window_bits(value)?;
            }
            ("server_max_window_bits", Some(value)) => {
                let bits = window_bits(value)?;
                if bits < WINDOW_BITS {
                    return None;
                }
                response.push_str("; server_max_window_bits=");
                response.push_str(value);
            }
            _ => return None,
        }
    }
    Some(response)
}

fn unquote(value: &str) -> &str {
    let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    inner.unwrap_or(value)
}

/// 8..=15 in decimal without leading zeros (RFC 7692 §7.1.2.1).
fn window_bits(value: &str) -> Option<u8> {
    match value {
        "8" => Some(8),
        "9" => Some(9),
        "10" => Some(10),
        "11" => Some(11),
        "12" => Some(12),
        "13" => Some(13),
        "14" => Some(14),
        "15" => Some(15),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_stored_head_and_a_compressed_body_inflate_to_the_whole_text(
            head in "[ -~é]{0,300}",
            body in "([a-f]{1,4}|\\PC){40,600}",
        ) {
            if let Some(block) = compress_block(body.as_bytes()) {
                prop_assert!(block.len() < body.len());
                let stored = stored_block_header(head.len());
                let payload = [&stored[..], head.as_bytes(), &block].concat();
                let whole = format!("{head}{body}").into_bytes();
                prop_assert_eq!(inflated(&payload, whole.len()), Ok(whole));
            }
        }

        #[test]
        fn random_bytes_inflate_or_fail_within_the_limit(
            payload in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            match inflated(&payload, 500) {
                Ok(text) => prop_assert!(text.len() <= 500),
                Err(violation) => prop_assert!(
                    matches!(violation, Violation::NotDeflate | Violation::TooBig)
                ),
            }
        }
    }

    fn inflated(payload: &[u8], max_bytes: usize) -> Result<Vec<u8>, Violation> {
        inflate(payload, max_bytes, &mut 0, <[u8]>::to_vec)
    }

    fn accepted(value: &str) -> Option<String> {
        negotiate([value])
    }

    const PLAIN_RESPONSE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn offers_of_the_common_clients_are_accepted() {
        let plain = Some(PLAIN_RESPONSE.to_owned());
        assert_eq!(accepted("permessage-deflate"), plain);
        assert_eq!(accepted("permessage-deflate; client_max_window_bits"), plain);
        let limited = Some(format!("{PLAIN_RESPONSE}; server_max_window_bits=12"));
        let python = "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12";
        assert_eq!(accepted(python), limited);
        let quoted = "permessage-deflate;server_max_window_bits=\"12\"";
        assert_eq!(accepted(quoted), limited);
    }

    #[test]
    fn an_offer_we_cannot_honour_falls_back_to_the_next_one() {
        assert_eq!(accepted("permessage-deflate; server_max_window_bits=9"), None);
        let two = "permessage-deflate; server_max_window_bits=9, permessage-deflate";
        assert_eq!(accepted(two), Some(PLAIN_RESPONSE.to_owned()));
        let headers = ["x-webkit-deflate-frame", "permessage-deflate"];
        assert_eq!(negotiate(headers), Some(PLAIN_RESPONSE.to_owned()));
    }

    #[test]
    fn malformed_offers_are_declined() {
        for offer in [
            "",
            "permessage-bzip2",
            "permessage-deflate; unknown",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=012",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        ] {
            assert_eq!(accepted(offer), None, "{offer}");
        }
    }

    #[test]
    fn the_example_messages_of_rfc_7692_section_7_2_3_inflate() {
        let hello = Ok(b"Hello".to_vec());
        // One fixed block; a stored block; a final block; two blocks.
        let cases: [&[u8]; 4] = [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ];
        for payload in cases {
            assert_eq!(inflated(payload, 5), hello, "{payload:02x?}");
            assert_eq!(inflated(payload, 4), Err(Violation::TooBig));
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit_and_the_thread_keeps_little() {
        let bomb = compress_block(&vec![b'a'; 50 << 20]).expect("shrinks");
        assert!(bomb.len() < 1 << 20);
        assert_eq!(inflated(&bomb, 1 << 20), Err(Violation::TooBig));
        let inflater = INFLATER.take().expect("put back");
        assert!(inflater.text.capacity() <= MAX_KEPT_BYTES);
        assert_eq!(inflated(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 5), Ok(b"Hello".into()));
    }

    /// `count` blocks of the bits `block` and the header of an empty stored one, which ends a message. The first bit of
    /// each byte is its lowest (RFC 1951 §3.1.1).
    fn repeated(block: &str, count: usize) -> Vec<u8> {
        let bits: Vec<bool> = (block.repeat(count) + "000").chars().map(|bit| bit == '1').collect();
        bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |value, bit| value << 1 | u8::from(*bit))).collect()
    }

    #[test]
    fn a_message_has_1_024_blocks_at_most_whatever_comes_out_of_them() {
        // Codes of its own for the end of the block and for one distance: 256 times no code, and two of one bit.
        let dynamic = format!("00100000000000111000000100{}1001111111111101011000", "0".repeat(42));
        let kinds = [
            ("fixed", "0100000000", ""),
            ("of one letter", "010100100010000000", "a"),
            ("final", "1100000000000000", ""),
            ("dynamic", &dynamic, ""),
        ];
        for (kind, block, text) in kinds {
            for count in [1, 7, MAX_BLOCKS as usize - 8] {
                let mut blocks = 0;
                let whole = inflate(&repeated(block, count), 5_000, &mut blocks, <[u8]>::to_vec);
                assert_eq!(whole, Ok(text.repeat(count).into_bytes()), "{count} {kind}");
                assert!((count as u64..count as u64 + 8).contains(&blocks), "{blocks} for {count} {kind}");
            }
            for count in [MAX_BLOCKS as usize + 1, 800_000] {
                let mut blocks = 0;
                let whole = inflate(&repeated(block, count), 1 << 20, &mut blocks, <[u8]>::to_vec);
                assert_eq!((whole, blocks), (Err(Violation::TooManyBlocks), MAX_BLOCKS + 1), "{count} {kind}");
            }
        }
    }

    #[test]
    fn a_payload_that_is_not_deflate_is_refused() {
        assert_eq!(inflated(&[0xff; 20], 100), Err(Violation::NotDeflate));
    }

    #[test]
    fn a_message_that_does_not_shrink_is_not_compressed() {
        assert_eq!(compress_block(&[b'a'; MIN_COMPRESS_BYTES - 1]), None);
        let mut state = 1u64;
        let noise: Vec<u8> = (0..500)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        assert_eq!(compress_block(&noise), None);
    }
}
