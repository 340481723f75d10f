//! One event on its way to the corpus: the NIP-01 serialization, its id, and the JSON line without the signature.
//!
//! It must never sign: that is the expensive part, done by many threads afterwards.

use sha2::{Digest, Sha256};

/// Which key signs a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The author of this rank in the corpus.
    Author(u32),
    /// A key used once, as gift wraps are (NIP-59); the number names it.
    Once(u64),
}

/// An event that lacks only its signature.
#[derive(Clone, Debug)]
pub struct Draft {
    /// SHA-256 of the NIP-01 serialization.
    pub id: [u8; 32],
    /// The key that must sign it.
    pub signer: Signer,
    /// The JSON up to and including `"sig":"`.
    pub json: Vec<u8>,
}

/// The fields an event is made of, with `tags` and `content` already written as JSON.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    /// 64 lower-case hex digits.
    pub pubkey: &'a str,
    /// Unix seconds.
    pub created_at: u64,
    /// 0..=65535.
    pub kind: u16,
    /// A JSON array of arrays of strings.
    pub tags: &'a str,
    /// A JSON string with its quotes.
    pub content: &'a str,
}

impl Draft {
    /// Hashes the serialization `[0,pubkey,created_at,kind,tags,content]` (NIP-01) and lays out the line.
    pub fn new(signer: Signer, fields: Fields<'_>) -> Self {
        let Fields { pubkey, created_at, kind, tags, content } = fields;
        let body = format!("[0,\"{pubkey}\",{created_at},{kind},{tags},{content}]");
        let id: [u8; 32] = Sha256::digest(body.as_bytes()).into();
        let mut json = Vec::with_capacity(body.len() + 280);
        let text = format!(
            "{{\"id\":\"{}\",\"pubkey\":\"{pubkey}\",\"created_at\":{created_at},\"kind\":{kind},\"tags\":{tags},\"content\":{content},\"sig\":\"",
            faster_hex::hex_string(&id)
        );
        json.extend_from_slice(text.as_bytes());
        Self { id, signer, json }
    }
}

/// Appends `text` as a JSON string with exactly the escapes that NIP-01 names.
pub fn push_json_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// A `tags` array being written.
#[derive(Clone, Debug)]
pub struct Tags {
    json: String,
}

impl Tags {
    /// An empty array.
    pub fn new() -> Self {
        Self { json: String::from("[") }
    }

    /// Appends one tag.
    pub fn push(&mut self, elements: &[&str]) {
        if self.json.len() > 1 {
            self.json.push(',');
        }
        for (position, element) in elements.iter().enumerate() {
            self.json.push(if position == 0 { '[' } else { ',' });
            push_json_string(element, &mut self.json);
        }
        self.json.push(']');
    }

    /// The finished array.
    pub fn finish(mut self) -> String {
        self.json.push(']');
        self.json
    }
}

impl Default for Tags {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_written_as_a_json_array_of_arrays() {
        let mut tags = Tags::new();
        tags.push(&["e", "ab", "", "reply"]);
        tags.push(&["t", "a\"b"]);
        assert_eq!(tags.finish(), r#"[["e","ab","","reply"],["t","a\"b"]]"#);
        assert_eq!(Tags::new().finish(), "[]");
    }

    #[test]
    fn the_id_is_the_hash_of_the_nip_01_serialization() {
        let fields = Fields { pubkey: "aa", created_at: 1, kind: 1, tags: "[]", content: "\"x\"" };
        let draft = Draft::new(Signer::Author(0), fields);
        let expected: [u8; 32] = Sha256::digest(b"[0,\"aa\",1,1,[],\"x\"]").into();
        assert_eq!(draft.id, expected);
    }
}
