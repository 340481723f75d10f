//! The binary record of an event: what the store holds and filters match on.
//!
//! Little-endian. JSON escapes in strings are resolved.
//!
//! | offset | bytes | field                                             |
//! |-------:|------:|---------------------------------------------------|
//! |      0 |    32 | id                                                |
//! |     32 |    32 | pubkey                                            |
//! |     64 |    64 | sig                                               |
//! |    128 |     6 | created_at, Unix seconds                          |
//! |    134 |     2 | kind                                              |
//! |    136 |     1 | flags, see [`flags`]                              |
//! |    137 |     3 | length of the tags in bytes                       |
//! |    140 |     … | tags                                              |
//! |      … |     … | content, UTF-8, to the end of the record          |
//!
//! The tags follow each other. A tag is the number of its elements as a varint, then the elements. An element is a
//! varint `h`, then its bytes:
//!
//! | `h`             | meaning                                                                  |
//! |-----------------|--------------------------------------------------------------------------|
//! | even            | `h / 2` bytes of UTF-8 follow                                            |
//! | 1               | 32 bytes follow, standing for 64 lower-case hexadecimal digits           |
//! | odd, 3 and more | nothing follows: the string `WORDS[(h - 3) / 2]`                         |
//!
//! Each string has only one encoding, so equal strings have equal bytes. Varints are LEB128 of at most 4 bytes.

/// Byte offsets of the fixed fields.
pub mod offset {
    /// The event id.
    pub const ID: usize = 0;
    /// The author.
    pub const PUBKEY: usize = ID + 32;
    /// The signature.
    pub const SIG: usize = PUBKEY + 32;
    /// `created_at`.
    pub const CREATED_AT: usize = SIG + 64;
    /// The kind.
    pub const KIND: usize = CREATED_AT + 6;
    /// The flags.
    pub const FLAGS: usize = KIND + 2;
    /// The length of the tags.
    pub const TAGS_LEN: usize = FLAGS + 1;
    /// The tags.
    pub const TAGS: usize = TAGS_LEN + 3;
}

const _: () = assert!(offset::TAGS == 140, "the table above names the offsets");

/// Bits of the flags byte: what can be known of the tags without reading them.
pub mod flags {
    /// There is an `expiration` tag (NIP-40).
    pub const EXPIRES: u8 = 1;
    /// There is a `-` tag (NIP-70).
    pub const PROTECTED: u8 = 2;
}

/// The most bytes that the tags of an event may take: their length is held in three bytes.
pub const MAX_TAGS_BYTES: usize = (1 << 24) - 1;

/// The strings that public events repeat most. A record holds each as one byte.
///
/// They are part of the format: append entries, never change or remove any. There can be 62, so that a code is one
/// byte.
pub const WORDS: [&str; 56] = [
    "e",
    "p",
    "a",
    "d",
    "t",
    "r",
    "q",
    "k",
    "g",
    "i",
    "l",
    "L",
    "m",
    "x",
    "u",
    "E",
    "A",
    "P",
    "K",
    "I",
    "h",
    "s",
    "-",
    "root",
    "reply",
    "mention",
    "wss://relay.damus.io",
    "wss://relay.damus.io/",
    "wss://nos.lol",
    "wss://nos.lol/",
    "wss://relay.primal.net",
    "wss://relay.primal.net/",
    "wss://relay.nostr.band",
    "wss://relay.nostr.band/",
    "wss://nostr.wine",
    "wss://nostr.wine/",
    "wss://relay.snort.social",
    "wss://nostr.mom",
    "wss://relay.nostr.bg",
    "wss://purplepag.es",
    "client",
    "alt",
    "title",
    "image",
    "published_at",
    "summary",
    "expiration",
    "nonce",
    "imeta",
    "emoji",
    "relay",
    "relays",
    "bolt11",
    "preimage",
    "description",
    "proxy",
];

const _: () = assert!(3 + 2 * (WORDS.len() - 1) < 128, "a word's code is one byte");

/// The header of an element that is a word.
pub const fn word_header(index: usize) -> u32 {
    3 + 2 * index as u32
}

/// The index of `text` in [`WORDS`].
pub fn word_index(text: &[u8]) -> Option<usize> {
    const LONGEST: usize = longest_word();
    if text.is_empty() || text.len() > LONGEST {
        return None;
    }
    WORDS.iter().position(|word| word.as_bytes() == text)
}

const fn longest_word() -> usize {
    let (mut index, mut longest) = (0, 0);
    while index < WORDS.len() {
        if WORDS[index].len() > longest {
            longest = WORDS[index].len();
        }
        index += 1;
    }
    longest
}

/// Appends `value` as LEB128.
pub fn put_varint(value: impl Into<u64>, out: &mut Vec<u8>) {
    let mut value = value.into();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a LEB128 number of at most four bytes, as in records, off the front of `bytes`.
pub fn take_varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0;
    for place in 0..4 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u32::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_return_what_was_put_and_refuse_five_bytes() {
        for value in [0_u32, 1, 127, 128, 16_383, 16_384, (1 << 28) - 1] {
            let mut bytes = Vec::new();
            put_varint(value, &mut bytes);
            assert_eq!(take_varint(&mut &bytes[..]), Some(value));
        }
        assert_eq!(take_varint(&mut &[0x80, 0x80, 0x80, 0x80, 1][..]), None);
        assert_eq!(take_varint(&mut &[0x80][..]), None);
    }

    #[test]
    fn no_word_is_listed_twice_or_looks_like_hex() {
        for (index, word) in WORDS.iter().enumerate() {
            assert_eq!(word_index(word.as_bytes()), Some(index), "{word}");
            assert!(!word.is_empty() && word.len() != 64);
        }
    }
}
