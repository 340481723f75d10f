//! Public keys as people write them: `npub1…` (NIP-19) or 64 hexadecimal digits.
//!
//! For configuration and command lines only: the protocol itself knows no `npub`. Private keys (`nsec`) are
//! refused, never read.

use super::types::Pubkey;

/// Why a text is not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither of the two forms.
    #[error("a public key is npub1… or 64 lower-case hexadecimal digits")]
    NotAKey,
    /// A private key. The text is not repeated.
    #[error("this is a private key (nsec); give the public key (npub)")]
    Private,
    /// A character or the checksum is wrong.
    #[error("the npub has a typing error: its checksum does not fit")]
    Checksum,
    /// The checksum fits, but what it protects is not 32 bytes.
    #[error("the npub does not hold 32 bytes")]
    Length,
}

/// The characters for 0 to 31 (BIP-173).
const CHARSET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// Characters of the checksum.
const CHECKSUM_LEN: usize = 6;

/// The human-readable part of a public key, as BIP-173 expands it for the checksum: the high bits of each
/// letter, a zero, the low bits.
const NPUB_EXPANDED: [u8; 9] = [3, 3, 3, 3, 0, b'n' & 31, b'p' & 31, b'u' & 31, b'b' & 31];

/// The characters of 32 bytes: 256 bits, and four more to fill the last five.
const KEY_LEN: usize = 52;

/// Reads a public key in either form.
///
/// # Errors
/// When it is in neither form, its checksum is wrong, or it is a private key.
pub fn parse_pubkey(text: &str) -> Result<Pubkey, KeyError> {
    if let Some(key) = Pubkey::from_hex(text.as_bytes()) {
        return Ok(key);
    }
    // BIP-173: all lower case or all upper case, never mixed.
    let upper = text.bytes().any(|byte| byte.is_ascii_uppercase());
    if upper && text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(KeyError::NotAKey);
    }
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("nsec1") {
        return Err(KeyError::Private);
    }
    let data = lower.strip_prefix("npub1").ok_or(KeyError::NotAKey)?;
    let value = |byte: u8| CHARSET.iter().position(|own| *own == byte).map(|at| at as u8);
    let values = data.bytes().map(value).collect::<Option<Vec<u8>>>().ok_or(KeyError::Checksum)?;
    if polymod(NPUB_EXPANDED.iter().chain(&values).copied()) != 1 {
        return Err(KeyError::Checksum);
    }
    let key = values.get(..values.len().saturating_sub(CHECKSUM_LEN)).ok_or(KeyError::Length)?;
    to_bytes(key).map(Pubkey).ok_or(KeyError::Length)
}

/// Writes a public key as `npub1…`, 63 characters.
#[must_use]
pub fn npub(key: &Pubkey) -> String {
    let values = to_fives(&key.0);
    let zeros = [0; CHECKSUM_LEN];
    let sum = polymod(NPUB_EXPANDED.iter().chain(&values).chain(&zeros).copied()) ^ 1;
    let checksum = (0..CHECKSUM_LEN).map(|at| (sum >> (5 * (CHECKSUM_LEN - 1 - at)) & 31) as u8);
    let characters = values.into_iter().chain(checksum).map(|value| char::from(CHARSET[usize::from(value)]));
    "npub1".chars().chain(characters).collect()
}

/// The remainder that BIP-173's checksum is made of, over values of five bits.
fn polymod(values: impl Iterator<Item = u8>) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    values.fold(1, |sum, value| {
        let next = (sum & 0x01ff_ffff) << 5 ^ u32::from(value);
        let taps = GENERATOR.iter().enumerate().filter(|(bit, _)| sum >> (25 + bit) & 1 == 1);
        taps.fold(next, |next, (_, tap)| next ^ tap)
    })
}

/// 32 bytes in groups of five bits, zeros at the end.
fn to_fives(bytes: &[u8; 32]) -> [u8; KEY_LEN] {
    std::array::from_fn(|group| {
        let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
        (0..5).fold(0, |value, at| value << 1 | bit(5 * group + at))
    })
}

/// The 32 bytes that groups of five bits hold; `None` if they hold another length or do not end in zeros.
fn to_bytes(fives: &[u8]) -> Option<[u8; 32]> {
    let fives: &[u8; KEY_LEN] = fives.try_into().ok()?;
    let bytes = std::array::from_fn(|byte| {
        let bit = |at: usize| fives[at / 5] >> (4 - at % 5) & 1;
        (0..8).fold(0, |value, at| value << 1 | bit(8 * byte + at))
    });
    (to_fives(&bytes) == *fives).then_some(bytes)
}

#[cfg(test)]
mod tests {
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
    fn every_key_comes_back() {
        for number in 0..=u8::MAX {
            let key = Pubkey(std::array::from_fn(|at| number.wrapping_mul(at as u8 + 1) ^ number.rotate_left(3)));
            assert_eq!(parse_pubkey(&npub(&key)), Ok(key));
        }
    }

    #[test]
    fn any_wrong_character_is_a_typing_error() {
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
        let with_checksum = |values: &[u8]| {
            let sum = polymod(NPUB_EXPANDED.iter().chain(values).chain(&[0; 6]).copied()) ^ 1;
            let sum: [u8; 6] = std::array::from_fn(|at| (sum >> (25 - 5 * at) & 31) as u8);
            let text: String = values.iter().chain(&sum).map(|v| char::from(CHARSET[usize::from(*v)])).collect();
            format!("npub1{text}")
        };
        let mut padded = [0; KEY_LEN];
        padded[KEY_LEN - 1] = 1;
        let secret = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";
        let mixed = PUBLISHED[0].0.replace('q', "Q");
        let upper_hex = PUBLISHED[0].1.to_uppercase();
        let cases = [
            (secret, KeyError::Private),
            (&secret.to_uppercase(), KeyError::Private),
            (&with_checksum(&[0; KEY_LEN - 1]), KeyError::Length),
            (&with_checksum(&[0; KEY_LEN + 1]), KeyError::Length),
            (&with_checksum(&padded), KeyError::Length),
            (&with_checksum(&[]), KeyError::Length),
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
