//! Public keys and event ids as people write them: `npub1…` (NIP-19) or 64 hexadecimal digits, and `note1…`.
//!
//! For configuration and command lines only; the protocol itself has no `npub`. Private keys (`nsec`) are refused
//! everywhere but in a file that holds nothing else ([`parse_secret`]).

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};

use super::hex;
use super::types::{EventId, Pubkey};
use crate::schnorr::SigningKey;

/// Why a text is not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It has neither of the two forms.
    #[error("a public key is npub1… or 64 lower-case hexadecimal digits")]
    NotAKey,
    /// It is a private key. The text is not repeated.
    #[error("this is a private key (nsec); give the public key (npub)")]
    Private,
    /// A character is wrong, so the checksum does not match.
    #[error("the npub is mistyped: its checksum does not match")]
    Checksum,
    /// The checksum matches, but the data is not 32 bytes.
    #[error("the npub does not hold 32 bytes")]
    Length,
}

const NPUB: Hrp = Hrp::parse_unchecked("npub");

/// Reads a public key in either form.
///
/// # Errors
/// When it has neither form, its checksum is wrong, or it is a private key.
pub fn parse_pubkey(text: &str) -> Result<Pubkey, KeyError> {
    if let Some(key) = Pubkey::from_hex(text.as_bytes()) {
        return Ok(key);
    }
    // BIP-173: all lower case or all upper case, never mixed.
    let lower = text.to_ascii_lowercase();
    if text != lower && text != text.to_ascii_uppercase() {
        return Err(KeyError::NotAKey);
    }
    if lower.starts_with("nsec1") {
        return Err(KeyError::Private);
    }
    if !lower.starts_with("npub1") {
        return Err(KeyError::NotAKey);
    }
    let checked = CheckedHrpstring::new::<Bech32>(&lower).map_err(|_| KeyError::Checksum)?;
    // A `1` further on would be the separator, and what is before it another prefix.
    if checked.hrp() != NPUB {
        return Err(KeyError::Checksum);
    }
    checked.validate_segwit_padding().map_err(|_| KeyError::Length)?;
    let bytes: Vec<u8> = checked.byte_iter().collect();
    bytes.try_into().map(Pubkey).map_err(|_| KeyError::Length)
}

const NSEC: Hrp = Hrp::parse_unchecked("nsec");

/// Reads a private key in either form, for a file that holds one; `None` for anything else. The text is not repeated.
#[must_use]
pub fn parse_secret(text: &str) -> Option<SigningKey> {
    if let Some(bytes) = hex::decode(text.as_bytes()) {
        return SigningKey::new(bytes);
    }
    let checked = CheckedHrpstring::new::<Bech32>(text).ok().filter(|checked| checked.hrp() == NSEC)?;
    checked.validate_segwit_padding().ok()?;
    let bytes: Vec<u8> = checked.byte_iter().collect();
    bytes.try_into().ok().and_then(SigningKey::new)
}

const NOTE: Hrp = Hrp::parse_unchecked("note");

/// Reads an event id written as `note1…` (NIP-19); `None` for anything else.
#[must_use]
pub fn parse_note(text: &str) -> Option<EventId> {
    let checked = CheckedHrpstring::new::<Bech32>(text).ok().filter(|checked| checked.hrp() == NOTE)?;
    checked.validate_segwit_padding().ok()?;
    let bytes: Vec<u8> = checked.byte_iter().collect();
    bytes.try_into().map(EventId).ok()
}

/// Writes a public key as `npub1…`, 63 characters.
#[must_use]
pub fn npub(key: &Pubkey) -> String {
    bech32::encode::<Bech32>(NPUB, &key.0).expect("63 characters are within the limits of bech32")
}

#[cfg(test)]
mod tests {
    use bech32::Fe32;
    use bech32::primitives::iter::Fe32IterExt as _;

    use super::*;

    /// The pairs that NIP-19 gives.
    const PUBLISHED: [(&str, &str); 2] = [
        (
            "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg",
            "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e",
        ),
        (
            "npub180cvv07tjdrrgpa0j7j7tmnyl2yr6yr7l8j4s3evf6u64th6gkwsyjh6w6",
            "3bf0c63fcb93463407af97a5e5ee64fa883d107ef9e558472c4eb9aaaefa459d",
        ),
    ];

    #[test]
    fn the_keys_of_nip_19_are_read_and_written() {
        for (text, hex) in PUBLISHED {
            let key = Pubkey::from_hex(hex.as_bytes()).expect("64 digits");
            assert_eq!((parse_pubkey(text), parse_pubkey(hex)), (Ok(key), Ok(key)));
            assert_eq!(npub(&key), text);
            assert_eq!(parse_pubkey(&text.to_uppercase()), Ok(key));
        }
    }

    #[test]
    fn a_private_key_is_read_in_either_form_from_a_file_of_its_own() {
        // The pair that NIP-19 gives.
        let hex = "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa";
        let public = |text: &str| parse_secret(text).map(|key| key.public());
        let expected = public(hex);
        assert!(expected.is_some());
        assert_eq!(public("nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5"), expected);
        for text in [
            "",
            "nsec1vl029",
            PUBLISHED[0].0,
            &"0".repeat(64),
            "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe6",
        ] {
            assert!(parse_secret(text).is_none(), "{text}");
        }
    }

    #[test]
    fn every_key_comes_back() {
        for number in 0..=u8::MAX {
            let key = Pubkey(std::array::from_fn(|at| number.wrapping_mul(at as u8 + 1) ^ number.rotate_left(3)));
            assert_eq!(parse_pubkey(&npub(&key)), Ok(key));
        }
    }

    #[test]
    fn any_wrong_character_is_found() {
        let (text, _) = PUBLISHED[0];
        for at in 5..text.len() {
            for wrong in ['q', 'p', 'l', 'b'] {
                let mut typed = text.to_owned();
                typed.replace_range(at..=at, wrong.encode_utf8(&mut [0; 4]));
                if typed != text {
                    assert_eq!(parse_pubkey(&typed), Err(KeyError::Checksum), "{typed}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_public_key_is_refused_for_what_it_is() {
        // With the right checksum, whatever the data is.
        let encoded = |hrp: &str, data: &[Fe32]| -> String {
            let hrp = Hrp::parse(hrp).expect("a prefix");
            data.iter().copied().with_checksum::<Bech32>(&hrp).chars().collect()
        };
        // 32 bytes are 51 characters of five bits, and one bit with four of padding.
        let mut padded = [Fe32::Q; 52];
        padded[51] = Fe32::P;
        let secret = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";
        let mixed = PUBLISHED[0].0.replace('q', "Q");
        let upper_hex = PUBLISHED[0].1.to_uppercase();
        let cases = [
            (secret, KeyError::Private),
            (&secret.to_uppercase(), KeyError::Private),
            (&encoded("npub", &[Fe32::Q; 51]), KeyError::Length),
            (&encoded("npub", &[Fe32::Q; 53]), KeyError::Length),
            (&encoded("npub", &padded), KeyError::Length),
            (&encoded("npub", &[]), KeyError::Length),
            (&encoded("npub1q", &[Fe32::Q; 52]), KeyError::Checksum),
            ("npub1", KeyError::Checksum),
            ("npub1é", KeyError::Checksum),
            (&mixed, KeyError::NotAKey),
            (&upper_hex, KeyError::NotAKey),
            ("", KeyError::NotAKey),
            ("alice@example.com", KeyError::NotAKey),
        ];
        for (text, error) in cases {
            assert_eq!(parse_pubkey(text), Err(error), "{text}");
        }
    }
}
