//! Reads JSON: a simd-json tape with reused buffers, and a cursor over it.
//!
//! A message is parsed once, to the tape. Never to the DOM or through serde, which would hide duplicate keys. Valid
//! JSON that simd-json refuses is rewritten and parsed again.

mod rewrite;

use simd_json::{Buffers, ErrorType, INPUT_PADDING, Node, StaticNode, Tape};

/// How deeply a message may be nested. `["EVENT",{"tags":[[…]]}]` needs four levels; the rest is room for unknown keys.
pub(crate) const MAX_DEPTH: usize = 32;

/// The buffers of one thread, reused for every message.
pub struct Parser {
    input: Vec<u8>,
    buffers: Buffers,
    tape: Option<Tape<'static>>,
}

impl Default for Parser {
    fn default() -> Self {
        Self { input: Vec::new(), buffers: Buffers::with_max_depth(4096, MAX_DEPTH), tape: Some(Tape::null()) }
    }
}

/// Why a text is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is not one JSON value (RFC 8259), or not UTF-8.
    #[error("not valid JSON")]
    Invalid,
    /// Arrays and objects are nested too deeply.
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
}

impl Parser {
    /// Parses a copy of `text` and passes its root to `read`.
    ///
    /// # Errors
    /// When `text` is not one complete JSON value in UTF-8, or is nested deeper than 32 levels.
    pub fn parse<R>(&mut self, text: &[u8], read: impl FnOnce(Value<'_, '_>) -> R) -> Result<R, JsonError> {
        let (read, error) = match self.parse_once(text, read) {
            Ok(result) => return Ok(result),
            Err(refused) => refused,
        };
        let mut rewritten = Vec::new();
        if error == JsonError::TooDeep || !rewrite::rewrite(text, &mut rewritten) {
            return Err(error);
        }
        self.parse_once(&rewritten, read).map_err(|(_, error)| error)
    }

    /// Parses what simd-json accepts; returns `read` with the error where it does not.
    fn parse_once<R, F: FnOnce(Value<'_, '_>) -> R>(&mut self, text: &[u8], read: F) -> Result<R, (F, JsonError)> {
        self.input.clear();
        self.input.extend_from_slice(text);
        self.input.resize(text.len() + INPUT_PADDING, 0);
        let mut tape = self.tape.take().unwrap_or_else(Tape::null).reset();
        let parsed = simd_json::fill_tape_padded(&mut self.input, text.len(), &mut self.buffers, &mut tape);
        let result = match parsed {
            Ok(()) => Ok(read(Value { nodes: &tape.0 })),
            Err(error) if *error.error() == ErrorType::DepthLimitExceeded => Err((read, JsonError::TooDeep)),
            Err(_) => Err((read, JsonError::Invalid)),
        };
        self.tape = Some(tape.reset());
        if self.input.capacity() > KEEP_BYTES {
            self.release();
        }
        result
    }

    /// Frees the memory of an unusually large message.
    fn release(&mut self) {
        *self = Self::default();
    }
}

/// A thread keeps buffers up to this size. Larger messages are rare and not worth the memory.
const KEEP_BYTES: usize = 1 << 20;

/// One JSON value on the tape.
#[derive(Clone, Copy)]
pub struct Value<'t, 'i> {
    /// Begins with the node of this value and may extend past it.
    nodes: &'t [Node<'i>],
}

impl<'t, 'i> Value<'t, 'i> {
    /// The text of a string.
    #[must_use]
    pub fn as_str(self) -> Option<&'i str> {
        match self.nodes.first() {
            Some(Node::String(text)) => Some(text),
            _ => None,
        }
    }

    /// A number without a fraction, however it is written: `1000`, `1000.0` and `1e3` are the same.
    ///
    /// A number with a point or an exponent, or of more than 64 bits, is read as a double (RFC 8259 §6). One that does
    /// not fit in an i128 becomes the largest or smallest i128.
    #[must_use]
    pub fn as_integer(self) -> Option<i128> {
        match self.nodes.first() {
            Some(Node::Static(StaticNode::U64(number))) => Some((*number).into()),
            Some(Node::Static(StaticNode::I64(number))) => Some((*number).into()),
            Some(Node::Static(StaticNode::F64(number))) if number.fract() == 0.0 => Some(*number as i128),
            _ => None,
        }
    }

    /// `true` or `false`.
    #[must_use]
    pub fn as_bool(self) -> Option<bool> {
        match self.nodes.first() {
            Some(Node::Static(StaticNode::Bool(truth))) => Some(*truth),
            _ => None,
        }
    }

    /// Whether this is `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        matches!(self.nodes.first(), Some(Node::Static(StaticNode::Null)))
    }

    /// The elements of an array.
    #[must_use]
    pub fn as_array(self) -> Option<Elements<'t, 'i>> {
        match self.nodes.first() {
            Some(Node::Array { len, .. }) => Some(Elements { left: *len, nodes: &self.nodes[1..] }),
            _ => None,
        }
    }

    /// The keys and values of an object, in order, duplicates included.
    #[must_use]
    pub fn as_object(self) -> Option<Entries<'t, 'i>> {
        match self.nodes.first() {
            Some(Node::Object { len, .. }) => Some(Entries(Elements { left: 2 * *len, nodes: &self.nodes[1..] })),
            _ => None,
        }
    }

    /// How many nodes this value takes on the tape.
    fn width(self) -> usize {
        match self.nodes.first() {
            Some(Node::Array { count, .. } | Node::Object { count, .. }) => count + 1,
            _ => 1,
        }
    }
}

/// The elements of an array, in order.
#[derive(Clone)]
pub struct Elements<'t, 'i> {
    left: usize,
    nodes: &'t [Node<'i>],
}

impl<'t, 'i> Iterator for Elements<'t, 'i> {
    type Item = Value<'t, 'i>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let value = Value { nodes: self.nodes };
        self.nodes = self.nodes.get(value.width()..).unwrap_or_default();
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Elements<'_, '_> {}

/// The entries of an object, in order.
#[derive(Clone)]
pub struct Entries<'t, 'i>(Elements<'t, 'i>);

impl<'t, 'i> Iterator for Entries<'t, 'i> {
    type Item = (&'i str, Value<'t, 'i>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.next()?.as_str()?;
        Some((key, self.0.next()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_walks_nested_values_and_the_parser_is_reused() {
        let mut parser = Parser::default();
        for _ in 0..3 {
            let text = br#"[{"a":[1,[2],{}],"a":"x"},-1,1.0,1.5,18446744073709551615]"#;
            parser
                .parse(text, |root| {
                    let values: Vec<_> = root.as_array().expect("an array").collect();
                    assert_eq!(values.len(), 5);
                    let keys: Vec<_> = values[0].as_object().expect("an object").collect();
                    assert_eq!(keys.len(), 2);
                    assert_eq!(keys[0].1.as_array().expect("an array").len(), 3);
                    assert_eq!(keys[1].1.as_str(), Some("x"));
                    let numbers: Vec<_> = values[1..].iter().map(|v| v.as_integer()).collect();
                    assert_eq!(numbers, [Some(-1), Some(1), None, Some(u64::MAX.into())]);
                })
                .expect("valid JSON");
        }
    }

    #[test]
    fn what_is_not_json_is_an_error() {
        let mut parser = Parser::default();
        let deep = "[".repeat(40) + &"]".repeat(40);
        for text in ["", "[", "[1,]", "\u{feff}[]", "[1]x", "[\"\n\"]", "[01]", &deep] {
            assert!(parser.parse(text.as_bytes(), |_| ()).is_err(), "{text}");
        }
        assert!(parser.parse(b"[\"\xff\"]", |_| ()).is_err());
        assert!(parser.parse(b"[\"ok\"]", |_| ()).is_ok());
    }
}
