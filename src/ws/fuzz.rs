//! Fuzz targets of frames and of compressed messages.

use flate2::{Decompress, FlushDecompress, Status};

use super::deflate::{MAX_BLOCKS, compress_block, encode_text_deflated, inflate as inflate_message, negotiate};
use super::frame::{Role, Violation};
use super::oracle::{self, Rules, Seen, StreamEnd};
use super::reader::{Fed, Flow, Incoming, Reader, ReaderOptions};
use super::testing::masked_frame;
use crate::fuzz::Choices;

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// The limits of messages that inputs choose from.
const LIMITS: [usize; 4] = [16, 125, 1_000, 70_000];

fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    masked_frame(&mut out, 1, payload, MASK);
    out[0] = first;
    out
}

/// A compressed message as we write it, without its header.
fn packed(text: &str) -> Vec<u8> {
    compress_block(text.as_bytes()).expect("it shrinks")
}

pub(crate) fn frames_seeds() -> Vec<Vec<u8>> {
    let text = "[\"REQ\",\"sub\",{\"kinds\":[1,1,1,1,1,1,1,1],\"limit\":100}]".repeat(4);
    let parts = |first: u8, payload: &[u8]| {
        let (one, other) = payload.split_at(payload.len() / 2);
        [raw(first, one), raw(0x89, b"between"), raw(0, b""), raw(0x80, other)].concat()
    };
    let mut sent = Vec::new();
    encode_text_deflated(&mut sent, text.as_bytes());
    let streams = [
        [raw(0x81, b"[\"CLOSE\",\"sub\"]"), raw(0x8a, b""), raw(0x88, &[3, 232])].concat(),
        [raw(0x81, &[b'y'; 126]), parts(0x01, "é and é".as_bytes()), raw(0x88, b"\x03\xe9bye"), raw(0x81, b"x")]
            .concat(),
        [raw(0xc1, &packed(&text)), parts(0x41, &packed(&text))].concat(),
        [raw(0x82, b"binary"), raw(0x81, b"\xff")].concat(),
        sent,
        b"\x00\xff\xff\0\0\xff\0\0\0\0".to_vec(),
        b"\x81\x05plain\x8a\x00\x88\x02\x03\xe8".to_vec(),
    ];
    let settings = [[4, 7, 1], [4, 1, 2], [9, 50, 1], [8, 0, 3], [15, 3, 1], [9, 1, 0], [10, 2, 0]];
    streams.into_iter().zip(settings).map(|(stream, settings)| [&settings[..], &stream].concat()).collect()
}

pub(super) fn own(incoming: Incoming<'_>) -> Seen {
    match incoming {
        Incoming::Text(text) => Seen::Text(text.to_owned()),
        Incoming::Ping(payload) => Seen::Ping(payload.to_vec()),
        Incoming::Pong(payload) => Seen::Pong(payload.to_vec()),
        Incoming::Close(code, reason) => Seen::Close(code, reason.to_owned()),
    }
}

/// Feeds `stream` in pieces of the given lengths (cycled) and pauses after every message whose number `pause` accepts,
/// resuming at once.
pub(super) fn read(
    stream: &[u8],
    options: ReaderOptions,
    pieces: &[usize],
    pause: impl Fn(usize) -> bool,
) -> (Vec<Seen>, StreamEnd) {
    let mut reader = Reader::new(options);
    let mut seen = Vec::new();
    let mut sink = |incoming: Incoming<'_>| {
        seen.push(own(incoming));
        if pause(seen.len()) { Flow::Pause } else { Flow::Continue }
    };
    let mut rest = stream;
    let mut pieces = pieces.iter().cycle();
    let mut fed = Ok(Fed::More);
    while let (false, Ok(Fed::More)) = (rest.is_empty(), fed) {
        let (piece, later) = rest.split_at(*pieces.next().expect("cycled").min(&rest.len()));
        rest = later;
        fed = reader.feed(&mut piece.to_vec(), &mut sink);
        while fed == Ok(Fed::Paused) {
            fed = reader.resume(&mut sink);
        }
        // One message in parts, whose buffer doubles, and one frame or the piece after a pause.
        let bound = 3 * options.max_message_bytes + 2 * piece.len() + 256;
        assert!(reader.held_bytes() <= bound, "{} bytes are held", reader.held_bytes());
    }
    let end = match fed {
        Ok(Fed::More) => StreamEnd::Open,
        Ok(Fed::Ended) => StreamEnd::Closed,
        Ok(Fed::Paused) => unreachable!("resumed until it went on"),
        Err(violation) => StreamEnd::Broken(violation.close_code().into()),
    };
    if end != StreamEnd::Open {
        assert_eq!(reader.held_bytes(), 0, "an ended reader owns nothing");
    }
    (seen, end)
}

/// A stream means the same however it is cut and paused. Without compression it means what the oracle sees. No message
/// is longer than the limit, and what is held is bounded.
pub(crate) fn frames(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let settings = choices.byte();
    let (deflate, is_client) = (settings & 1 != 0, settings & 2 != 0);
    let max_message_bytes = LIMITS[usize::from(settings >> 2 & 3)];
    let (piece, pause_every) = (usize::from(choices.byte()).max(1), choices.below(4));
    let stream = choices.0;
    let role = if is_client { Role::Client } else { Role::Server };
    let options = ReaderOptions { max_message_bytes, deflate, role };
    let whole = read(stream, options, &[usize::MAX], |_| false);
    for seen in &whole.0 {
        assert!(if let Seen::Text(text) = seen { text.len() <= max_message_bytes } else { true });
    }
    let pause = |count: usize| pause_every > 0 && count.is_multiple_of(pause_every);
    assert_eq!(read(stream, options, &[piece, 1, 2 * piece], |_| false), whole, "in pieces of {piece}");
    assert_eq!(read(stream, options, &[piece], pause), whole, "in pieces of {piece}, paused");
    if !deflate {
        let rules = Rules { masked: !is_client, deflate, max_message_bytes };
        assert_eq!(oracle::read(stream, &rules), whole);
    }
}

pub(crate) fn inflate_seeds() -> Vec<Vec<u8>> {
    let text = "0123456789abcdef".repeat(40);
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    // A fixed block, a stored block, a final block with another message behind it, and a bomb.
    let payloads = [
        packed(&text),
        hello.to_vec(),
        vec![0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        [&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], &hello].concat(),
        packed(&"a".repeat(60_000)),
        b"permessage-deflate; client_max_window_bits, permessage-deflate; server_max_window_bits=12".to_vec(),
    ];
    payloads
        .into_iter()
        .zip([5_u16, 700, 40_000].into_iter().cycle())
        .map(|(payload, limit)| [&limit.to_le_bytes()[..], &payload].concat())
        .collect()
}

/// What the payload inflates to, up to one byte more than `limit`, in small steps with a stream for each final block.
fn inflated(payload: &[u8], limit: usize) -> Result<Vec<u8>, Violation> {
    let input = [payload, &[0, 0, 0xff, 0xff]].concat();
    let (mut stream, mut rest, mut text) = (Decompress::new(false), &input[..], Vec::new());
    loop {
        let (mut out, before) = ([0; 64], (stream.total_in(), stream.total_out()));
        let status = stream.decompress(rest, &mut out, FlushDecompress::None).map_err(|_| Violation::NotDeflate)?;
        let (used, made) = ((stream.total_in() - before.0) as usize, (stream.total_out() - before.1) as usize);
        text.extend_from_slice(&out[..made]);
        rest = &rest[used..];
        if text.len() > limit {
            return Err(Violation::TooBig);
        }
        if status == Status::StreamEnd {
            stream = Decompress::new(false);
        }
        if used == 0 && made == 0 {
            return if rest.is_empty() { Ok(text) } else { Err(Violation::NotDeflate) };
        }
    }
}

/// A payload inflates to what a second inflater makes of it, and never to more than the limit. What we compress
/// inflates to itself. An offer of compression is answered or declined.
pub(crate) fn inflate(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let limit = usize::from(choices.two_bytes());
    let payload = choices.0;
    let ours = inflate_message(payload, limit, &mut 0, <[u8]>::to_vec);
    match (inflated(payload, limit), &ours) {
        (Ok(_), Err(Violation::TooManyBlocks)) => assert!(payload.len() as u64 > MAX_BLOCKS),
        (Ok(expected), ours) => assert_eq!(*ours, Ok(expected)),
        // Which of the two is seen first depends on how much is inflated at a time.
        (Err(_), Err(Violation::TooBig | Violation::TooManyBlocks | Violation::NotDeflate)) => {}
        (Err(error), ours) => panic!("{error} became {ours:?}"),
    }
    assert_eq!(inflate_message(payload, limit, &mut 0, <[u8]>::to_vec), ours, "the second time");
    if let Some(block) = compress_block(payload) {
        assert!(block.len() < payload.len());
        assert_eq!(inflate_message(&block, payload.len(), &mut 0, <[u8]>::to_vec).as_deref(), Ok(payload));
    }
    if let Some(answer) = std::str::from_utf8(payload).ok().and_then(|offers| negotiate([offers])) {
        let plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        let window = answer.strip_prefix(plain).expect("it rules out context takeover");
        assert!(
            window.is_empty()
                || ["12", "13", "14", "15"]
                    .map(|bits| format!("; server_max_window_bits={bits}"))
                    .contains(&window.into())
        );
    }
}
