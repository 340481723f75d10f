//! What do the acts of `policy::cost::Act` cost?
//!
//! Prints a line for each: nanoseconds of this thread's CPU time, including the kernel's part, which is what the table
//! charges. Other load on the machine does not count. A charge may be up to twice what is measured but never half of
//! it: clients must not get work for less than it costs.

#[path = "../src/ws/testing.rs"]
#[allow(dead_code)]
mod testing;

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use mimalloc::MiMalloc;
use secp256k1::{Keypair, schnorr};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::thread_time;
use testing::masked_frame;
use weir::live::LiveIndex;
use weir::nostr::json::Parser;
use weir::nostr::{ClientMessage, Event, ParseOptions, VerifiedEvent};
use weir::policy::Act;
use weir::schnorr::{EngineChoice, Options, Verifier};
use weir::ws::frame::HeaderBytes;
use weir::ws::{Budget, Flow, Frame, Incoming, OpCode, OutboxOptions, Reader, ReaderOptions, Role, Writer, deflate};

mod support;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const MASK: [u8; 4] = [1, 2, 3, 4];
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Prints the cost of `work` per unit, next to the charge.
fn measure(name: &str, units: usize, charged: Act, mut work: impl FnMut()) {
    work();
    let mut rounds = 1_u32;
    let took = loop {
        let began = thread_time();
        (0..rounds).for_each(|_| work());
        let took = thread_time() - began;
        if took > Duration::from_millis(200) {
            break took / rounds;
        }
        rounds *= 2;
    };
    let ns = |total: f64| total / units as f64;
    println!("{name:<44} {:>12.2} ns; charged {:>12.2} ns", ns(took.as_nanos() as f64), ns(charged.ns() as f64));
}

fn reader(role: Role) -> Reader {
    Reader::new(ReaderOptions { max_message_bytes: MIB, deflate: true, role })
}

/// Reads `stream`, which unmasking overwrites.
fn read(role: Role, stream: &[u8]) {
    let mut reader = reader(role);
    for part in stream.to_vec().chunks_mut(64 * KIB) {
        reader
            .feed(part, |incoming| {
                if let Incoming::Text(text) = incoming {
                    black_box(text.len());
                }
                Flow::Continue
            })
            .expect("the stream is well formed");
    }
}

fn frames() {
    let mut pings = Vec::new();
    (0..10_000).for_each(|_| masked_frame(&mut pings, OpCode::Pong as u8, b"", MASK));
    measure("Frames: a header", 10_000, Act::Frames(10_000), || read(Role::Server, &pings));
    let mut text = Vec::new();
    masked_frame(&mut text, OpCode::Text as u8, "a note ".repeat(MIB / 8).as_bytes(), MASK);
    measure("Read: a byte unmasked and checked as UTF-8", text.len(), Act::Read(text.len()), || {
        read(Role::Server, &text);
    });
    let words: String = (0..MIB / 12).map(|n| format!("word {:<6} ", n % 997)).collect();
    for (name, plain) in [("spaces", " ".repeat(MIB - 1)), ("words", words)] {
        let packed = deflate::compress_block(plain.as_bytes()).expect("it shrinks");
        let mut stream = HeaderBytes::new(OpCode::Text, true, packed.len()).as_slice().to_vec();
        stream.extend(packed);
        measure(
            &format!("Inflated: a byte of {name}"),
            plain.len(),
            Act::Inflated { bytes: plain.len(), blocks: 4 },
            || {
                read(Role::Client, &stream);
            },
        );
    }
}

fn event(content: &str) -> Value {
    let keypair = Keypair::from_secret_bytes([0x11; 32]).expect("a valid key");
    let pubkey = hex(&keypair.x_only_public_key().0.to_byte_array());
    let id: [u8; 32] = Sha256::digest(json!([0, pubkey, 1, 1, [], content]).to_string()).into();
    let sig = hex(&schnorr::sign_no_aux_rand(&id, &keypair).to_byte_array());
    json!({"id": hex(&id), "pubkey": pubkey, "created_at": 1, "kind": 1, "tags": [], "content": content, "sig": sig})
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn messages() {
    let mut parser = Parser::default();
    let close = r#"["CLOSE","a"]"#.to_string();
    let note = json!(["EVENT", event(&"a note ".repeat(70))]).to_string();
    let large = json!(["EVENT", event(&"a note ".repeat(70_000))]).to_string();
    let spaces = format!(r#"["REQ","a",{{"limit":0{}}}]"#, " ".repeat(MIB));
    for (name, text) in [("CLOSE", close), ("a note", note), ("a large event", large), ("a REQ of spaces", spaces)] {
        measure(&format!("Message: {name} of {} bytes", text.len()), 1, Act::Message(text.len()), || {
            let parsed = ClientMessage::parse(&mut parser, text.as_bytes(), ParseOptions::default());
            black_box(parsed.is_ok());
        });
    }
    let author = |n: usize| hex(&Sha256::digest(n.to_string()));
    let filters: Vec<Value> =
        (0..100).map(|n| json!({"authors": (n * 100..n * 100 + 100).map(author).collect::<Vec<_>>()})).collect();
    let mut message = vec![json!("REQ"), json!("wide")];
    message.extend(filters);
    let text = Value::from(message).to_string();
    let parse = |parser: &mut Parser| match ClientMessage::parse(parser, text.as_bytes(), ParseOptions::default()) {
        Ok(ClientMessage::Req(_, filters)) => filters,
        other => panic!("{other:?}"),
    };
    measure("Message: the widest REQ, a value", 10_000, Act::Message(text.len()), || {
        black_box(parse(&mut parser).len());
    });
    let filters: Arc<[_]> = parse(&mut parser).into();
    let mut index = LiveIndex::new([1, 2]);
    measure("Filters: a value put in and taken out", 10_000, Act::Filters { filters: 100, items: 10_000 }, || {
        let handle = index.insert((), Arc::clone(&filters), 0);
        black_box(index.remove(handle));
    });
}

fn signatures() {
    let event = Event::parse(&mut Parser::default(), event("x").to_string().as_bytes()).expect("an event");
    let engine = Options { engine: EngineChoice::Libsecp256k1, key_cache: 0, ..Options::default() };
    let verifier = Verifier::new(engine);
    measure("Auth: a signature by libsecp256k1", 1, Act::Auth, || {
        black_box(VerifiedEvent::verify_one(&verifier, event.clone()).is_ok());
    });
}

fn sockets() {
    let (outbox, _writer) =
        Writer::with_outbox(OutboxOptions::default(), Arc::new(Budget::new(usize::MAX as u64)), None);
    measure("Ping: a pong queued", 1, Act::Ping, || {
        outbox.push_reply(Frame::control(OpCode::Pong, b"0123456789"));
    });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let mut client = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    let (mut server, _) = listener.accept().expect("a client");
    server.set_nodelay(true).expect("a TCP socket");
    let mut buffer = vec![0; 64 * KIB];
    for bytes in [100, 64 * KIB] {
        let mut both = |name: &str, act| {
            measure(&format!("{name} {bytes} bytes, and the peer's other half"), 1, act, || {
                server.write_all(&buffer.clone()[..bytes]).expect("the client is there");
                client.read_exact(&mut buffer[..bytes]).expect("it was written");
            });
        };
        both("Sent:", Act::Sent(bytes as u64));
        both("Read:", Act::Read(bytes));
    }
}

fn main() {
    frames();
    messages();
    signatures();
    sockets();
}
