//! The fuzz targets of the files about other relays: what is remembered of one, and how far a stream has come. And of
//! the messages of a cluster.

use sha2::{Digest as _, Sha256};

use super::file;
use super::remembered::{LocalAbsence, Remembered, RemoteAbsence};
use super::router::state::{self, State};
use crate::fuzz::Choices;
use crate::nostr::{EventId, Timestamp};
use crate::store::Seq;

pub(crate) use super::cluster::fuzz::{check as message, seeds as message_seeds};

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut remembered = Remembered { was_equal: true, ..Remembered::default() };
    let empty = file::write(&Remembered::default());
    remembered.refuse(EventId([1; 32]), Timestamp(1_700_000_000), LocalAbsence::Replaced, Timestamp(1_700_000_001));
    remembered.keep(EventId([2; 32]), RemoteAbsence::Hidden, Timestamp(1_700_000_002));
    // With and without a checksum that is made right.
    [empty, file::write(&remembered)]
        .into_iter()
        .flat_map(|bytes| [0, 1].map(|right| [&[right], &bytes[..]].concat()))
        .collect()
}

/// The bytes of a file, with a checksum that is right where the first byte is odd.
fn summed(bytes: &[u8]) -> Vec<u8> {
    let mut choices = Choices(bytes);
    let is_made_right = choices.byte() & 1 == 1;
    let mut bytes = choices.0.to_vec();
    if is_made_right && bytes.len() >= 32 {
        let body = bytes.len() - 32;
        let sum = Sha256::digest(&bytes[..body]);
        bytes[body..].copy_from_slice(&sum);
    }
    bytes
}

/// Any bytes are refused, or are exactly what would be written for what was read.
pub(crate) fn check(bytes: &[u8]) {
    let bytes = summed(bytes);
    let Ok(remembered) = file::read(&bytes) else { return };
    let again = file::write(&remembered);
    assert_eq!(again.len(), bytes.len());
    assert_eq!(file::read(&again).as_ref(), Ok(&remembered));
}

pub(crate) fn state_seeds() -> Vec<Vec<u8>> {
    let some = State { mark: Some(Timestamp(1_700_000_000)), cursor: Some(Seq(7)), has_compared: true };
    let files = [State::default(), some].map(|state| state::write(&state));
    files.into_iter().flat_map(|bytes| [0, 1].map(|right| [&[right], &bytes[..]].concat())).collect()
}

/// Any bytes are refused, or are exactly what would be written for what was read.
pub(crate) fn state(bytes: &[u8]) {
    let bytes = summed(bytes);
    if let Ok(read) = state::read(&bytes) {
        assert_eq!(state::write(&read), bytes);
    }
}
