//! RFC 6455 frames as a client writes and reads them.
//!
//! It must never accept anything the RFC forbids a server to send: a masked frame, an RSV bit that no extension gave a
//! meaning, a fragmented control frame. A relay that does so is reported, not tolerated.

use super::deflate::Inflater;

/// Frame opcodes (RFC 6455 §5.2).
pub mod opcode {
    /// Continuation of a fragmented message.
    pub const CONTINUATION: u8 = 0;
    /// Text message.
    pub const TEXT: u8 = 1;
    /// Binary message.
    pub const BINARY: u8 = 2;
    /// Connection close.
    pub const CLOSE: u8 = 8;
    /// Ping.
    pub const PING: u8 = 9;
    /// Pong.
    pub const PONG: u8 = 10;
}

/// Marks a compressed message in the first byte of its first frame, beside the opcode (RFC 7692 §6).
pub const RSV1: u8 = 0x40;

/// The masking key of every frame. RFC 6455 §5.3 wants it unpredictable to protect proxies, which do not exist here; it
/// is not zero, so that the relay has the same work as with any client.
pub const MASK: [u8; 4] = [0x5A, 0xC3, 0x96, 0x1F];

/// The longest message that is read, in bytes; a relay that sends more is at fault.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Appends one unfragmented, masked frame; `opcode` may carry [`RSV1`].
pub fn encode(opcode: u8, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask);
}

/// XORs `bytes` with the repeated mask (RFC 6455 §5.3).
pub fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0u8; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// A frame at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Last fragment of its message.
    pub fin: bool,
    /// First frame of a compressed message.
    pub compressed: bool,
    /// See [`opcode`].
    pub opcode: u8,
    /// Where the payload starts.
    pub payload_at: usize,
    /// Its length in bytes.
    pub payload_len: usize,
}

/// Reads the head of the frame that starts at `bytes[0]`; `None` if it is not complete yet.
///
/// # Errors
/// What RFC 6455 forbids, in words.
pub fn head(bytes: &[u8]) -> Result<Option<Head>, &'static str> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    if first & 0x30 != 0 {
        return Err("a reserved bit is set though no extension was negotiated");
    }
    let compressed = first & RSV1 != 0;
    if second & 0x80 != 0 {
        return Err("a frame from the server is masked");
    }
    let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
    if opcode >= 8 && (!fin || second > 125 || compressed) {
        return Err("a control frame is fragmented, compressed or longer than 125 bytes");
    }
    let (payload_at, payload_len) = match second {
        126 => match rest {
            &[a, b, ..] => (4, usize::from(u16::from_be_bytes([a, b]))),
            _ => return Ok(None),
        },
        127 => match rest {
            &[a, b, c, d, e, f, g, h, ..] => (10, u64::from_be_bytes([a, b, c, d, e, f, g, h]) as usize),
            _ => return Ok(None),
        },
        len => (2, usize::from(len)),
    };
    if payload_len > MAX_MESSAGE_BYTES {
        return Err("a frame is longer than 64 MiB");
    }
    Ok(Some(Head { fin, compressed, opcode, payload_at, payload_len }))
}

/// Puts fragments together and hands out whole messages; keeps no memory between messages.
#[derive(Default, Debug)]
pub struct Assembler {
    /// Bytes of a frame that is not complete.
    partial: Vec<u8>,
    /// The fragments so far.
    message: Option<Fragments>,
    /// Reads compressed messages, if permessage-deflate was negotiated.
    inflater: Option<Inflater>,
}

/// A message that is not complete.
#[derive(Debug)]
struct Fragments {
    opcode: u8,
    compressed: bool,
    payload: Vec<u8>,
}

impl Assembler {
    /// Reads messages that are compressed if there is an inflater.
    pub fn new(inflater: Option<Inflater>) -> Self {
        Self { inflater, ..Self::default() }
    }

    /// Takes the bytes of one read and calls `sink(opcode, payload)` for every message or control frame it completes.
    ///
    /// # Errors
    /// What RFC 6455 forbids, in words; the connection is then unusable.
    pub fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(u8, &[u8])) -> Result<(), &'static str> {
        if self.partial.is_empty() {
            let used = self.frames(bytes, &mut sink)?;
            self.partial.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(bytes);
        // Parsing again on every read would be quadratic for a large frame: wait until it is there.
        if head(&joined)?.is_some_and(|head| joined.len() < head.payload_at + head.payload_len) {
            self.partial = joined;
            return Ok(());
        }
        let used = self.frames(&joined, &mut sink)?;
        if used < joined.len() {
            joined.drain(..used);
            self.partial = joined;
        }
        Ok(())
    }

    fn frames(&mut self, bytes: &[u8], sink: &mut impl FnMut(u8, &[u8])) -> Result<usize, &'static str> {
        let mut used = 0;
        while let Some(frame) = head(&bytes[used..])? {
            let start = used + frame.payload_at;
            let Some(payload) = bytes.get(start..start + frame.payload_len) else {
                break;
            };
            self.frame(frame, payload, sink)?;
            used = start + frame.payload_len;
        }
        Ok(used)
    }

    fn frame(&mut self, frame: Head, payload: &[u8], sink: &mut impl FnMut(u8, &[u8])) -> Result<(), &'static str> {
        if frame.compressed && (self.inflater.is_none() || frame.opcode == opcode::CONTINUATION) {
            return Err("a frame is marked as compressed and must not be");
        }
        match (frame.opcode, &mut self.message) {
            (opcode::CLOSE | opcode::PING | opcode::PONG, _) => sink(frame.opcode, payload),
            (opcode::TEXT | opcode::BINARY, None) if frame.fin => {
                return self.whole(frame.opcode, frame.compressed, payload, sink);
            }
            (opcode::TEXT | opcode::BINARY, None) => {
                let Head { opcode, compressed, .. } = frame;
                self.message = Some(Fragments { opcode, compressed, payload: payload.to_vec() });
            }
            (opcode::CONTINUATION, Some(message)) => {
                message.payload.extend_from_slice(payload);
                if message.payload.len() > MAX_MESSAGE_BYTES {
                    return Err("a message is longer than 64 MiB");
                }
                if frame.fin {
                    let message = self.message.take().expect("matched above");
                    return self.whole(message.opcode, message.compressed, &message.payload, sink);
                }
            }
            (opcode::CONTINUATION, None) => return Err("a continuation without a first fragment"),
            (opcode::TEXT | opcode::BINARY, Some(_)) => {
                return Err("a new message inside a fragmented one");
            }
            _ => return Err("an unknown opcode"),
        }
        Ok(())
    }

    /// Hands out a whole message.
    fn whole(
        &mut self,
        opcode: u8,
        compressed: bool,
        payload: &[u8],
        sink: &mut impl FnMut(u8, &[u8]),
    ) -> Result<(), &'static str> {
        match self.inflater.as_mut().filter(|_| compressed) {
            Some(inflater) => sink(opcode, &inflater.message(payload, MAX_MESSAGE_BYTES)?),
            None => sink(opcode, payload),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![if fin { 0x80 } else { 0 } | opcode];
        match payload.len() {
            len @ 0..=125 => out.push(len as u8),
            len @ 126..=0xFFFF => {
                out.push(126);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                out.push(127);
                out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(payload);
        out
    }

    fn messages(chunks: &[&[u8]]) -> Result<Vec<(u8, Vec<u8>)>, &'static str> {
        let mut assembler = Assembler::default();
        let mut seen = Vec::new();
        for chunk in chunks {
            assembler.push(chunk, |opcode, payload| seen.push((opcode, payload.to_vec())))?;
        }
        Ok(seen)
    }

    #[test]
    fn the_example_of_rfc_6455_is_encoded_byte_for_byte() {
        let mut out = Vec::new();
        encode(opcode::TEXT, b"Hello", [0x37, 0xfa, 0x21, 0x3d], &mut out);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn the_three_length_forms_are_chosen_by_size() {
        for (len, head) in [(125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let mut out = Vec::new();
            encode(opcode::TEXT, &vec![b'x'; len], [1, 2, 3, 4], &mut out);
            assert_eq!(out.len(), head + 4 + len);
            apply_mask(&mut out[head + 4..], [1, 2, 3, 4]);
            assert!(out[head + 4..].iter().all(|&byte| byte == b'x'));
        }
    }

    #[test]
    fn messages_are_the_same_however_the_bytes_are_cut() {
        let mut bytes = server(true, opcode::TEXT, b"one");
        bytes.extend(server(false, opcode::TEXT, b"tw"));
        bytes.extend(server(true, opcode::PING, b"p"));
        bytes.extend(server(true, opcode::CONTINUATION, b"o"));
        bytes.extend(server(true, opcode::TEXT, &vec![b'x'; 70_000]));
        let expected = vec![
            (opcode::TEXT, b"one".to_vec()),
            (opcode::PING, b"p".to_vec()),
            (opcode::TEXT, b"two".to_vec()),
            (opcode::TEXT, vec![b'x'; 70_000]),
        ];
        for cut in [1, 2, 3, 7, 1000, 80_000] {
            let chunks: Vec<&[u8]> = bytes.chunks(cut).collect();
            assert_eq!(messages(&chunks), Ok(expected.clone()), "cut {cut}");
        }
    }

    #[test]
    fn frames_that_a_server_must_not_send_are_errors() {
        assert!(messages(&[&[0xC1, 0]]).is_err(), "RSV1");
        assert!(messages(&[&[0x81, 0x80]]).is_err(), "masked");
        assert!(messages(&[&[0x09, 0]]).is_err(), "fragmented ping");
        assert!(messages(&[&[0x80, 0]]).is_err(), "continuation without a start");
    }

    #[test]
    fn a_compressed_message_is_read_whole_or_in_fragments_where_it_was_negotiated() {
        let text = "[\"EOSE\",\"a subscription\"]".repeat(20);
        let payload = crate::wire::deflate::deflate(text.as_bytes());
        let (first, second) = payload.split_at(payload.len() / 2);
        let mut bytes = server(true, opcode::TEXT | RSV1, &payload);
        bytes.extend(server(false, opcode::TEXT | RSV1, first));
        bytes.extend(server(true, opcode::CONTINUATION, second));
        bytes.extend(server(true, opcode::TEXT, b"plain"));
        let inflater = crate::wire::deflate::agree("permessage-deflate; server_no_context_takeover");
        let mut assembler = Assembler::new(inflater.expect("an answer"));
        let mut seen = Vec::new();
        assembler.push(&bytes, |_, payload| seen.push(payload.to_vec())).expect("well formed");
        assert_eq!(seen, [text.as_bytes(), text.as_bytes(), b"plain"]);
        assert!(assembler.push(&server(true, opcode::PING | RSV1, b""), |_, _| ()).is_err());
        assert!(messages(&[&server(true, opcode::TEXT | RSV1, &payload)]).is_err(), "not negotiated");
    }
}
