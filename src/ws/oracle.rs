//! A second reader of the wire format, for tests: slow and simple, frame by frame over the whole byte stream. It shares
//! no code with what it checks.

use flate2::{Decompress, FlushDecompress};

/// What a byte stream means, message by message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Text(String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

/// How the stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// Everything is legal so far; a frame may be incomplete.
    Open,
    /// A close frame.
    Closed,
    /// Something illegal, with the close code for it.
    Broken(u16),
}

pub struct Rules {
    pub masked: bool,
    pub deflate: bool,
    pub max_message_bytes: usize,
}

/// One frame of the stream: its first byte, and the positions of its mask and payload.
struct FoundFrame {
    first: u8,
    mask_at: usize,
    payload_at: usize,
    len: u128,
}

/// The frame that begins at `at`; `Err` tells how the stream ends instead.
fn find(stream: &[u8], at: usize, rules: &Rules) -> Result<FoundFrame, StreamEnd> {
    let (first, second) = match stream[at..] {
        [a, b, ..] => (a, b),
        _ => return Err(StreamEnd::Open),
    };
    let (opcode, control) = (first & 15, first & 8 != 0);
    let rsv1_legal = rules.deflate && (opcode == 1 || opcode == 2);
    let short = second & 127;
    let illegal = ![0, 1, 2, 8, 9, 10].contains(&opcode)
        || first & 0x30 != 0
        || (first & 0x40 != 0 && !rsv1_legal)
        || (second & 128 != 0) != rules.masked
        || (control && (first & 128 == 0 || short > 125));
    if illegal {
        return Err(StreamEnd::Broken(1002));
    }
    let extra = [0, 2, 8][usize::from(short.saturating_sub(125))];
    let mask_at = at + 2 + extra;
    if stream.len() < mask_at {
        return Err(StreamEnd::Open);
    }
    let mut len = u128::from(short);
    if extra > 0 {
        let digits = &stream[at + 2..mask_at];
        len = digits.iter().fold(0, |len, &byte| len * 256 + u128::from(byte));
        if len < if extra == 2 { 126 } else { 65536 } || len >= 1 << 63 {
            return Err(StreamEnd::Broken(1002));
        }
    }
    let payload_at = mask_at + if rules.masked { 4 } else { 0 };
    if stream.len() < payload_at {
        return Err(StreamEnd::Open);
    }
    Ok(FoundFrame { first, mask_at, payload_at, len })
}

/// The messages of the stream. One inflater reads them all, like a client that keeps its window from message to
/// message.
pub fn read(stream: &[u8], rules: &Rules) -> (Vec<Seen>, StreamEnd) {
    let mut seen = Vec::new();
    let mut inflater = Decompress::new(false);
    let mut open: Option<(bool, Vec<u8>)> = None;
    let mut at = 0;
    loop {
        let frame = match find(stream, at, rules) {
            Ok(frame) => frame,
            Err(end) => return (seen, end),
        };
        let opcode = frame.first & 15;
        let before = open.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let too_big = before as u128 + frame.len > rules.max_message_bytes as u128;
        let out_of_place = (opcode == 1 && open.is_some()) || (opcode == 0 && open.is_none());
        match opcode {
            2 => return (seen, StreamEnd::Broken(1003)),
            0 | 1 if out_of_place => return (seen, StreamEnd::Broken(1002)),
            0 | 1 if too_big => return (seen, StreamEnd::Broken(1009)),
            _ => {}
        }
        if ((stream.len() - frame.payload_at) as u128) < frame.len {
            return (seen, StreamEnd::Open);
        }
        at = frame.payload_at + frame.len as usize;
        let mut payload = stream[frame.payload_at..at].to_vec();
        if rules.masked {
            for (i, byte) in payload.iter_mut().enumerate() {
                *byte ^= stream[frame.mask_at + i % 4];
            }
        }
        let meaning = match opcode {
            9 => Ok(Seen::Ping(payload)),
            10 => Ok(Seen::Pong(payload)),
            8 => close(&payload),
            _ => {
                let compressed = frame.first & 0x40 != 0;
                let (compressed, mut bytes) = open.take().unwrap_or((compressed, vec![]));
                bytes.extend(payload);
                if frame.first & 128 == 0 {
                    open = Some((compressed, bytes));
                    continue;
                }
                text(bytes, compressed.then_some(&mut inflater), rules.max_message_bytes)
            }
        };
        match meaning {
            Ok(meaning) => seen.push(meaning),
            Err(code) => return (seen, StreamEnd::Broken(code)),
        }
        if opcode == 8 {
            return (seen, StreamEnd::Closed);
        }
    }
}

fn text(bytes: Vec<u8>, packed: Option<&mut Decompress>, max: usize) -> Result<Seen, u16> {
    let bytes = match packed {
        Some(inflater) => inflate(inflater, &bytes, max)?,
        None => bytes,
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Seen::Text(text)),
        Err(_) => Err(1007),
    }
}

fn close(payload: &[u8]) -> Result<Seen, u16> {
    if payload.is_empty() {
        return Ok(Seen::Close(None, String::new()));
    }
    if payload.len() == 1 {
        return Err(1002);
    }
    let code = u16::from(payload[0]) * 256 + u16::from(payload[1]);
    let legal = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    if !legal.contains(&code) && !(3000..5000).contains(&code) {
        return Err(1002);
    }
    match String::from_utf8(payload[2..].to_vec()) {
        Ok(reason) => Ok(Seen::Close(Some(code), reason)),
        Err(_) => Err(1007),
    }
}

fn inflate(inflater: &mut Decompress, packed: &[u8], max: usize) -> Result<Vec<u8>, u16> {
    let mut input = packed.to_vec();
    input.extend([0, 0, 255, 255]);
    let mut text = Vec::with_capacity(max + 1);
    inflater.decompress_vec(&input, &mut text, FlushDecompress::Sync).map_err(|_| 1007u16)?;
    if text.len() > max {
        return Err(1009);
    }
    Ok(text)
}
