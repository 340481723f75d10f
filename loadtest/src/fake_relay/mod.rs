//! A tiny relay for the tests: right by default, wrong or unusual in one chosen way.
//!
//! It must never share code with the checks it is there to test: it matches filters on parsed JSON.

use std::collections::{HashMap, HashSet};
pub mod alone;
mod frame;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::{Compress, Compression};
use serde_json::{Value, json};

use frame::{frame, read_message};

/// What the relay does otherwise than usual. Numbers: every how many it happens.
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
    /// A connection is cut when more events than this are waiting on it.
    Crowded(usize),
    /// After this many events nothing works any more, as if the process had died.
    Die(usize),
    /// Every event gets its OK, and none is stored.
    StoreNothing,
    /// Events can be read only after the next REQ, as if their transaction were still being written: right.
    Late,
    /// Some answers are one row with a zero signature.
    ForgeAnswer(usize),
    /// All rows are written otherwise than they came, and the content of some is wrong.
    CorruptRow(usize),
    /// Duplicates get the OK of a new event.
    DuplicateAsNew,
    /// Memory grows with each event and is kept.
    Hoard,
    /// Each message is a write without `TCP_NODELAY`, so EOSE waits for the acknowledgement of the row before it.
    Pieces,
    /// The upgrade is answered with the accept value of another key.
    WrongAccept,
    /// An older version of a replaceable event gets OK false: right, though not all relays say so.
    RefuseOlder,
    /// Of a replaceable event only the newest version is kept, and every version gets OK true: right.
    Replace,
    /// AUTH comes first, as NIP-42 allows: right.
    Greet,
    /// Some events are refused with `restricted:`.
    Restrict(usize),
    /// Everything NIP-01 leaves open is done otherwise than usual: right.
    Loose,
    /// permessage-deflate is accepted, and its window kept from message to message: right.
    Deflate,
    /// Nothing works before AUTH (NIP-42): right.
    Authenticate,
    /// Events stay in memory; only of a relay that is its own process.
    Forget,
}

/// Bytes that [`Fault::Hoard`] keeps for each event.
const HOARD_BYTES: usize = 1 << 20;

struct Client {
    stream: TcpStream,
    out: Sender<Value>,
    is_authenticated: bool,
    subscriptions: HashMap<String, Vec<Value>>,
}

#[derive(Default)]
struct State {
    events: Vec<Value>,
    /// Events that [`Fault::Late`] and [`Fault::Loose`] do not show yet.
    unwritten: Vec<Value>,
    clients: HashMap<usize, Client>,
    counters: HashMap<&'static str, usize>,
    hoard: Vec<Vec<u8>>,
    is_dead: bool,
    /// Where each event is written before its OK, one a line.
    file: Option<File>,
    /// The information document (NIP-11); its `max_limit` is kept.
    document: Option<Value>,
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
    start_with(fault, None)
}

/// The same with an information document (NIP-11).
pub fn start_with(fault: Fault, document: Option<Value>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("ws://{}", listener.local_addr().expect("a bound socket"));
    std::thread::spawn(move || listen(&listener, State { document, ..State::default() }, fault));
    url
}

fn listen(listener: &TcpListener, state: State, fault: Fault) {
    let state = Arc::new(Mutex::new(state));
    for (number, stream) in listener.incoming().flatten().enumerate() {
        let state = state.clone();
        std::thread::spawn(move || serve(number, stream, &state, fault));
    }
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
    let original = String::from_utf8_lossy(&head).into_owned();
    let head = original.to_lowercase();
    let (is_dead, document) = {
        let state = state.lock().expect("no test panics while holding it");
        (state.is_dead, state.document.clone())
    };
    if is_dead {
        return;
    }
    if !head.contains("upgrade: websocket") {
        return inform(stream, document);
    }
    let answer = upgrade(&original, fault);
    let (out, messages) = channel::<Value>();
    let mut deflate = answer.contains("permessage-deflate").then(|| Compress::new(Compression::best(), false));
    // Without it every row would wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(fault != Fault::Pieces);
    let (Ok(mut writer), Ok(own)) = (stream.try_clone(), stream.try_clone()) else {
        return;
    };
    if writer.write_all(answer.as_bytes()).is_err() {
        return;
    }
    std::thread::spawn(move || {
        messages.into_iter().try_for_each(|message| writer.write_all(&frame(&message, deflate.as_mut())))
    });
    let is_authenticated = fault != Fault::Authenticate;
    if fault == Fault::Greet || !is_authenticated {
        // The connection may be gone.
        let _ = out.send(json!(["AUTH", "a challenge"]));
    }
    let client = Client { stream: own, out, is_authenticated, subscriptions: HashMap::new() };
    state.lock().expect("no test panics while holding it").clients.insert(number, client);
    while let Some(messages) = read_messages(&mut stream, fault) {
        let mut state = state.lock().expect("no test panics while holding it");
        if !messages.iter().all(|message| handle(number, message, &mut state, fault)) {
            break;
        }
    }
    state.lock().expect("no test panics while holding it").clients.remove(&number);
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

/// The next message; with [`Fault::Crowded`] all that have come, or nothing if they are too many.
fn read_messages(stream: &mut TcpStream, fault: Fault) -> Option<Vec<Value>> {
    let mut messages = vec![read_message(stream)?];
    let Fault::Crowded(most) = fault else { return Some(messages) };
    while has_more(stream) {
        messages.push(read_message(stream)?);
    }
    let events = messages.iter().filter(|message| message[0] == "EVENT").count();
    (events <= most).then_some(messages)
}

/// Whether something has come that is not read yet.
fn has_more(stream: &TcpStream) -> bool {
    // The writer has the same socket, so it must stay a blocking one.
    let wait_at_most = |time| stream.set_read_timeout(time).expect("an open socket");
    wait_at_most(Some(Duration::from_millis(1)));
    let peeked = stream.peek(&mut [0]);
    wait_at_most(None);
    peeked.is_ok_and(|len| len > 0)
}

/// The answer to an upgrade.
fn upgrade(head: &str, fault: Fault) -> String {
    let line = head.lines().find(|line| line.to_lowercase().starts_with("sec-websocket-key:"));
    let key = line.and_then(|line| line.split_once(':')).map_or("", |(_, key)| key.trim());
    let key = if fault == Fault::WrongAccept { "another" } else { key };
    let extensions = head.to_lowercase().contains("sec-websocket-extensions: permessage-deflate");
    let extensions =
        if fault == Fault::Deflate && extensions { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{extensions}\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// The answer to any other request.
fn inform(mut stream: TcpStream, document: Option<Value>) {
    let (status, body) = match document {
        Some(document) => ("200 OK", document.to_string()),
        None => ("404 Not Found", String::new()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // The other end may be gone.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

fn send(state: &State, client: usize, message: &Value) {
    if let Some(client) = state.clients.get(&client) {
        // The other end may be gone.
        let _ = client.out.send(message.clone());
    }
}

fn handle(number: usize, message: &Value, state: &mut State, fault: Fault) -> bool {
    if !state.clients.get(&number).is_some_and(|client| client.is_authenticated) {
        return authenticate(number, message, state);
    }
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

/// Handles a message of a client that is not authenticated.
fn authenticate(number: usize, message: &Value, state: &mut State) -> bool {
    let event = &message[1];
    let is_answer = message[0] == "AUTH" && event["kind"] == 22242 && event["tags"][1][1] == "a challenge";
    if let Some(client) = state.clients.get_mut(&number) {
        client.is_authenticated = is_answer;
    }
    match message[0].as_str() {
        Some("REQ") => send(state, number, &json!(["CLOSED", event, "auth-required: who are you"])),
        _ => send(state, number, &json!(["OK", event["id"], is_answer, "auth-required: who are you"])),
    }
    true
}

fn publish(number: usize, event: &Value, state: &mut State, fault: Fault) -> bool {
    let known = state.events.iter().chain(&state.unwritten).any(|stored| stored["id"] == event["id"]);
    let refusal = match fault {
        Fault::Hangup(every) if state.due("event", every) => return false,
        Fault::Die(after) if state.due("event", after) || state.is_dead => {
            state.is_dead = true;
            for client in state.clients.values() {
                // It may be gone already.
                let _ = client.stream.shutdown(std::net::Shutdown::Both);
            }
            return false;
        }
        Fault::Refuse(every) if state.due("event", every) => Some("blocked: no"),
        Fault::Restrict(every) if state.due("event", every) => Some("restricted: members only"),
        Fault::RefuseOlder if is_older(event, state) => Some("invalid: a newer version is stored"),
        _ => None,
    };
    if let Some(text) = refusal {
        send(state, number, &json!(["OK", event["id"], false, text]));
        return true;
    }
    if !known {
        match fault {
            Fault::StoreNothing => {}
            Fault::Replace if is_older(event, state) => {}
            Fault::Late | Fault::Loose => state.unwritten.push(event.clone()),
            _ => state.events.push(event.clone()),
        }
        if let Some(file) = state.file.as_mut().filter(|_| fault != Fault::Forget) {
            file.write_all(format!("{event}\n").as_bytes()).expect("the file takes an event");
        }
        if fault == Fault::Hoard {
            state.hoard.push(vec![1; HOARD_BYTES]);
        }
        deliver(event, state, fault);
    }
    let as_new = !known || fault == Fault::DuplicateAsNew || fault == Fault::Loose;
    let text = if as_new { "" } else { "duplicate: known" };
    let copies = match fault {
        Fault::DropOk(every) if state.due("ok", every) => 0,
        Fault::RepeatOk(every) if state.due("ok", every) => 2,
        _ => 1,
    };
    (0..copies).for_each(|_| send(state, number, &json!(["OK", event["id"], true, text])));
    true
}

/// Whether a newer version of a replaceable event is stored.
fn is_older(event: &Value, state: &State) -> bool {
    matches!(event["kind"].as_u64(), Some(0 | 3 | 10_000..=19_999))
        && state.events.iter().any(|stored| {
            stored["kind"] == event["kind"]
                && stored["pubkey"] == event["pubkey"]
                && stored["created_at"].as_u64() > event["created_at"].as_u64()
        })
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
    let mut rows = rows(&filters[0], state, fault);
    state.events.append(&mut state.unwritten);
    match fault {
        Fault::DropRow(every) if !rows.is_empty() && state.due("req", every) => drop(rows.pop()),
        Fault::RepeatRow(every) if !rows.is_empty() && state.due("req", every) => rows.insert(0, rows[0].clone()),
        Fault::ForgeAnswer(every) if !rows.is_empty() && state.due("req", every) => {
            rows.truncate(1);
            rows[0]["id"] = json!("ab".repeat(32));
            rows[0]["sig"] = json!("0".repeat(128));
        }
        Fault::CorruptRow(every) => {
            for row in &mut rows {
                if state.due("row", every) {
                    row["content"] = json!("something else");
                }
            }
        }
        _ => {}
    }
    rows.iter().for_each(|row| send(state, number, &json!(["EVENT", sub, row])));
    if fault == Fault::Loose && filters.iter().all(|filter| filter["ids"].is_array()) {
        // Nothing more can come, so the subscription ends with its answer.
        return send(state, number, &json!(["CLOSED", sub, ""]));
    }
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

/// The stored rows of a filter.
fn rows(filter: &Value, state: &State, fault: Fault) -> Vec<Value> {
    let listed = |list: &Value| list.as_array().map(|ids| ids.iter().cloned().collect::<HashSet<Value>>());
    let ids = listed(&filter["ids"]);
    let is_listed = |event: &Value| ids.as_ref().is_none_or(|ids| ids.contains(&event["id"]));
    let stored = state.events.iter().filter(|event| is_listed(event) && matches(filter, event));
    let mut rows: Vec<Value> = stored.cloned().collect();
    let created_at = |event: &Value| std::cmp::Reverse(event["created_at"].as_u64());
    if fault == Fault::Loose {
        // Newest first, as the limit asks for, and ties the other way round: NIP-01 once said nothing about them.
        rows.sort_by_key(|event| (created_at(event), std::cmp::Reverse(event["id"].as_str().map(str::to_string))));
    } else {
        rows.sort_by_key(|event| (created_at(event), event["id"].as_str().map(str::to_string)));
    }
    if fault != Fault::IgnoreLimit {
        let stated = state.document.as_ref().and_then(|document| document["limitation"]["max_limit"].as_u64());
        let limit = filter["limit"].as_u64().into_iter().chain(stated).min();
        rows.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
    }
    if fault == Fault::OldestFirst || (fault == Fault::Loose && filter["limit"].is_null()) {
        rows.reverse();
    }
    rows
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
