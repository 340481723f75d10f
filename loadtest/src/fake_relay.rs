//! A tiny relay for the tests: right by default, wrong in one chosen way.
//!
//! It must never share code with the checks it is there to test: it matches filters on parsed JSON.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// What the relay does wrong. Numbers: every how many it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// No OK for some events.
    DropOk(usize),
    /// Two OKs for some events.
    RepeatOk(usize),
    /// OK false for some events.
    Refuse(usize),
    /// Some live events are lost.
    DropDelivery(usize),
    /// Some live events come twice.
    RepeatDelivery(usize),
    /// Some live events carry other content under the same id.
    CorruptDelivery(usize),
    /// Live events go to everybody.
    DeliverToAll,
    /// No EOSE for some REQs.
    DropEose(usize),
    /// Two EOSEs for some REQs.
    RepeatEose(usize),
    /// CLOSED instead of an answer for some REQs.
    CloseRequest(usize),
    /// A stored row is missing in some answers.
    DropRow(usize),
    /// A stored row comes twice in some answers.
    RepeatRow(usize),
    /// Rows come oldest first.
    OldestFirst,
    /// `limit` is ignored.
    IgnoreLimit,
    /// The connection is cut after this many events.
    Hangup(usize),
}

struct Client {
    out: Sender<Vec<u8>>,
    subscriptions: HashMap<String, Vec<Value>>,
}

#[derive(Default)]
struct State {
    events: Vec<Value>,
    clients: HashMap<usize, Client>,
    counters: HashMap<&'static str, usize>,
}

impl State {
    /// True on every `every`-th call for this counter.
    fn due(&mut self, counter: &'static str, every: usize) -> bool {
        let count = self.counters.entry(counter).or_default();
        *count += 1;
        every > 0 && count.is_multiple_of(every)
    }
}

/// Starts a relay on a free port and returns its URL. It runs until the process ends.
pub fn start(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("ws://{}", listener.local_addr().expect("a bound socket"));
    let state = Arc::new(Mutex::new(State::default()));
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let state = state.clone();
            std::thread::spawn(move || serve(number, stream, &state, fault));
        }
    });
    url
}

fn serve(number: usize, mut stream: TcpStream, state: &Mutex<State>, fault: Fault) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0u8];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let (out, frames) = channel::<Vec<u8>>();
    // Without it every row would wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let Ok(mut writer) = stream.try_clone() else {
        return;
    };
    if writer.write_all(answer).is_err() {
        return;
    }
    std::thread::spawn(move || frames.into_iter().try_for_each(|frame| writer.write_all(&frame)));
    let client = Client { out, subscriptions: HashMap::new() };
    state.lock().expect("no test panics while holding it").clients.insert(number, client);
    while let Some(message) = read_message(&mut stream) {
        let mut state = state.lock().expect("no test panics while holding it");
        if !handle(number, &message, &mut state, fault) {
            break;
        }
    }
    state.lock().expect("no test panics while holding it").clients.remove(&number);
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

/// One masked, unfragmented frame; `None` at the end or for anything but text.
fn read_message(stream: &mut TcpStream) -> Option<Value> {
    let mut head = [0u8; 2];
    stream.read_exact(&mut head).ok()?;
    let len = match head[1] & 0x7F {
        126 => {
            let mut len = [0u8; 2];
            stream.read_exact(&mut len).ok()?;
            usize::from(u16::from_be_bytes(len))
        }
        127 => {
            let mut len = [0u8; 8];
            stream.read_exact(&mut len).ok()?;
            u64::from_be_bytes(len) as usize
        }
        len => usize::from(len),
    };
    let mut mask = [0u8; 4];
    stream.read_exact(&mut mask).ok()?;
    let mut payload = vec![0u8; len];
    stream.read_exact(&mut payload).ok()?;
    for (at, byte) in payload.iter_mut().enumerate() {
        *byte ^= mask[at % 4];
    }
    (head[0] == 0x81).then_some(())?;
    serde_json::from_slice(&payload).ok()
}

fn send(state: &State, client: usize, message: &Value) {
    let text = message.to_string();
    let mut frame = vec![0x81];
    match text.len() {
        len @ 0..=125 => frame.push(len as u8),
        len @ 126..=0xFFFF => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(text.as_bytes());
    if let Some(client) = state.clients.get(&client) {
        // The other end may be gone.
        let _ = client.out.send(frame);
    }
}

fn handle(number: usize, message: &Value, state: &mut State, fault: Fault) -> bool {
    match message[0].as_str() {
        Some("EVENT") => return publish(number, &message[1], state, fault),
        Some("REQ") => request(number, message, state, fault),
        Some("CLOSE") => {
            let sub = message[1].as_str().unwrap_or_default();
            if let Some(client) = state.clients.get_mut(&number) {
                client.subscriptions.remove(sub);
            }
        }
        _ => {}
    }
    true
}

fn publish(number: usize, event: &Value, state: &mut State, fault: Fault) -> bool {
    let known = state.events.iter().any(|stored| stored["id"] == event["id"]);
    match fault {
        Fault::Hangup(every) if state.due("event", every) => return false,
        Fault::Refuse(every) if state.due("event", every) => {
            send(state, number, &json!(["OK", event["id"], false, "blocked: no"]));
            return true;
        }
        _ => {}
    }
    if !known {
        state.events.push(event.clone());
        deliver(event, state, fault);
    }
    let text = if known { "duplicate: known" } else { "" };
    let copies = match fault {
        Fault::DropOk(every) if state.due("ok", every) => 0,
        Fault::RepeatOk(every) if state.due("ok", every) => 2,
        _ => 1,
    };
    (0..copies).for_each(|_| send(state, number, &json!(["OK", event["id"], true, text])));
    true
}

fn deliver(event: &Value, state: &mut State, fault: Fault) {
    let matching = |filters: &Vec<Value>| filters.iter().any(|filter| matches(filter, event));
    let mut targets = Vec::new();
    for (&client, subscriptions) in state.clients.iter().map(|(number, client)| (number, &client.subscriptions)) {
        let wanted = subscriptions.iter().filter(|(_, filters)| fault == Fault::DeliverToAll || matching(filters));
        targets.extend(wanted.map(|(sub, _)| (client, sub.clone())));
    }
    for (client, sub) in targets {
        let mut sent = event.clone();
        let copies = match fault {
            Fault::DropDelivery(every) if state.due("delivery", every) => 0,
            Fault::RepeatDelivery(every) if state.due("delivery", every) => 2,
            Fault::CorruptDelivery(every) if state.due("delivery", every) => {
                sent["content"] = json!("something else");
                1
            }
            _ => 1,
        };
        (0..copies).for_each(|_| send(state, client, &json!(["EVENT", sub, sent])));
    }
}

fn request(number: usize, message: &Value, state: &mut State, fault: Fault) {
    let sub = message[1].as_str().unwrap_or_default().to_string();
    let filters: Vec<Value> = message.as_array().into_iter().flatten().skip(2).cloned().collect();
    if let Fault::CloseRequest(every) = fault
        && state.due("req", every)
    {
        return send(state, number, &json!(["CLOSED", sub, "error: no"]));
    }
    let filter = &filters[0];
    let mut rows: Vec<Value> = state.events.iter().filter(|event| matches(filter, event)).cloned().collect();
    rows.sort_by_key(|event| {
        (std::cmp::Reverse(event["created_at"].as_u64()), event["id"].as_str().map(str::to_string))
    });
    if fault != Fault::IgnoreLimit {
        rows.truncate(filter["limit"].as_u64().map_or(usize::MAX, |limit| limit as usize));
    }
    match fault {
        Fault::OldestFirst => rows.reverse(),
        Fault::DropRow(every) if !rows.is_empty() && state.due("req", every) => drop(rows.pop()),
        Fault::RepeatRow(every) if !rows.is_empty() && state.due("req", every) => rows.insert(0, rows[0].clone()),
        _ => {}
    }
    rows.iter().for_each(|row| send(state, number, &json!(["EVENT", sub, row])));
    let eoses = match fault {
        Fault::DropEose(every) if state.due("req", every) => 0,
        Fault::RepeatEose(every) if state.due("req", every) => 2,
        _ => 1,
    };
    (0..eoses).for_each(|_| send(state, number, &json!(["EOSE", sub])));
    if let Some(client) = state.clients.get_mut(&number) {
        client.subscriptions.insert(sub, filters);
    }
}

fn matches(filter: &Value, event: &Value) -> bool {
    let Some(filter) = filter.as_object() else {
        return false;
    };
    filter.iter().all(|(key, wanted)| {
        let any = |value: &Value| wanted.as_array().into_iter().flatten().any(|entry| entry == value);
        match key.as_str() {
            "ids" => any(&event["id"]),
            "authors" => any(&event["pubkey"]),
            "kinds" => any(&event["kind"]),
            "since" => event["created_at"].as_u64() >= wanted.as_u64(),
            "until" => event["created_at"].as_u64() <= wanted.as_u64(),
            "limit" => true,
            tag => event["tags"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|entry| entry[0].as_str() == tag.strip_prefix('#') && any(&entry[1])),
        }
    })
}
