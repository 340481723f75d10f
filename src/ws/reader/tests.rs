//! The reader against an oracle that sees the whole stream at once, however it is cut.

use proptest::prelude::*;
use tokio_tungstenite::tungstenite;

use super::*;
use crate::ws::deflate::encode_text_deflated;
use crate::ws::frame;
use crate::ws::fuzz::{self, own};
use crate::ws::oracle::{self, Rules, Seen, StreamEnd};
use crate::ws::testing::masked_frame;

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
const MAX_BYTES: usize = 1000;

fn options(deflate: bool) -> ReaderOptions {
    ReaderOptions { max_message_bytes: MAX_BYTES, deflate, role: Role::Server }
}

fn reader(deflate: bool) -> Reader {
    Reader::new(options(deflate))
}

/// Reads with the limit of these tests: see [`fuzz::read`].
fn read(stream: &[u8], deflate: bool, pieces: &[usize], pause: impl Fn(usize) -> bool) -> (Vec<Seen>, StreamEnd) {
    fuzz::read(stream, options(deflate), pieces, pause)
}

#[test]
fn a_message_in_parts_holds_no_more_memory_than_it_has_bytes() {
    let mut reader = Reader::new(ReaderOptions { max_message_bytes: 1 << 20, deflate: false, role: Role::Server });
    let mut frame = Vec::new();
    masked_frame(&mut frame, OpCode::Text as u8, &vec![b'a'; 1 << 20], MASK);
    let (last, rest) = frame.split_last().expect("a frame");
    let mut most = 0;
    for part in rest.chunks(60_000) {
        assert_eq!(reader.feed(&mut part.to_vec(), |_| unreachable!("not complete")), Ok(Fed::More));
        most = most.max(reader.held_bytes());
    }
    assert_eq!(most, frame.len());
    let mut whole = 0;
    let taken = reader.feed(&mut [*last], |incoming| {
        whole = if let Incoming::Text(text) = incoming { text.len() } else { 0 };
        Flow::Continue
    });
    assert_eq!((taken, whole, reader.held_bytes()), (Ok(Fed::More), 1 << 20, 0));
}

fn expected(stream: &[u8], deflate: bool) -> (Vec<Seen>, StreamEnd) {
    let rules = Rules { masked: true, deflate, max_message_bytes: MAX_BYTES };
    oracle::read(stream, &rules)
}

fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    masked_frame(&mut out, OpCode::Text as u8, payload, MASK);
    out[0] = first;
    out
}

/// A compressed payload without its header.
fn packed(text: &str) -> Vec<u8> {
    let mut whole = Vec::new();
    encode_text_deflated(&mut whole, text.as_bytes());
    assert_eq!(whole[0], 0xc1, "compressed");
    let header = Header::parse(&whole, Role::Client, true);
    whole.split_off(header.expect("legal").expect("whole").header_bytes)
}

/// A message cut into fragments, each followed by a ping.
fn fragmented(first: u8, payload: &[u8], parts: usize) -> Vec<u8> {
    let size = payload.len().div_ceil(parts).max(1);
    let mut out = raw(first & 0x7f, b"");
    for chunk in payload.chunks(size) {
        out.extend(raw(0x89, b"between"));
        out.extend(raw(0x00, chunk));
    }
    out.extend(raw(0x80, b""));
    out
}

fn legal() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "\\PC{0,200}".prop_map(|text| raw(0x81, text.as_bytes())),
        2 => ("[a-f0-9é]{0,300}", 1..5usize)
            .prop_map(|(text, parts)| fragmented(0x81, text.as_bytes(), parts)),
        2 => ("[a-f]{130,400}", 1..5usize)
            .prop_map(|(text, parts)| fragmented(0xc1, &packed(&text), parts)),
        2 => "[a-f]{130,400}".prop_map(|text| raw(0xc1, &packed(&text))),
        1 => prop::collection::vec(any::<u8>(), 0..126).prop_map(|payload| raw(0x89, &payload)),
        1 => prop::collection::vec(any::<u8>(), 0..126).prop_map(|payload| raw(0x8a, &payload)),
    ]
}

fn anything() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => legal(),
        1 => Just(raw(0x88, &[3, 232])),
        1 => prop::collection::vec(any::<u8>(), 0..5).prop_map(|payload| raw(0x88, &payload)),
        1 => (any::<u8>(), prop::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(first, payload)| raw(first, &payload)),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => Just(raw(0x81, &[b'x'; MAX_BYTES + 1])),
    ]
}

fn stream_of(part: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_stream_cut_anywhere_gives_what_the_oracle_sees(
        stream in stream_of(anything()),
        deflate: bool,
        pieces in prop::collection::vec(1..400usize, 1..8),
        pause_every in 1..4usize,
    ) {
        let expected = expected(&stream, deflate);
        prop_assert_eq!(&read(&stream, deflate, &[usize::MAX], |_| false), &expected);
        prop_assert_eq!(&read(&stream, deflate, &[1], |_| false), &expected);
        prop_assert_eq!(&read(&stream, deflate, &pieces, |_| false), &expected);
        let pause = |count: usize| count.is_multiple_of(pause_every);
        prop_assert_eq!(&read(&stream, deflate, &pieces, pause), &expected);
        prop_assert_eq!(&read(&stream, deflate, &[usize::MAX], pause), &expected);
    }

    #[test]
    fn random_bytes_never_panic_and_mean_the_same_in_any_pieces(
        stream in prop::collection::vec(any::<u8>(), 0..600),
        pieces in prop::collection::vec(1..50usize, 1..8),
    ) {
        let whole = read(&stream, true, &[usize::MAX], |_| false);
        prop_assert_eq!(read(&stream, true, &pieces, |_| false), whole);
    }
}

#[test]
fn a_stream_cut_at_every_single_place_gives_the_same_messages() {
    let text = "[\"REQ\",\"sub\",{\"kinds\":[1,1,1,1,1,1,1,1],\"limit\":100}]".repeat(4);
    let stream = [
        raw(0x81, b"first"),
        raw(0x81, &[b'y'; 200]),
        raw(0xc1, &packed(&text)),
        fragmented(0xc1, &packed(&text), 3),
        raw(0x8a, b""),
        raw(0x88, &[3, 233, b'b', b'y', b'e']),
        raw(0x81, b"never seen"),
    ]
    .concat();
    let expected = expected(&stream, true);
    assert_eq!(expected.1, StreamEnd::Closed);
    assert_eq!(expected.0.len(), 9);
    for cut in 1..stream.len() {
        let got = read(&stream, true, &[cut, usize::MAX], |_| false);
        assert_eq!(got, expected, "cut at {cut}");
    }
}

#[test]
fn a_header_is_refused_with_the_byte_that_proves_a_violation_however_it_arrives() {
    // Lengths beyond 63 bits, not minimal, and of a control frame; and reserved bits.
    let headers: [&[u8]; 4] =
        [&[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], &[0x81, 0xfe, 0, 125], &[0x89, 0xfe], &[0xf1, 0x80]];
    for header in headers {
        for piece in 1..=header.len() {
            let (seen, end) = read(header, false, &[piece], |_| false);
            assert_eq!((seen, end), (vec![], StreamEnd::Broken(1002)), "{header:02x?} in pieces of {piece}");
        }
    }
}

/// Keeps what is written to it.
#[derive(Default)]
struct Tape(Vec<u8>);

impl std::io::Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl std::io::Read for Tape {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::WouldBlock.into())
    }
}

#[test]
fn what_another_implementation_writes_reads_back_as_written() {
    use tungstenite::Message;
    use tungstenite::protocol::frame::coding::CloseCode;
    use tungstenite::protocol::{CloseFrame, Role, WebSocket};

    let texts = ["", "é", &"x".repeat(125), &"y".repeat(126), &"z".repeat(MAX_BYTES)];
    let mut client = WebSocket::from_raw_socket(Tape::default(), Role::Client, None);
    let mut expected = Vec::new();
    for text in texts {
        client.send(Message::text(text)).expect("a tape takes it");
        client.send(Message::Ping("p".into())).expect("a tape takes it");
        expected.extend([Seen::Text(text.to_owned()), Seen::Ping(b"p".to_vec())]);
    }
    let reason = CloseFrame { code: CloseCode::Away, reason: "done".into() };
    client.close(Some(reason)).expect("a tape takes it");
    expected.push(Seen::Close(Some(1001), "done".to_owned()));
    let stream = &client.get_ref().0;
    for piece in [1, 7, 100, usize::MAX] {
        let got = read(stream, false, &[piece], |_| false);
        assert_eq!(got, (expected.clone(), StreamEnd::Closed));
    }
}

#[test]
fn each_violation_closes_with_its_code_after_the_messages_before_it() {
    let fragment = |bytes: usize| raw(0x00, &vec![b'x'; bytes]);
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("rsv2", raw(0xa1, b"x"), 1002),
        ("rsv1 without deflate", raw(0xc1, b"x"), 1002),
        ("unmasked", vec![0x81, 1, b'x'], 1002),
        ("binary", raw(0x82, b"x"), 1003),
        ("not UTF-8", raw(0x81, &[0xff]), 1007),
        ("stray continuation", raw(0x80, b"x"), 1002),
        ("text inside a message", [raw(0x01, b"x"), raw(0x81, b"y")].concat(), 1002),
        ("too big", raw(0x81, &[b'x'; MAX_BYTES + 1]), 1009),
        ("too big over fragments", [raw(0x01, &[b'x'; 600]), fragment(400), fragment(1)].concat(), 1009),
        ("header alone is too big", vec![0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4], 1009),
        ("half a character at the end", [raw(0x01, b"x"), raw(0x80, &"é".as_bytes()[..1])].concat(), 1007),
    ];
    for (name, bad, code) in cases {
        let stream = [raw(0x81, b"before"), bad, raw(0x81, b"after")].concat();
        let expected = (vec![Seen::Text("before".to_owned())], StreamEnd::Broken(code));
        for piece in [1, usize::MAX] {
            let got = read(&stream, false, &[piece], |_| false);
            assert_eq!(got, expected, "{name}");
        }
    }
}

#[test]
fn a_compressed_message_is_held_to_the_limit_after_inflating() {
    let fits = "a".repeat(MAX_BYTES);
    let got = read(&raw(0xc1, &packed(&fits)), true, &[usize::MAX], |_| false);
    assert_eq!(got, (vec![Seen::Text(fits)], StreamEnd::Open));
    let over = "a".repeat(MAX_BYTES + 1);
    let got = read(&raw(0xc1, &packed(&over)), true, &[usize::MAX], |_| false);
    assert_eq!(got, (vec![], StreamEnd::Broken(1009)));
}

#[test]
fn a_character_cut_by_fragments_is_still_text() {
    let e = "é".as_bytes();
    let stream = [raw(0x01, &e[..1]), raw(0x80, &e[1..])].concat();
    let got = read(&stream, false, &[usize::MAX], |_| false);
    assert_eq!(got, (vec![Seen::Text("é".to_owned())], StreamEnd::Open));
}

#[test]
fn a_reader_owns_no_memory_between_messages() {
    let options = ReaderOptions { max_message_bytes: 1 << 20, deflate: false, role: Role::Server };
    let mut reader = Reader::new(options);
    let big = raw(0x81, &vec![b'x'; 1 << 20]);
    let mut seen = 0;
    for piece in big.chunks(64 << 10) {
        let fed = reader.feed(&mut piece.to_vec(), |_| {
            seen += 1;
            Flow::Continue
        });
        assert_eq!(fed, Ok(Fed::More));
        let arrived_at_most = big.len();
        assert!(reader.held_bytes() <= 2 * arrived_at_most);
    }
    assert_eq!((seen, reader.held_bytes()), (1, 0));
    assert!(size_of::<Reader>() <= 128);
}

#[test]
fn a_header_that_claims_much_reserves_nothing() {
    let mut reader = reader(false);
    let mut claim = raw(0x81, &[b'x'; MAX_BYTES]);
    claim.truncate(20);
    assert_eq!(reader.feed(&mut claim, |_| Flow::Continue), Ok(Fed::More));
    assert!(reader.held_bytes() < 100);
}

#[test]
fn a_pause_keeps_what_follows_and_a_stop_drops_it() {
    let stream = [raw(0x81, b"one"), raw(0x81, b"two"), raw(0x81, b"three")].concat();
    let mut reader = reader(false);
    let mut seen = Vec::new();
    let fed = reader.feed(&mut stream.clone(), |incoming| {
        seen.push(own(incoming));
        Flow::Pause
    });
    assert_eq!((fed, reader.is_paused()), (Ok(Fed::Paused), true));
    // Fed while paused: nothing is lost.
    assert_eq!(reader.feed(&mut raw(0x81, b"four"), |_| Flow::Continue), Ok(Fed::Paused));
    let fed = reader.resume(|incoming| {
        seen.push(own(incoming));
        if seen.len() == 3 { Flow::Stop } else { Flow::Continue }
    });
    assert_eq!((fed, reader.held_bytes()), (Ok(Fed::Ended), 0));
    let texts = ["one", "two", "three"].map(|text| Seen::Text(text.to_owned()));
    assert_eq!(seen, texts);
    assert_eq!(reader.feed(&mut raw(0x81, b"five"), |_| Flow::Continue), Ok(Fed::Ended));
}

#[test]
fn a_client_reads_what_a_server_writes() {
    let mut out = Vec::new();
    frame::encode_text(&mut out, b"hello");
    encode_text_deflated(&mut out, &[b'a'; 500]);
    frame::encode_close(&mut out, frame::CloseCode::Restart, "back soon");
    let mut reader = Reader::new(ReaderOptions { max_message_bytes: MAX_BYTES, deflate: true, role: Role::Client });
    let mut seen = Vec::new();
    let fed = reader.feed(&mut out, |incoming| {
        seen.push(own(incoming));
        Flow::Continue
    });
    let expected =
        [Seen::Text("hello".to_owned()), Seen::Text("a".repeat(500)), Seen::Close(Some(1012), "back soon".to_owned())];
    assert_eq!((fed, seen.as_slice()), (Ok(Fed::Ended), expected.as_slice()));
}
