//! HyperLogLog registers that count distinct authors (NIP-45). Clients merge those of several relays.
//!
//! A relay only fills registers; it never makes an estimate. Which bytes of an author's key count depends on the
//! filter, so that nobody can choose a key that distorts every count.

use sha2::{Digest, Sha256};

use super::filter::Filter;
use super::hex;
use super::tag::TagElement;
use super::types::Pubkey;

/// The number of registers in NIP-45.
pub const REGISTERS: usize = 256;

/// The registers of one count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hll {
    registers: [u8; REGISTERS],
    offset: usize,
}

impl Hll {
    /// Empty registers for counting `filter`; `None` if NIP-45 defines no offset for it.
    ///
    /// NIP-45 derives the offset from the first value of the first `#x` in the JSON. A [`Filter`] keeps no order of
    /// keys or values, so it must have exactly one `#x` with exactly one value, as every query that NIP-45 names does.
    #[must_use]
    pub fn for_filter(filter: &Filter) -> Option<Self> {
        let [tag] = &*filter.tags else { return None };
        let [value] = &*tag.values else { return None };
        (!tag.all).then(|| Self::new(offset(value.view())))
    }

    fn new(offset: usize) -> Self {
        Self { registers: [0; REGISTERS], offset }
    }

    /// Counts the author of an event that matched. Counting one twice changes nothing.
    pub fn add(&mut self, author: &Pubkey) {
        let (register, rest) = (author.0[self.offset], &author.0[self.offset + 1..]);
        // The offset is at most 23, so at least 8 bytes are left. Only 8 count, since nobody gets to see 64 zero bits.
        let bits = rest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes).leading_zeros());
        let rank = bits as u8 + 1;
        let held = &mut self.registers[usize::from(register)];
        *held = rank.max(*held);
    }

    /// The registers, as counted.
    #[must_use]
    pub const fn registers(&self) -> &[u8; REGISTERS] {
        &self.registers
    }
}

/// The offset into an author's key, 8 to 23: 8 more than the 33rd hexadecimal digit of the value that is counted.
fn offset(target: TagElement<'_>) -> usize {
    let bytes = match target {
        TagElement::Hex(bytes) => *bytes,
        TagElement::Text(text) => address_author(text).unwrap_or_else(|| Sha256::digest(text).into()),
    };
    usize::from(bytes[16] >> 4) + 8
}

/// The author of an address `kind:pubkey:d`.
fn address_author(text: &[u8]) -> Option<[u8; 32]> {
    let mut parts = text.splitn(3, |byte| *byte == b':');
    let (kind, author, _d) = (parts.next()?, parts.next()?, parts.next()?);
    std::str::from_utf8(kind).ok()?.parse::<u16>().ok()?;
    hex::decode(author)
}

#[cfg(test)]
mod tests {
    use super::super::filter::ParseOptions;
    use super::super::json::Parser;
    use super::*;

    fn hll(filter: &str) -> Option<Hll> {
        let options = ParseOptions { and_filters: true };
        Hll::for_filter(&Filter::parse(&mut Parser::default(), filter.as_bytes(), options).expect("a filter"))
    }

    /// A target whose 33rd digit is `digit`, and whose 32nd and 34th are not.
    fn target(digit: char) -> String {
        format!("{}{digit}{}", "3".repeat(32), "5".repeat(31))
    }

    #[test]
    fn the_offset_is_eight_more_than_the_33rd_digit_of_the_target() {
        for (digit, offset) in [('0', 8), ('9', 17), ('a', 18), ('f', 23)] {
            let target = target(digit);
            assert_eq!(hll(&format!(r##"{{"#e":["{target}"],"kinds":[7]}}"##)), Some(Hll::new(offset)));
            assert_eq!(hll(&format!(r##"{{"#a":["30023:{target}:a:b"]}}"##)), Some(Hll::new(offset)));
            assert_eq!(hll(&format!(r##"{{"#a":["10002:{target}:"]}}"##)), Some(Hll::new(offset)));
        }
        // SHA-256 of "abc" (FIPS 180-2, B.1) is ba7816bf 8f01cfea 414140de 5dae2223 b00361a3 ...: digit b.
        assert_eq!(hll(r##"{"#t":["abc"]}"##), Some(Hll::new(19)));
    }

    #[test]
    fn only_one_tag_condition_with_one_value_is_counted() {
        let (one, other) = (target('1'), target('2'));
        assert_eq!(hll(r#"{"kinds":[1]}"#), None);
        assert_eq!(hll(&format!(r##"{{"#e":["{one}","{other}"]}}"##)), None);
        assert_eq!(hll(&format!(r##"{{"#e":["{one}"],"#p":["{other}"]}}"##)), None);
        assert_eq!(hll(&format!(r##"{{"&p":["{one}"]}}"##)), None);
        assert_eq!(hll(r##"{"#p":[]}"##), None);
    }

    #[test]
    fn a_register_holds_one_more_than_the_most_zero_bits_seen_for_it() {
        let mut count = hll(&format!(r##"{{"#p":["{}"]}}"##, target('2'))).expect("eligible");
        let author = |register: u8, next: [u8; 3]| {
            let mut key = [0xff; 32];
            key[10] = register;
            key[11..14].copy_from_slice(&next);
            Pubkey(key)
        };
        let mut expected = [0; REGISTERS];
        for (register, next, rank) in
            [(5, [0x80, 0, 0], 1), (5, [0x08, 0, 0], 5), (5, [0x10, 0, 0], 5), (255, [0; 3], 25)]
        {
            count.add(&author(register, next));
            expected[usize::from(register)] = rank;
            assert_eq!(count.registers(), &expected);
        }
        let before = count.clone();
        count.add(&author(255, [0; 3]));
        assert_eq!(count, before);
    }

    #[test]
    fn the_larger_of_each_register_of_two_counts_is_the_count_of_both() {
        let mut keys = (0..2_000_u32).map(|number| Pubkey(Sha256::digest(number.to_le_bytes()).into()));
        let empty = Hll::new(12);
        let (mut first, mut second, mut both) = (empty.clone(), empty.clone(), empty);
        for (at, key) in keys.by_ref().enumerate() {
            if at % 3 == 0 {
                first.add(&key)
            } else {
                second.add(&key)
            }
            both.add(&key);
        }
        // As NIP-45 has clients merge the counts of several relays.
        let merged = std::array::from_fn(|at| first.registers[at].max(second.registers[at]));
        assert_eq!(merged, both.registers);
        // The estimate of Flajolet et al. (2007), figure 3, with the correction of small counts.
        let sum: f64 = both.registers.iter().map(|rank| 0.5_f64.powi(i32::from(*rank))).sum();
        let estimate = 0.7213 / (1.0 + 1.079 / 256.0) * 256.0 * 256.0 / sum;
        assert!((1_700.0..2_300.0).contains(&estimate), "{estimate}");
    }

    #[test]
    fn a_key_that_ends_in_zeros_fits_a_register() {
        let mut count = Hll::new(23);
        count.add(&Pubkey([0; 32]));
        assert_eq!(count.registers()[0], 65);
    }
}
