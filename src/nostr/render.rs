//! JSON out: the NIP-01 serialization that is hashed, and the canonical JSON that is sent.
//!
//! Both use one writer for strings, so what is sent parses back to what was hashed (INV-6).

use std::cell::RefCell;

use super::event::EventView;
use super::hex;
use super::tag::{TagValue, Tags};

/// Bytes looked at together when searching for one that needs an escape.
const STRIDE: usize = 32;

/// A serialization scratch keeps at most this many bytes between events.
const KEEP_BYTES: usize = 1 << 20;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends this thread's empty buffer.
pub fn with_scratch<R>(work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        let result = work(scratch);
        if scratch.capacity() > KEEP_BYTES {
            *scratch = Vec::new();
        }
        result
    })
}

/// Appends `[0,<pubkey>,<created_at>,<kind>,<tags>,<content>]` (NIP-01).
pub fn serialization(event: EventView<'_>, out: &mut Vec<u8>) {
    out.reserve(event.record().len() * 2);
    out.extend_from_slice(b"[0,\"");
    hex::append(event.pubkey_bytes(), out);
    out.extend_from_slice(b"\",");
    number(event.created_at().0, out);
    out.push(b',');
    number(event.kind().0.into(), out);
    out.push(b',');
    tags(event.tags(), out);
    out.push(b',');
    string(event.content(), out);
    out.push(b']');
}

/// Appends the event as a JSON object.
pub fn json(event: EventView<'_>, out: &mut Vec<u8>) {
    out.reserve(event.record().len() + 512);
    out.extend_from_slice(b"{\"id\":\"");
    hex::append(event.id_bytes(), out);
    out.extend_from_slice(b"\",\"pubkey\":\"");
    hex::append(event.pubkey_bytes(), out);
    out.extend_from_slice(b"\",\"created_at\":");
    number(event.created_at().0, out);
    out.extend_from_slice(b",\"kind\":");
    number(event.kind().0.into(), out);
    out.extend_from_slice(b",\"tags\":");
    tags(event.tags(), out);
    out.extend_from_slice(b",\"content\":");
    string(event.content(), out);
    out.extend_from_slice(b",\"sig\":\"");
    hex::append(event.signature_bytes(), out);
    out.extend_from_slice(b"\"}");
}

fn tags(tags: Tags<'_>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, tag) in tags.enumerate() {
        out.extend_from_slice(if index == 0 { b"[" } else { b",[" });
        value(tag.name(), out);
        for element in tag.rest() {
            out.push(b',');
            value(element, out);
        }
        out.push(b']');
    }
    out.push(b']');
}

fn value(value: TagValue<'_>, out: &mut Vec<u8>) {
    match value {
        TagValue::Text(text) => string(text, out),
        TagValue::Hex(bytes) => {
            out.push(b'"');
            hex::append(bytes, out);
            out.push(b'"');
        }
    }
}

/// Appends `number` in decimal.
pub fn number(mut number: u64, out: &mut Vec<u8>) {
    // 20 digits hold u64::MAX.
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends `text` as a JSON string with NIP-01's escapes: the seven it lists, lower-case `\u00xx` for the other
/// control characters, everything else as it is.
pub fn string(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut strides = text.chunks_exact(STRIDE);
    for stride in &mut strides {
        // A fixed-size fold without branches: the compiler turns it into vector instructions.
        let special = stride.iter().fold(false, |any, &byte| any | needs_escape(byte));
        if special {
            escape(stride, out);
        } else {
            out.extend_from_slice(stride);
        }
    }
    escape(strides.remainder(), out);
    out.push(b'"');
}

const fn needs_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// Appends a few bytes one run at a time.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    let mut start = 0;
    for (index, &byte) in text.iter().enumerate() {
        if !needs_escape(byte) {
            continue;
        }
        out.extend_from_slice(&text[start..index]);
        start = index + 1;
        let short = match byte {
            b'\n' => b'n',
            b'"' => b'"',
            b'\\' => b'\\',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => {
                out.extend_from_slice(b"\\u00");
                hex::append(&[byte], out);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    out.extend_from_slice(&text[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> String {
        let mut out = Vec::new();
        string(text.as_bytes(), &mut out);
        String::from_utf8(out).expect("UTF-8 in, UTF-8 out")
    }

    #[test]
    fn strings_carry_exactly_the_escapes_of_nip_01() {
        assert_eq!(rendered("\n\"\\\r\t\u{8}\u{c}"), r#""\n\"\\\r\t\b\f""#);
        assert_eq!(rendered("\u{0}\u{1f}\u{7f}/\u{2028}\u{fdd1}"), "\"\\u0000\\u001f\u{7f}/\u{2028}\u{fdd1}\"");
        let long = "x".repeat(31) + "\n" + &"é".repeat(40) + "\"";
        assert_eq!(rendered(&long), format!("\"{}\\n{}\\\"\"", "x".repeat(31), "é".repeat(40)));
    }

    #[test]
    fn numbers_are_decimal() {
        for value in [0, 7, 10, 1_700_000_000, u64::MAX] {
            let mut out = Vec::new();
            number(value, &mut out);
            assert_eq!(String::from_utf8(out).expect("digits"), value.to_string());
        }
    }
}
