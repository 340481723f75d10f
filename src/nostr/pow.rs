//! Proof of work on event ids (NIP-13).
//!
//! It only measures. How much work to demand, and whether as a committed target, is decided in `policy`.

use super::types::EventId;
use super::view::EventView;

/// The difficulty of an id: its leading zero bits, 0 to 256.
#[must_use]
pub fn difficulty(id: &EventId) -> u16 {
    let zero_bytes = id.0.iter().take_while(|byte| **byte == 0).count();
    8 * zero_bytes as u16 + id.0.get(zero_bytes).map_or(0, |byte| byte.leading_zeros() as u16)
}

/// The target difficulty that the event commits to: the third element of its first `nonce` tag, if that is a decimal
/// number.
#[must_use]
pub fn committed_target(event: EventView<'_>) -> Option<u32> {
    let nonce = event.tags().find(|tag| tag.name().is("nonce"))?;
    let text = std::str::from_utf8(nonce.rest().nth(1)?.as_text()?).ok()?;
    // `parse` alone would accept a plus sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::super::testing::{author, event};
    use super::*;

    fn difficulty_of(hex: &str) -> u16 {
        difficulty(&EventId::from_hex(hex.as_bytes()).expect("64 digits"))
    }

    #[test]
    fn difficulty_is_the_leading_zero_bits_of_the_id() {
        // The three ids are those of NIP-13.
        assert_eq!(difficulty_of("000000000e9d97a1ab09fc381030b346cdd7a142ad57e6df0b46dc9bef6c7e2d"), 36);
        assert_eq!(difficulty_of("000006d8c378af1779d2feebc7603a125d99eca0ccf1085959b307f64e5dd358"), 21);
        assert_eq!(difficulty_of(&format!("002f{}", "f".repeat(60))), 10);
        assert_eq!(difficulty_of(&"0".repeat(64)), 256);
        assert_eq!(difficulty_of(&"f".repeat(64)), 0);
    }

    #[test]
    fn the_committed_target_is_the_third_element_of_the_first_nonce_tag() {
        let target = |tags: &[&[&str]]| committed_target(event(author(1), 1, 1, tags, "").view());
        assert_eq!(target(&[&["nonce", "776797", "20"], &["nonce", "1", "30"]]), Some(20));
        for tags in [&["nonce", "1"][..], &["nonce", "1", "+20"], &["nonce", "1", ""], &["nonce", "1", "x"], &["t"]] {
            assert_eq!(target(&[tags]), None, "{tags:?}");
        }
        assert_eq!(target(&[&["nonce", "1", "4294967296"]]), None);
    }
}
