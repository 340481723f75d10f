//! Both sides against the reference implementation and against hostile messages.

use ::negentropy::{Id, Negentropy, NegentropyStorageVector};

use super::fuzz::assert_true;
use super::*;
use crate::nostr::Timestamp;

type Key = (u64, [u8; 32]);

/// SplitMix64 (Steele, Lea, Flood 2014): numbers that a seed repeats.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Records over `seconds`, so that fewer seconds give more ties.
    fn keys(&mut self, count: usize, seconds: usize) -> Vec<Key> {
        let mut key = || {
            let id: [[u8; 8]; 4] = std::array::from_fn(|_| self.next().to_le_bytes());
            (1_700_000_000 + self.below(seconds) as u64, *id.as_flattened().first_chunk().expect("32 bytes"))
        };
        (0..count).map(|_| key()).collect()
    }
}

fn records(keys: &[Key]) -> Arc<Records> {
    let mut builder = RecordsBuilder::new(usize::MAX);
    for (created_at, id) in keys {
        builder.push(Timestamp(*created_at), EventId(*id)).expect("within the cap");
    }
    Arc::new(builder.finish())
}

fn reference(keys: &[Key]) -> NegentropyStorageVector {
    let mut storage = NegentropyStorageVector::with_capacity(keys.len());
    for (created_at, id) in keys {
        storage.insert(*created_at, Id::from_byte_array(*id)).expect("not sealed");
    }
    storage.seal().expect("not sealed");
    storage
}

/// Two sides with `shared` records in common and some that only one has.
struct Sides {
    ours: Vec<Key>,
    theirs: Vec<Key>,
    expected: Differences,
}

fn sides(random: &mut Random, shared: usize, only_ours: usize, only_theirs: usize, seconds: usize) -> Sides {
    let [both, ours, theirs] = [shared, only_ours, only_theirs].map(|count| random.keys(count, seconds));
    let ids = |keys: &[Key]| keys.iter().map(|(_, id)| EventId(*id)).collect();
    let expected = Differences { have: ids(&ours), need: ids(&theirs) };
    Sides { ours: [&both[..], &ours].concat(), theirs: [both, theirs].concat(), expected }
}

/// The traffic of a sync.
#[derive(Debug, Default)]
struct Traffic {
    rounds: usize,
    bytes_out: usize,
    bytes_in: usize,
}

/// Runs a sync of our initiator against any other side.
fn sync(initiator: &Initiator, mut answer: impl FnMut(&[u8]) -> Vec<u8>) -> (Differences, Traffic) {
    let (mut found, mut traffic) = (Differences::default(), Traffic::default());
    let mut message = Some(initiator.open());
    while let Some(bytes) = message {
        assert!(bytes.len() <= initiator.frame_bytes);
        assert_true(&bytes, &initiator.records);
        let reply = answer(&bytes);
        traffic.rounds += 1;
        traffic.bytes_out += bytes.len();
        traffic.bytes_in += reply.len();
        assert!(traffic.rounds < 1_000, "the sync does not end");
        message = initiator.next(&reply, &mut found).expect("a good reply");
    }
    (found, traffic)
}

#[test]
fn a_sync_finds_every_difference_whatever_the_frames_and_ties() {
    let mut random = Random(1);
    for case in 0..60 {
        let counts = [0, 1, 30, 40, 700, 3_000];
        let [shared, ours, theirs] = [0; 3].map(|_: usize| counts[random.below(6)]);
        let case_sides = sides(&mut random, shared, ours, theirs, [1, 20, 100_000][case % 3]);
        let frame = |random: &mut Random| MIN_FRAME_BYTES + [0, 1, 100, 5_000, 1 << 20][random.below(5)];
        let initiator = Initiator::new(records(&case_sides.ours), frame(&mut random));
        let session = Session::new(records(&case_sides.theirs), frame(&mut random));
        let (found, _) = sync(&initiator, |message| {
            let reply = session.reply(message).expect("a good message");
            assert!(reply.len() <= session.frame_bytes);
            assert_true(&reply, &session.records);
            reply
        });
        assert_same(&found, &case_sides.expected, case);
    }
}

/// Like `assert_eq!`, but tells how many of thousands differ, not which.
fn assert_same(found: &Differences, expected: &Differences, case: usize) {
    let count = |own: &BTreeSet<EventId>, other: &BTreeSet<EventId>| own.difference(other).count();
    let missing = count(&expected.have, &found.have) + count(&expected.need, &found.need);
    let wrong = count(&found.have, &expected.have) + count(&found.need, &expected.need);
    assert_eq!((missing, wrong), (0, 0), "case {case}: missing and wrong differences");
}

#[test]
fn replies_are_those_of_the_reference_byte_for_byte() {
    let mut random = Random(2);
    for case in 0..30 {
        let seconds = [1, 20, 100_000][case % 3];
        let case_sides = sides(&mut random, 2_000, 1 + case, 100, seconds);
        let (ours, theirs) = (reference(&case_sides.ours), reference(&case_sides.theirs));
        let mut client = Negentropy::borrowed(&ours, 0).expect("no limit");
        let mut server = Negentropy::borrowed(&theirs, 0).expect("no limit");
        let session = Session::new(records(&case_sides.theirs), 1 << 30);
        let initiator = Initiator::new(records(&case_sides.ours), 1 << 30);
        let mut message = Some(client.initiate().expect("first"));
        assert_eq!(Some(initiator.open()), message, "case {case}");
        while let Some(bytes) = message {
            let reply = server.reconcile(&bytes).expect("a good message");
            assert_eq!(session.reply(&bytes), Ok(reply.clone()), "case {case}");
            message = client.reconcile_with_ids(&reply, &mut Vec::new(), &mut Vec::new()).expect("a good reply");
            assert_eq!(initiator.next(&reply, &mut Differences::default()), Ok(message.clone()), "case {case}");
        }
    }
}

#[test]
fn a_hundred_thousand_records_sync_with_the_reference_on_either_side() {
    let mut random = Random(3);
    let both_sides = sides(&mut random, 100_000, 7, 13, 30_000_000);
    let (ours, theirs) = (reference(&both_sides.ours), reference(&both_sides.theirs));
    let (our_records, their_records) = (records(&both_sides.ours), records(&both_sides.theirs));
    for frame_bytes in [MIN_FRAME_BYTES, 60_000] {
        let mut server = Negentropy::borrowed(&theirs, frame_bytes as u64).expect("not too small");
        let initiator = Initiator::new(Arc::clone(&our_records), frame_bytes);
        let (found, traffic) = sync(&initiator, |message| server.reconcile(message).expect("a good message"));
        assert_same(&found, &both_sides.expected, frame_bytes);
        println!("our initiator, frames of {frame_bytes} bytes: {traffic:?}");

        let session = Session::new(Arc::clone(&their_records), frame_bytes);
        let mut client = Negentropy::borrowed(&ours, frame_bytes as u64).expect("not too small");
        let (mut have, mut need, mut traffic) = (Vec::new(), Vec::new(), Traffic::default());
        let mut message = Some(client.initiate().expect("first"));
        while let Some(bytes) = message {
            let reply = session.reply(&bytes).expect("a good message");
            traffic.rounds += 1;
            traffic.bytes_out += bytes.len();
            traffic.bytes_in += reply.len();
            message = client.reconcile_with_ids(&reply, &mut have, &mut need).expect("a good reply");
        }
        let ids = |ids: Vec<Id>| ids.into_iter().map(|id| EventId(id.to_bytes())).collect();
        assert_same(&Differences { have: ids(have), need: ids(need) }, &both_sides.expected, frame_bytes);
        println!("our session, frames of {frame_bytes} bytes: {traffic:?}, {} bytes held", session.memory_bytes());
    }
}

#[test]
fn another_version_is_answered_with_ours_and_anything_else_refused() {
    let session = Session::new(records(&Random(4).keys(100, 10)), MIN_FRAME_BYTES);
    assert_eq!(session.reply(&[0x60, 1, 2, 3]), Ok(vec![VERSION]));
    assert_eq!(session.reply(&[0x62]), Ok(vec![VERSION]));
    assert_eq!(session.reply(&[0x61]), Ok(vec![VERSION]));
    assert_eq!(session.reply(&[]), Err(NegError::Empty));
    assert_eq!(session.reply(&[0x70]), Err(NegError::NotAVersion(0x70)));
    assert_eq!(session.reply(&[0x5f]), Err(NegError::NotAVersion(0x5f)));
    let initiator = Initiator::new(records(&[]), MIN_FRAME_BYTES);
    assert_eq!(initiator.next(&[0x62], &mut Differences::default()), Err(NegError::OtherVersion(0x62)));
    assert_eq!(initiator.next(&[0x61], &mut Differences::default()), Ok(None));
}

#[test]
fn no_message_makes_a_panic_or_a_frame_beyond_the_limit() {
    let seed = 5;
    println!("seed {seed}");
    let mut random = Random(seed);
    let keys = random.keys(2_000, 200);
    let session = Session::new(records(&keys), MIN_FRAME_BYTES);
    let initiator = Initiator::new(records(&keys[500..]), MIN_FRAME_BYTES);
    let first = initiator.open();
    let second = session.reply(&first).expect("a good message");
    for case in 0..6_000 {
        let mut message = match case % 4 {
            0 => (0..random.below(300)).map(|_| random.next() as u8).collect(),
            1 => (0..random.below(600)).map(|_| random.below(4) as u8).collect(),
            2 => first.clone(),
            _ => second.clone(),
        };
        for _ in 0..random.below(4) {
            if !message.is_empty() {
                let at = random.below(message.len());
                match random.below(3) {
                    0 => message[at] = random.next() as u8,
                    1 => message.truncate(at),
                    _ => drop(message.splice(at..at, [0, 0, 2, 0])),
                }
            }
        }
        if random.below(4) > 0 {
            message.splice(..message.len().min(1), [VERSION]);
        }
        if let Ok(reply) = session.reply(&message) {
            assert!(reply.len() <= MIN_FRAME_BYTES, "case {case}");
        }
        let mut found = Differences::default();
        if let Ok(Some(next)) = initiator.next(&message, &mut found) {
            assert!(next.len() <= MIN_FRAME_BYTES, "case {case}");
            assert!(found.need.len() <= message.len() / 32 && found.have.len() <= keys.len(), "case {case}");
        }
    }
}
