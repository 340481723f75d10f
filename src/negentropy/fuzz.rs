//! The fuzz target of negentropy messages: from a client to us, and from us to the side that asks.

use std::sync::{Arc, LazyLock};

use sha2::{Digest, Sha256};

use super::wire::{Mode, Reader};
use super::{Differences, EventId, Initiator, MIN_FRAME_BYTES, NegError, Records, RecordsBuilder, Session, VERSION};
use crate::fuzz::Choices;
use crate::nostr::Timestamp;

type Key = (u64, [u8; 32]);

/// The records of the sides that inputs choose from: this many, over this many seconds.
static RECORDS: LazyLock<[Arc<Records>; 5]> = LazyLock::new(|| {
    [(0, 1), (1, 1), (150, 3), (700, 20), (3_000, 1_000_000)].map(|(count, seconds)| {
        records((0..count).map(|number: u64| (1_700_000_000 + number * 7_919 % seconds, id(number))))
    })
});

fn id(number: u64) -> [u8; 32] {
    Sha256::digest(number.to_le_bytes()).into()
}

fn records(keys: impl Iterator<Item = Key>) -> Arc<Records> {
    let mut builder = RecordsBuilder::new(usize::MAX);
    for (created_at, id) in keys {
        builder.push(Timestamp(created_at), EventId(id)).expect("within the cap");
    }
    Arc::new(builder.finish())
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0, VERSION], vec![3, 0x62], vec![2, VERSION, 0, 0, 2, 0], vec![7, VERSION, 0, 0, 0]];
    for (side, own) in (0..).zip(&*RECORDS) {
        for other in &*RECORDS {
            let message = Initiator::new(other.clone(), MIN_FRAME_BYTES).open();
            let reply = Session::new(own.clone(), MIN_FRAME_BYTES).reply(&message).expect("a good message");
            seeds.extend([message, reply].map(|message| [&[side][..], &message].concat()));
        }
    }
    // Records of one side, of the other and of both, at few times and at many.
    seeds.push((0..=255).collect());
    seeds.push([1, 2, 3, 3, 2, 1].repeat(40));
    seeds
}

/// Checks that a message is true of its sender's records, range by range as the receiver will see them. Otherwise a
/// fingerprint of the wrong range would only cause more rounds.
pub(super) fn assert_true(message: &[u8], records: &Records) {
    let (mut reader, mut lower) = (Reader::new(&message[1..]), 0);
    while let Some((bound, mode)) = reader.range().expect("well formed") {
        let upper = records.lower_bound(lower, &bound);
        match mode {
            Mode::Skip => (),
            Mode::Fingerprint(bytes) => assert_eq!(records.fingerprint(lower..upper), *bytes),
            Mode::Ids(ids) => assert!(records.ids(lower..upper).map(|id| id.0).eq(ids.iter().copied())),
        }
        lower = upper;
    }
}

/// Any message gets an error, or an answer that fits into a frame and is true. A sync between any two sides finds
/// exactly what they do not have in common.
pub(crate) fn check(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let setting = choices.below(10);
    let frame_bytes = if setting < 5 { MIN_FRAME_BYTES } else { 1 << 16 };
    let (records, message) = (&RECORDS[setting % 5], choices.0);
    let session = Session::new(records.clone(), frame_bytes);
    let reply = session.reply(message);
    if let Ok(reply) = &reply {
        assert!(reply.len() <= frame_bytes && reply[0] == VERSION);
        assert_true(reply, records);
    }
    assert_eq!(session.reply(message), reply, "the second time");
    asked(records, frame_bytes, message);
    if bytes.len() <= 512 {
        synced(bytes);
    }
}

/// The other direction: the message is a reply to our question.
fn asked(records: &Arc<Records>, frame_bytes: usize, reply: &[u8]) {
    let mut found = Differences::default();
    match Initiator::new(records.clone(), frame_bytes).next(reply, &mut found) {
        Ok(Some(message)) => {
            assert!(message.len() <= frame_bytes);
            assert_true(&message, records);
        }
        Ok(None) => {}
        Err(NegError::OtherVersion(version)) => assert!(version != VERSION && found == Differences::default()),
        Err(_) => {}
    }
    assert!(32 * found.need.len() <= reply.len() && found.have.len() <= records.len());
}

/// Each byte is a record: whose it is, and when.
fn synced(bytes: &[u8]) {
    let key = |(number, byte): (u64, &u8)| (u64::from(byte >> 2) % 16, id(number));
    let of = |side: u8| (0..).zip(bytes).filter(move |(_, byte)| *byte & side != 0).map(key);
    let (ours, theirs) = (records(of(1)), records(of(2)));
    let (initiator, session) = (Initiator::new(ours, MIN_FRAME_BYTES), Session::new(theirs, MIN_FRAME_BYTES));
    let (mut found, mut message) = (Differences::default(), Some(initiator.open()));
    for round in 0.. {
        let Some(bytes) = &message else { break };
        assert!(round < 100, "the sync does not end");
        let reply = session.reply(bytes).expect("a good message");
        message = initiator.next(&reply, &mut found).expect("a good reply");
    }
    let only = |side: u8| {
        let own = (0..).zip(bytes).filter(move |(_, byte)| *byte & 3 == side);
        own.map(|(number, _)| EventId(id(number))).collect()
    };
    assert_eq!(found, Differences { have: only(1), need: only(2) });
}
