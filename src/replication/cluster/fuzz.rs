//! The fuzz target of the messages that NATS delivers.

use super::batch;
use super::message;
use super::reading::Outgoing;
use crate::fuzz::Choices;
use crate::nostr::Event;
use crate::nostr::fuzz::EVENTS;
use crate::nostr::json::Parser;
use crate::store::Seq;

/// Longer events are poison.
const MAX_EVENT_BYTES: usize = 2_000;

/// The way that a message comes, the kind that ends its subject, and the message.
fn seed(is_ephemeral: bool, kind: u16, payload: &[u8]) -> Vec<u8> {
    let [low, high] = kind.to_le_bytes();
    [&[u8::from(is_ephemeral), low, high], payload].concat()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts: Vec<Vec<u8>> = EVENTS.iter().map(|event| message::write(event.view())).collect();
    let kinds = EVENTS.iter().map(|event| event.view().kind());
    let alone = kinds.zip(&texts).map(|(kind, text)| seed(kind.is_ephemeral(), kind.0, text));
    // The first two are of one kind; a message of all has others, and one more line.
    let together =
        [seed(false, 1, &texts[..2].join(&b'\n')), seed(false, 1, &[&texts.join(&b'\n')[..], b"\n"].concat())];
    alone.chain(together).collect()
}

/// Any bytes are lines, of which each is an event of its subject or poison; and what was read is read again from the
/// messages that would be written for it.
pub(crate) fn check(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let (is_ephemeral, kind) = (choices.byte() & 1 == 1, choices.two_bytes());
    let (payload, subject, mut parser) = (choices.0, format!("weir.main.ev.{kind}"), Parser::default());
    let mut read = |text: &[u8], most| message::read(&mut parser, &subject, text, most, is_ephemeral);
    let lines: Vec<&[u8]> = message::lines(payload).collect();
    assert_eq!(lines.join(&b'\n'), payload);
    let events: Vec<Event> = lines.iter().filter_map(|line| read(line, MAX_EVENT_BYTES).ok()).collect();
    let outgoing = |(seq, event): (u64, &Event)| {
        let view = event.view();
        assert_eq!((view.kind().0, view.kind().is_ephemeral()), (kind, is_ephemeral));
        Outgoing { seq: Seq(seq), id: view.id(), kind: view.kind(), json: message::write(view) }
    };
    let last = Seq(events.len() as u64);
    let batches = batch::of((1..).zip(&events).map(outgoing).collect(), last, 4_096);
    let again = batches.iter().flat_map(|batch| message::lines(&batch.lines));
    // A character that is escaped may be longer than it came.
    let again: Vec<Event> = again.map(|line| read(line, usize::MAX).expect("an event")).collect();
    assert_eq!(again, events);
    if let Ok(act) = message::read_act(payload) {
        assert_eq!(act.check(), Ok(()));
    }
}
