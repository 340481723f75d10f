//! The wire format of RFC 6455 §5: frame headers, the rules that a peer must follow, and encoding.
//!
//! It never keeps state between frames and never does I/O.

pub use fastwebsockets::{CloseCode, OpCode};

/// The longest payload of a ping, pong or close frame (RFC 6455 §5.5).
pub const MAX_CONTROL_BYTES: usize = 125;

/// The longest header we write: 2 bytes and a 64-bit length; a server never masks.
pub const MAX_HEADER_BYTES: usize = 2 + 8;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;

/// Which end of the connection we are. It decides which side must mask (RFC 6455 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We accept connections; every frame we read must be masked.
    Server,
    /// We opened the connection; no frame we read may be masked.
    Client,
}

/// How a peer broke the protocol or exceeded a limit. Always fatal for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A reserved bit that no extension gives a meaning (RFC 6455 §5.2).
    #[error("reserved bit set")]
    ReservedBit,
    /// A reserved opcode: 3–7 or 11–15.
    #[error("reserved opcode")]
    ReservedOpcode,
    /// A client frame without a mask (RFC 6455 §5.1).
    #[error("frame not masked")]
    Unmasked,
    /// A server frame with a mask (RFC 6455 §5.1).
    #[error("frame masked")]
    Masked,
    /// A fragmented control frame (RFC 6455 §5.5).
    #[error("fragmented control frame")]
    ControlFragmented,
    /// A control payload beyond [`MAX_CONTROL_BYTES`].
    #[error("control frame too long")]
    ControlTooLong,
    /// A length that fewer bytes could hold (RFC 6455 §5.2).
    #[error("length not minimally encoded")]
    LengthNotMinimal,
    /// A 64-bit length whose most significant bit is set (RFC 6455 §5.2).
    #[error("length beyond 63 bits")]
    LengthTooLong,
    /// A continuation frame outside of a message (RFC 6455 §5.4).
    #[error("continuation without a message")]
    StrayContinuation,
    /// A new data frame before the fragmented message ended (RFC 6455 §5.4).
    #[error("message begun inside another")]
    Interleaved,
    /// A close payload of one byte, or with a code that must not be sent (RFC 6455 §7.4).
    #[error("bad close frame")]
    BadClose,
    /// A binary message; Nostr is text only.
    #[error("binary messages are not accepted")]
    Binary,
    /// Text, or a close reason, that is not UTF-8 (RFC 6455 §8.1).
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A compressed message that cannot be inflated (RFC 7692 §7.2.2).
    #[error("compressed message is corrupt")]
    NotDeflate,
    /// A message that is longer than the limit, over all its fragments and after inflating.
    #[error("message too big")]
    TooBig,
    /// A compressed message of more blocks than [`MAX_BLOCKS`](super::deflate::MAX_BLOCKS).
    #[error("message compressed in too many blocks")]
    TooManyBlocks,
}

impl Violation {
    /// The close code that tells the peer what went wrong (RFC 6455 §7.4.1).
    #[must_use]
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::Binary => CloseCode::Unsupported,
            Self::NotUtf8 | Self::NotDeflate => CloseCode::Invalid,
            Self::TooBig | Self::TooManyBlocks => CloseCode::Size,
            _ => CloseCode::Protocol,
        }
    }
}

/// A parsed frame header.
///
/// | byte | bits | meaning |
/// |---|---|---|
/// | 0 | 7 / 6–4 / 3–0 | FIN / RSV1–3 / opcode |
/// | 1 | 7 / 6–0 | MASK / length, or 126: 16-bit length follows, 127: 64-bit length follows |
/// | then | | length in 0, 2 or 8 bytes, big-endian; mask in 4 bytes if MASK |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The last frame of its message.
    pub fin: bool,
    /// RSV1: the message is compressed (RFC 7692 §6); only on the first frame of a message.
    pub compressed: bool,
    /// What the payload is.
    pub opcode: OpCode,
    /// The masking key, if the payload is masked.
    pub mask: Option<[u8; 4]>,
    /// Bytes of this header on the wire, 2..=14.
    pub header_bytes: usize,
    /// Bytes of the payload, below 2^63.
    pub payload_bytes: u64,
}

impl Header {
    /// Reads the header at the start of `input`; `None` means more bytes are needed.
    ///
    /// `deflate` tells whether permessage-deflate was negotiated; only then is RSV1 allowed.
    ///
    /// # Errors
    /// A [`Violation`] as soon as the bytes prove one, even if the header is incomplete.
    #[inline]
    pub fn parse(input: &[u8], role: Role, deflate: bool) -> Result<Option<Self>, Violation> {
        let &[first, second, ref rest @ ..] = input else {
            return Ok(None);
        };
        let fin = first & FIN != 0;
        let opcode = OpCode::try_from(first & 0x0f).map_err(|_| Violation::ReservedOpcode)?;
        let data = matches!(opcode, OpCode::Text | OpCode::Binary);
        let allowed = if deflate && data { RSV1 } else { 0 };
        if first & 0x70 & !allowed != 0 {
            return Err(Violation::ReservedBit);
        }
        let masked = second & MASKED != 0;
        match (role, masked) {
            (Role::Server, false) => return Err(Violation::Unmasked),
            (Role::Client, true) => return Err(Violation::Masked),
            _ => {}
        }
        let short = second & 0x7f;
        if !data && opcode != OpCode::Continuation {
            check_control(fin, short)?;
        }
        let (length_bytes, payload_bytes) = match short {
            126 => match rest.first_chunk::<2>() {
                Some(&bytes) => (2, u64::from(u16::from_be_bytes(bytes))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(&bytes) => (8, u64::from_be_bytes(bytes)),
                None => return Ok(None),
            },
            _ => (0, u64::from(short)),
        };
        check_length(length_bytes, payload_bytes)?;
        let mask = match (masked, rest[length_bytes..].first_chunk::<4>()) {
            (false, _) => None,
            (true, Some(&key)) => Some(key),
            (true, None) => return Ok(None),
        };
        Ok(Some(Self {
            fin,
            compressed: first & RSV1 != 0,
            opcode,
            mask,
            header_bytes: 2 + length_bytes + if masked { 4 } else { 0 },
            payload_bytes,
        }))
    }

    /// The length of the header that starts with `input`, as far as `input` tells; at least 2.
    #[must_use]
    pub fn expected_bytes(input: &[u8]) -> usize {
        let Some(&second) = input.get(1) else {
            return 2;
        };
        let length = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if second & MASKED != 0 { 4 } else { 0 }
    }
}

fn check_control(fin: bool, short: u8) -> Result<(), Violation> {
    if !fin {
        return Err(Violation::ControlFragmented);
    }
    if usize::from(short) > MAX_CONTROL_BYTES {
        return Err(Violation::ControlTooLong);
    }
    Ok(())
}

fn check_length(length_bytes: usize, payload_bytes: u64) -> Result<(), Violation> {
    match length_bytes {
        2 if payload_bytes < 126 => Err(Violation::LengthNotMinimal),
        8 if payload_bytes <= u64::from(u16::MAX) => Err(Violation::LengthNotMinimal),
        8 if payload_bytes >> 63 != 0 => Err(Violation::LengthTooLong),
        _ => Ok(()),
    }
}

/// Removes or applies a mask that starts at the first byte of `payload` (RFC 6455 §5.3).
#[inline]
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    fastwebsockets::unmask(payload, mask);
}

/// An unmasked header of a final frame, built without allocating.
#[derive(Debug, Clone, Copy)]
pub struct HeaderBytes {
    bytes: [u8; MAX_HEADER_BYTES],
    len: u8,
}

impl HeaderBytes {
    /// The header of a whole message of `payload_bytes`; `compressed` sets RSV1.
    #[must_use]
    #[inline]
    pub fn new(opcode: OpCode, compressed: bool, payload_bytes: usize) -> Self {
        let mut bytes = [0; MAX_HEADER_BYTES];
        bytes[0] = FIN | if compressed { RSV1 } else { 0 } | opcode as u8;
        let len = match payload_bytes {
            0..=125 => {
                bytes[1] = payload_bytes as u8;
                2
            }
            126..=0xffff => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..10].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
                10
            }
        };
        Self { bytes, len }
    }

    /// The bytes on the wire: 2, 4 or 10.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Appends a whole text message. The caller guarantees that `payload` is UTF-8.
pub fn encode_text(out: &mut Vec<u8>, payload: &[u8]) {
    let header = HeaderBytes::new(OpCode::Text, false, payload.len());
    out.reserve(header.as_slice().len() + payload.len());
    out.extend_from_slice(header.as_slice());
    out.extend_from_slice(payload);
}

/// Appends a whole text message. `render` appends the payload to the same buffer, so that it is written only once. The
/// caller guarantees that the payload is UTF-8.
///
/// Leaves room for the 4-byte header of 126 to 65,535 bytes, which nearly every EVENT needs. Only shorter and longer
/// payloads are moved.
///
/// # Panics
/// If `render` shortens the buffer.
pub fn encode_text_with(out: &mut Vec<u8>, render: impl FnOnce(&mut Vec<u8>)) {
    const GUESS: usize = 4;
    let start = out.len();
    out.extend_from_slice(&[0; GUESS]);
    render(out);
    let payload_bytes = out.len().checked_sub(start + GUESS).expect("render only appends");
    let header = HeaderBytes::new(OpCode::Text, false, payload_bytes);
    let header = header.as_slice();
    let payload = start + GUESS..start + GUESS + payload_bytes;
    if header.len() > GUESS {
        out.resize(start + header.len() + payload_bytes, 0);
    }
    if header.len() != GUESS {
        out.copy_within(payload, start + header.len());
        out.truncate(start + header.len() + payload_bytes);
    }
    out[start..start + header.len()].copy_from_slice(header);
}

/// Where the message that byte `at` belongs to ends: the first end of a message at or after `at`. `frames` are whole
/// messages of one frame each, as this module writes them.
#[must_use]
pub fn message_end(frames: &[u8], at: usize) -> usize {
    let mut end = 0;
    while end < at {
        let header = Header::parse(&frames[end..], Role::Client, true);
        let header = header.ok().flatten().expect("whole frames that this module encoded");
        end += header.header_bytes + header.payload_bytes as usize;
    }
    end
}

/// Appends a close frame. `reason` is cut at a character boundary so that code and reason fit in
/// [`MAX_CONTROL_BYTES`]. For a code that must not be sent, the close frame has no payload.
pub fn encode_close(out: &mut Vec<u8>, code: CloseCode, reason: &str) {
    let code = u16::from(code);
    if !is_valid_close_code(code) {
        out.extend_from_slice(HeaderBytes::new(OpCode::Close, false, 0).as_slice());
        return;
    }
    let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL_BYTES - 2)];
    out.extend_from_slice(HeaderBytes::new(OpCode::Close, false, 2 + reason.len()).as_slice());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Whether a close frame may have this code: RFC 6455 §7.4.2 and the IANA registry up to 1014.
#[must_use]
pub fn is_valid_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Reads a close payload: the code, if there is one, and the reason.
///
/// # Errors
/// [`Violation::BadClose`] for a single byte or a forbidden code, [`Violation::NotUtf8`] for the reason.
pub fn parse_close(payload: &[u8]) -> Result<(Option<u16>, &str), Violation> {
    match payload {
        [] => Ok((None, "")),
        [_] => Err(Violation::BadClose),
        &[high, low, ref reason @ ..] => {
            let code = u16::from_be_bytes([high, low]);
            if !is_valid_close_code(code) {
                return Err(Violation::BadClose);
            }
            let reason = std::str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
            Ok((Some(code), reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::masked_frame;
    use super::*;

    fn server(input: &[u8]) -> Result<Option<Header>, Violation> {
        Header::parse(input, Role::Server, false)
    }

    #[test]
    fn every_length_class_parses_back_to_what_was_encoded() {
        for len in [0usize, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
            let mut out = Vec::new();
            masked_frame(&mut out, OpCode::Text as u8, &vec![b'x'; len], [1, 2, 3, 4]);
            let header = server(&out).expect("legal").expect("whole");
            let expected = Header {
                fin: true,
                compressed: false,
                opcode: OpCode::Text,
                mask: Some([1, 2, 3, 4]),
                header_bytes: out.len() - len,
                payload_bytes: len as u64,
            };
            assert_eq!(header, expected);
            assert_eq!(Header::expected_bytes(&out), header.header_bytes);
            for cut in 0..header.header_bytes {
                assert_eq!(server(&out[..cut]), Ok(None), "cut at {cut}");
            }
        }
    }

    #[test]
    fn each_header_rule_has_its_violation() {
        let long = |bytes: u64| {
            let mut frame = vec![0x81, 0xff];
            frame.extend_from_slice(&bytes.to_be_bytes());
            frame
        };
        let cases: Vec<(Vec<u8>, Violation)> = vec![
            (vec![0xc1, 0x80], Violation::ReservedBit),
            (vec![0xa1, 0x80], Violation::ReservedBit),
            (vec![0x91, 0x80], Violation::ReservedBit),
            (vec![0x83, 0x80], Violation::ReservedOpcode),
            (vec![0x8b, 0x80], Violation::ReservedOpcode),
            (vec![0x81, 0x05], Violation::Unmasked),
            (vec![0x09, 0x80], Violation::ControlFragmented),
            (vec![0x89, 0xfe], Violation::ControlTooLong),
            (vec![0x88, 0xff], Violation::ControlTooLong),
            (vec![0x81, 0xfe, 0, 125], Violation::LengthNotMinimal),
            (long(65_535), Violation::LengthNotMinimal),
            (long(1 << 63), Violation::LengthTooLong),
        ];
        for (input, violation) in cases {
            assert_eq!(server(&input), Err(violation), "{input:02x?}");
        }
        let masked = Header::parse(&[0x81, 0x80], Role::Client, false);
        assert_eq!(masked, Err(Violation::Masked));
    }

    #[test]
    fn rsv1_is_allowed_only_on_the_first_data_frame_of_a_deflated_connection() {
        let parse = |first: u8| Header::parse(&[first, 0x80, 0, 0, 0, 0], Role::Server, true);
        assert!(parse(0xc1).expect("text").expect("whole").compressed);
        assert_eq!(parse(0xc0), Err(Violation::ReservedBit));
        assert_eq!(parse(0xc9), Err(Violation::ReservedBit));
        assert_eq!(parse(0xe1), Err(Violation::ReservedBit));
    }

    #[test]
    fn text_rendered_in_place_equals_text_encoded_from_a_slice() {
        for len in [0usize, 125, 126, 65_535, 65_536] {
            let payload = vec![b'y'; len];
            let (mut copied, mut rendered) = (b"before".to_vec(), b"before".to_vec());
            encode_text(&mut copied, &payload);
            encode_text_with(&mut rendered, |out| out.extend_from_slice(&payload));
            assert_eq!(rendered, copied, "{len} bytes");
        }
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character_and_parses_back() {
        let mut out = Vec::new();
        encode_close(&mut out, CloseCode::Policy, &"é".repeat(100));
        assert_eq!(out[..4], [0x88, 124, 0x03, 0xf0]);
        let expected = Ok((Some(1008), "é".repeat(61)));
        let parsed = parse_close(&out[2..]).map(|(code, reason)| (code, reason.to_owned()));
        assert_eq!(parsed, expected);
        out.clear();
        encode_close(&mut out, CloseCode::Status, "never sent");
        assert_eq!(out, [0x88, 0]);
    }

    #[test]
    fn close_payloads_follow_rfc_6455_section_7_4() {
        assert_eq!(parse_close(&[]), Ok((None, "")));
        assert_eq!(parse_close(&[3]), Err(Violation::BadClose));
        for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
            let payload = code.to_be_bytes();
            assert_eq!(parse_close(&payload), Err(Violation::BadClose), "{code}");
        }
        for code in [1000u16, 1003, 1007, 1014, 3000, 4999] {
            let payload = code.to_be_bytes();
            assert_eq!(parse_close(&payload), Ok((Some(code), "")));
        }
        assert_eq!(parse_close(&[3, 232, 0xff]), Err(Violation::NotUtf8));
    }
}
