//! The bytes of every key, and the one function that lists the index entries of an event.
//!
//! Never reads or writes the store. Keys are big-endian, so the order of `memcmp` is the order of every table:
//!
//! | index      | key                                 | bytes |
//! |------------|-------------------------------------|------:|
//! | id         | id 5, seq 5                         |    10 |
//! | time       | ~t 6, id 3, seq 5                   |    14 |
//! | author     | author 6, kind 2, ~t 6, id 3, seq 5 |    22 |
//! | kind       | kind 2, ~t 6, id 3, seq 5           |    16 |
//! | tag        | hash 6, kind 2, ~t 6, id 3, seq 5   |    22 |
//! | expiration | expiration 6, 0, seq 5              |    12 |
//!
//! `~t` is the complement of `created_at` in 48 bits: a forward scan returns the newest events first and breaks ties by
//! the lowest id, which is NIP-01's order. `id` and `author` are the first bytes of each. Values are empty. The key
//! ends with the arrival number, so two keys are never equal, even if an attacker grinds ids with equal prefixes.
//! `hash` is SipHash-2-4 of the letter and the value under the store's secret; an attacker who cannot read the store
//! cannot construct collisions. A colliding prefix or hash costs one read of a record, which the filter then rejects.
//! Two events of one second whose ids begin with the same bytes are ordered by their records, see `store::scan`.
//!
//! Keys are as short as possible, since they make up most of an index: an entry takes 10 bytes besides its key, and
//! pages filled in random order are two thirds full, so one byte of key costs 12 bytes of disk for an event with eight
//! entries. LMDB rounds entries up to even lengths.

use siphasher::sip::SipHasher24;
use siphasher::sip128::{Hasher128, SipHasher24 as SipHasher24x128};
use smallvec::SmallVec;
use std::hash::Hasher;

use crate::nostr::{EventId, EventView, Kind, Pubkey, TagElement, Timestamp};

/// Bytes of an author or a tag's hash in a key.
pub const PREFIX: usize = 6;
/// Bytes of an id in the id index: two ids share them with a chance of one in 2^40.
pub const ID: usize = 5;
/// Bytes of an id in a row. They order the events of one second.
pub const TIE: usize = 3;
/// Bytes of a time in a key, and of numbers elsewhere.
pub const SIX: usize = 6;
/// Bytes of an arrival number at the end of a key.
pub const SEQ: usize = 5;
/// Bytes of the row that ends every key ordered by time: `~t 6, id 3, seq 5`.
pub const ROW: usize = SIX + TIE + SEQ;
/// Bytes of the longest index key.
pub const LONGEST: usize = PREFIX + 2 + ROW;

/// The arrival number of an event: strictly increasing from 1, never reused (INV-4). Below 2^40, which is a
/// thousand events a second for 34 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// The largest arrival number.
    pub const MAX: Self = Self((1 << (8 * SEQ)) - 1);
}

impl std::fmt::Display for Seq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The index tables, see [`index_entries`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum Index {
    /// By id.
    Id,
    /// By `created_at`.
    Time,
    /// By author, kind and `created_at`.
    Author,
    /// By kind and `created_at`.
    Kind,
    /// By single-letter tag, kind and `created_at`.
    Tag,
    /// By expiration (NIP-40).
    Expiration,
}

impl Index {
    /// All indexes, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::Id, Self::Time, Self::Author, Self::Kind, Self::Tag, Self::Expiration];

    /// The length of its keys in bytes.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Id => ID + SEQ,
            Self::Time => ROW,
            Self::Author | Self::Tag => LONGEST,
            Self::Kind => 2 + ROW,
            Self::Expiration => 2 * SIX,
        }
    }
}

/// The low 48 bits of `value`, big-endian.
#[must_use]
pub const fn six(value: u64) -> [u8; SIX] {
    let [_, _, a, b, c, d, e, f] = value.to_be_bytes();
    [a, b, c, d, e, f]
}

/// Reads the number that [`six`] wrote from the end of `bytes`; `None` when there are fewer than six bytes.
#[must_use]
pub fn read_six(bytes: &[u8]) -> Option<u64> {
    let [a, b, c, d, e, f] = *bytes.last_chunk()?;
    Some(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}

/// The bytes of an arrival number at the end of a key.
#[must_use]
pub const fn seq_bytes(seq: Seq) -> [u8; SEQ] {
    let [_, _, _, a, b, c, d, e] = seq.0.to_be_bytes();
    [a, b, c, d, e]
}

/// The arrival number that ends a key of any index; `None` when the key is too short.
#[must_use]
pub fn seq_of(key: &[u8]) -> Option<Seq> {
    let [a, b, c, d, e] = *key.last_chunk()?;
    Some(Seq(u64::from_be_bytes([0, 0, 0, a, b, c, d, e])))
}

/// `~t`: later times have smaller keys. Times past [`Timestamp::MAX`] count as [`Timestamp::MAX`].
#[must_use]
pub fn newest_first(time: Timestamp) -> [u8; SIX] {
    six(Timestamp::MAX.0 - time.0.min(Timestamp::MAX.0))
}

/// The first bytes of an author.
#[must_use]
pub fn prefix(author: &[u8; 32]) -> [u8; PREFIX] {
    *author.first_chunk().expect("32 bytes are more than 6")
}

/// The first bytes of an id, for the id index.
#[must_use]
pub fn id_prefix(id: &[u8; 32]) -> [u8; ID] {
    *id.first_chunk().expect("32 bytes are more than 5")
}

/// The end of every key that is ordered by time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// `created_at` of the event.
    pub created_at: Timestamp,
    /// The first bytes of its id.
    pub id: [u8; TIE],
    /// Its arrival number, the key of its record.
    pub seq: Seq,
}

impl Row {
    /// The row of an event.
    #[must_use]
    pub fn of(created_at: Timestamp, id: &[u8; 32], seq: Seq) -> Self {
        Self { created_at, id: *id.first_chunk().expect("32 bytes are more than 3"), seq }
    }

    /// Reads the end of a key of the time, author, kind or tag index; `None` when it is too short.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let row: &[u8; ROW] = key.last_chunk()?;
        let created_at = Timestamp(Timestamp::MAX.0 - read_six(&row[..SIX])?);
        Some(Self { created_at, id: *row[SIX..].first_chunk()?, seq: seq_of(row)? })
    }

    /// The bytes that [`Row::from_key`] reads. Smaller bytes come earlier in NIP-01's order.
    #[must_use]
    pub fn to_bytes(self) -> [u8; ROW] {
        let mut bytes = [0; ROW];
        bytes[..SIX].copy_from_slice(&newest_first(self.created_at));
        bytes[SIX..SIX + TIE].copy_from_slice(&self.id);
        bytes[SIX + TIE..].copy_from_slice(&seq_bytes(self.seq));
        bytes
    }
}

/// The bytes before the row in a key of the author index.
#[must_use]
pub fn author_prefix(author: &Pubkey, kind: Kind) -> [u8; PREFIX + 2] {
    join(prefix(&author.0), kind)
}

/// The bytes before the row in a key of the kind index.
#[must_use]
pub const fn kind_prefix(kind: Kind) -> [u8; 2] {
    kind.0.to_be_bytes()
}

/// The bytes before the row in a key of the tag index; `hash` is from [`Secret::tag`].
#[must_use]
pub fn tag_prefix(hash: [u8; PREFIX], kind: Kind) -> [u8; PREFIX + 2] {
    join(hash, kind)
}

fn join(first: [u8; PREFIX], kind: Kind) -> [u8; PREFIX + 2] {
    let mut bytes = [0; PREFIX + 2];
    bytes[..PREFIX].copy_from_slice(&first);
    bytes[PREFIX..].copy_from_slice(&kind.0.to_be_bytes());
    bytes
}

/// The store's secret, random at its creation. It is the key of every hash in the store's keys.
#[derive(Clone, Copy)]
pub struct Secret(pub [u8; 16]);

/// Separates the uses of the 128-bit hash, so that a hash made for one use never equals a hash made for another.
#[derive(Clone, Copy)]
enum Domain {
    Address = 1,
    Deletion = 2,
}

impl Secret {
    /// The hash of a tag's letter and value in the tag index.
    #[must_use]
    pub fn tag(&self, letter: u8, value: TagElement<'_>) -> [u8; PREFIX] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        match value {
            TagElement::Hex(bytes) => {
                hasher.write(&[letter, b'x']);
                hasher.write(bytes);
            }
            TagElement::Text(text) => {
                hasher.write(&[letter, b't']);
                hasher.write(text);
            }
        }
        *hasher.finish().to_be_bytes().first_chunk().expect("8 bytes are more than 6")
    }

    /// The key of a coordinate: author, kind and `d` value (empty for replaceable kinds).
    #[must_use]
    pub fn address(&self, author: &Pubkey, kind: Kind, d: TagElement<'_>) -> [u8; 16] {
        let mut hasher = SipHasher24x128::new_with_key(&self.0);
        hasher.write(&[Domain::Address as u8]);
        hasher.write(&author.0);
        hasher.write(&kind.0.to_be_bytes());
        match d {
            TagElement::Hex(bytes) => {
                hasher.write(b"x");
                hasher.write(bytes);
            }
            TagElement::Text(text) => {
                hasher.write(b"t");
                hasher.write(text);
            }
        }
        hasher.finish128().as_bytes()
    }

    /// The key of a deletion: the hash of the event's id and of the deleter.
    #[must_use]
    pub fn deletion(&self, id: &EventId, by: &Pubkey) -> [u8; 16] {
        let mut hasher = SipHasher24x128::new_with_key(&self.0);
        hasher.write(&[Domain::Deletion as u8]);
        hasher.write(&id.0);
        hasher.write(&by.0);
        hasher.finish128().as_bytes()
    }

    /// The key of an event's own coordinate; `None` for kinds that have none.
    #[must_use]
    pub fn address_of(&self, event: EventView<'_>) -> Option<[u8; 16]> {
        Some(self.address(&event.pubkey(), event.kind(), event.d_tag()?))
    }
}

/// Whether a filter can ask for this tag: filters on `e` and `p` accept only 64 hexadecimal digits (NIP-01).
fn is_findable(letter: u8, value: TagElement<'_>) -> bool {
    !matches!(letter, b'e' | b'p') || value.as_hex().is_some()
}

/// Bytes that LMDB adds to a key and its value: a header of 8, and 2 for the node's offset in the page.
const NODE: u64 = 10;

/// Bytes of an LMDB page on the machines that weir supports. LMDB puts a record larger than half a page on overflow
/// pages.
const PAGE: u64 = 4096;

/// The bytes that `event` takes in the data file: its record (in whole pages if it is large), and its index entries in
/// pages that are two thirds full, as pages filled in random order are. An event has the same footprint in every store
/// and at any time, so removing it lowers the count that limits use by exactly that much.
#[must_use]
pub fn footprint(event: EventView<'_>) -> u64 {
    let entry = |index: Index| (index.key_len() as u64 + NODE) * 3 / 2;
    let tags = event.tags().indexed().filter(|&(letter, value)| is_findable(letter, value)).count() as u64;
    let once: u64 = [Index::Id, Index::Time, Index::Author, Index::Kind].map(entry).into_iter().sum();
    let expiration = event.expiration().map_or(0, |_| entry(Index::Expiration));
    let node = event.record().len() as u64 + SIX as u64 + NODE;
    let record = if node <= PAGE / 2 - 8 { node } else { node.next_multiple_of(PAGE) };
    record + once + tags * entry(Index::Tag) + expiration
}

/// Calls `emit` once with each index key of `event`. Insert, remove and check all use this list, which upholds INV-5.
pub fn index_entries(event: EventView<'_>, seq: Seq, secret: &Secret, mut emit: impl FnMut(Index, &[u8])) {
    let id = id_prefix(event.id_bytes());
    let row = Row::of(event.created_at(), event.id_bytes(), seq).to_bytes();
    let kind = event.kind();
    let mut key = [0; LONGEST];

    key[..ID].copy_from_slice(&id);
    key[ID..ID + SEQ].copy_from_slice(&seq_bytes(seq));
    emit(Index::Id, &key[..ID + SEQ]);

    emit(Index::Time, &row);

    key[PREFIX + 2..].copy_from_slice(&row);
    key[PREFIX..PREFIX + 2].copy_from_slice(&kind_prefix(kind));
    emit(Index::Kind, &key[PREFIX..]);

    key[..PREFIX].copy_from_slice(&prefix(event.pubkey_bytes()));
    emit(Index::Author, &key);

    let findable = event.tags().indexed().filter(|&(letter, value)| is_findable(letter, value));
    let mut hashes: SmallVec<[[u8; PREFIX]; 32]> = findable.map(|(letter, value)| secret.tag(letter, value)).collect();
    hashes.sort_unstable();
    hashes.dedup();
    for hash in hashes {
        key[..PREFIX].copy_from_slice(&hash);
        emit(Index::Tag, &key);
    }

    if let Some(at) = event.expiration() {
        key[..SIX].copy_from_slice(&six(at.0.min(Timestamp::MAX.0)));
        key[SIX..2 * SIX].copy_from_slice(&six(seq.0));
        emit(Index::Expiration, &key[..2 * SIX]);
    }
}
