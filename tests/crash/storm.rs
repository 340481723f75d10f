//! Publishers that send as fast as they may until the connection ends, and remember what they were told.
//!
//! They never judge an answer: that is for the tests, once the relay runs again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::Sender;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use crate::corpus::Random;
use crate::support::client::Client;
use crate::support::relay::{Relay, TIMEOUT};
use crate::support::wire::{Key, Signed, now};

/// Events that a publisher has under way at a time.
const WINDOW: usize = 100;

/// Notes back from the newest that a deletion may name, some of them not answered yet.
const DELETABLE: u64 = 150;

/// What an event is to the ones around it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Note,
    /// A version of what is held at this address; a larger number is newer.
    Version {
        address: u64,
        number: u64,
    },
    /// Deletes the event at this place in the list.
    Deletes(usize),
}

/// An event that was sent, and its OK if there was one: whether it was accepted, and why not.
#[derive(Debug)]
pub struct Published {
    pub event: Signed,
    pub role: Role,
    pub answer: Option<(bool, String)>,
}

impl Published {
    pub fn is_accepted(&self) -> bool {
        matches!(self.answer, Some((true, _)))
    }
}

/// One author with one connection.
pub struct Publisher {
    pub key: Key,
    random: Random,
    started: u64,
    pub published: Vec<Published>,
    by_id: HashMap<String, usize>,
}

/// A blocking WebSocket that gives up after [`TIMEOUT`].
pub fn connect(address: SocketAddr) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    stream.set_write_timeout(Some(TIMEOUT)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    let (socket, _) = tokio_tungstenite::tungstenite::client(format!("ws://{address}"), stream).expect("an upgrade");
    socket
}

impl Publisher {
    pub fn new(name: &str, seed: u64) -> Self {
        let key = Key::named(name);
        Self { key, random: Random(seed), started: now() - 5000, published: Vec::new(), by_id: HashMap::new() }
    }

    /// Publishes until the connection ends and tells `accepted` of each OK; the code of the close frame, if one came.
    pub fn storm(&mut self, mut socket: WebSocket<TcpStream>, accepted: &Sender<()>) -> Option<u16> {
        let (mut under_way, mut writable) = (0, true);
        loop {
            if writable && under_way < WINDOW {
                let event = self.make();
                // What is refused by a socket that is ending may have been sent in part, so it stays in the list.
                writable = socket.send(Message::text(event.message())).is_ok();
                under_way += 1;
                continue;
            }
            match socket.read() {
                Ok(Message::Text(text)) if self.hear(&text) => {
                    under_way -= 1;
                    // The test may have heard enough already.
                    let _ = accepted.send(());
                }
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    fn make(&mut self) -> Signed {
        let place = self.published.len();
        // The dates ascend, so that a later version is a newer one.
        let at = self.started + place as u64;
        let (role, event) = match self.random.below(10) {
            0 => {
                let (address, number) = (self.random.below(3), place as u64);
                let content = format!("version {number}");
                let event = match address {
                    0 => self.key.event(0, at, json!([]), &content),
                    _ => self.key.event(30_000, at, json!([["d", address.to_string()]]), &content),
                };
                (Role::Version { address, number }, event)
            }
            1 => match self.deletable(place) {
                Some(target) => {
                    let tags = json!([["e", self.published[target].event.id]]);
                    (Role::Deletes(target), self.key.event(5, at, tags, &place.to_string()))
                }
                None => (Role::Note, self.note(place, at)),
            },
            _ => (Role::Note, self.note(place, at)),
        };
        self.by_id.insert(event.id.clone(), place);
        self.published.push(Published { event: event.clone(), role, answer: None });
        event
    }

    fn note(&self, place: usize, at: u64) -> Signed {
        self.key.event(1, at, json!([["t", "storm"]]), &format!("note {place}: {}", "text ".repeat(place % 40)))
    }

    fn deletable(&mut self, place: usize) -> Option<usize> {
        let back = 1 + self.random.below(DELETABLE) as usize;
        let target = place.checked_sub(back)?;
        (self.published[target].role == Role::Note).then_some(target)
    }

    /// Notes an OK; false for any other message.
    fn hear(&mut self, text: &str) -> bool {
        let message: Value = serde_json::from_str(text).expect("JSON");
        if message[0] != "OK" {
            return false;
        }
        let [id, accepted, reason] = [1, 2, 3].map(|part| message[part].clone());
        let place = self.by_id[id.as_str().expect("an id")];
        let answer = (accepted.as_bool().expect("true or false"), reason.as_str().expect("a reason").to_owned());
        assert_eq!(self.published[place].answer.replace(answer), None, "INV-14: one OK for one EVENT");
        true
    }

    /// What the relay holds of everything sent: asked by id, in pages.
    pub fn held(&self, client: &mut Client<'_>) -> HashSet<String> {
        let ids: Vec<&str> = self.published.iter().map(|one| one.event.id.as_str()).collect();
        let held = ids.chunks(400).flat_map(|page| client.query(&[json!({"ids": page})]));
        held.map(|text| {
            let event: Value = serde_json::from_str(&text).expect("JSON");
            event["id"].as_str().expect("an id").to_owned()
        })
        .collect()
    }

    /// Compares what the relay holds with what it has said; returns the places of the deleted notes.
    pub fn verify(&self, held: &HashSet<String>) -> Vec<usize> {
        let mut deleted = Vec::new();
        let mut addresses: BTreeMap<u64, (Option<u64>, Vec<u64>)> = BTreeMap::new();
        let is_held = |one: &Published| held.contains(&one.event.id);
        for one in &self.published {
            match one.role {
                Role::Deletes(target) if is_held(one) => deleted.push(target),
                Role::Deletes(_) => assert!(!one.is_accepted(), "INV-1: a deletion was accepted and is gone: {one:?}"),
                Role::Version { address, number } => {
                    let (accepted, versions) = addresses.entry(address).or_default();
                    *accepted = (*accepted).max(one.is_accepted().then_some(number));
                    versions.extend(is_held(one).then_some(number));
                }
                Role::Note => {}
            }
        }
        for (place, one) in self.published.iter().enumerate().filter(|(_, one)| one.role == Role::Note) {
            let is_deleted = deleted.contains(&place);
            assert!(!(is_deleted && is_held(one)), "INV-11: deleted, and still held: {one:?}");
            assert!(is_deleted || is_held(one) || !one.is_accepted(), "INV-1: accepted and gone: {one:?}");
            let is_refused = matches!(one.answer, Some((false, _)));
            assert!(!is_refused || !is_held(one), "refused, and held all the same: {one:?}");
        }
        for (address, (accepted, versions)) in addresses {
            assert!(versions.len() <= 1, "INV-10: address {address} holds versions {versions:?}");
            assert!(
                versions.first().copied() >= accepted,
                "INV-1: address {address} holds {versions:?} of {accepted:?}"
            );
        }
        deleted
    }

    /// A client that was not answered tries again, and a deleted note stays deleted.
    pub fn try_again(&self, client: &mut Client<'_>, held: &HashSet<String>, deleted: &[usize]) {
        let open = |(place, one): &(usize, &Published)| {
            one.role == Role::Note && one.answer.is_none() && !deleted.contains(place)
        };
        let mut expected = Vec::new();
        for (_, one) in self.published.iter().enumerate().filter(open) {
            client.send(one.event.message());
            expected.push(if held.contains(&one.event.id) { one.event.duplicate() } else { one.event.ok() });
        }
        for one in deleted.iter().take(20).map(|&place| &self.published[place]) {
            client.send(one.event.message());
            expected.push(one.event.refused("blocked: the author deleted this event"));
        }
        client.expect_all(expected);
    }
}

/// Lets `publishers` storm at once; calls `interrupt` once this many events were accepted. The close codes they saw.
pub fn storm(
    relay: Relay,
    publishers: &mut [Publisher],
    accepted: usize,
    interrupt: impl FnOnce(Relay) -> Option<Relay>,
) -> (Vec<Option<u16>>, Option<Relay>) {
    let (sender, heard) = std::sync::mpsc::channel();
    let address = relay.address;
    // Before anything is interrupted, since a connection must be there to be ended.
    let sockets: Vec<_> = publishers.iter().map(|_| connect(address)).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = publishers
            .iter_mut()
            .zip(sockets)
            .map(|(publisher, socket)| {
                let sender = sender.clone();
                scope.spawn(move || publisher.storm(socket, &sender))
            })
            .collect();
        for _ in 0..accepted {
            heard.recv_timeout(TIMEOUT).expect("events are accepted");
        }
        let relay = interrupt(relay);
        let codes = threads.into_iter().map(|thread| thread.join().expect("the publisher ends")).collect();
        (codes, relay)
    })
}
