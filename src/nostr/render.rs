//! Writes JSON: the NIP-01 serialization, which is hashed, and the canonical JSON, which is sent.
//!
//! Both write strings with the same function, so what is sent parses back to what was hashed (INV-6).

use std::cell::RefCell;

use sha2::{Digest, Sha256};

use super::hex;
use super::tag::{TagElement, Tags};
use super::types::EventId;
use super::view::EventView;

/// Bytes searched at once for one that needs an escape: a register of SSE2.
const STRIDE: usize = 16;

/// The same with AVX-512.
const WIDE: usize = 64;

/// The most bytes that a thread keeps for its next serialization.
const KEEP_BYTES: usize = 1 << 20;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends this thread's buffer, empty.
fn with_scratch<R>(work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        let result = work(scratch);
        if scratch.capacity() > KEEP_BYTES {
            *scratch = Vec::new();
        }
        result
    })
}

impl EventView<'_> {
    /// SHA-256 of the NIP-01 serialization.
    #[must_use]
    pub fn hash(self) -> EventId {
        with_scratch(|scratch| {
            serialization(self, scratch);
            EventId(Sha256::digest(&*scratch).into())
        })
    }

    /// Appends the canonical JSON: keys in NIP-01's order, no white space, NIP-01's escapes.
    pub fn write_json(self, out: &mut Vec<u8>) {
        out.reserve(self.record().len() + 512);
        out.extend_from_slice(b"{\"id\":\"");
        hex::append(self.id_bytes(), out);
        out.extend_from_slice(b"\",\"pubkey\":\"");
        hex::append(self.pubkey_bytes(), out);
        out.extend_from_slice(b"\",\"created_at\":");
        number(self.created_at().0, out);
        out.extend_from_slice(b",\"kind\":");
        number(self.kind().0.into(), out);
        out.extend_from_slice(b",\"tags\":");
        tags(self.tags(), out);
        out.extend_from_slice(b",\"content\":");
        string(self.content(), out);
        out.extend_from_slice(b",\"sig\":\"");
        hex::append(self.signature_bytes(), out);
        out.extend_from_slice(b"\"}");
    }

    /// Appends the same JSON with its keys in alphabetical order, as strfry gives events to plugins.
    pub fn write_sorted_json(self, out: &mut Vec<u8>) {
        out.reserve(self.record().len() + 512);
        out.extend_from_slice(b"{\"content\":");
        string(self.content(), out);
        out.extend_from_slice(b",\"created_at\":");
        number(self.created_at().0, out);
        out.extend_from_slice(b",\"id\":\"");
        hex::append(self.id_bytes(), out);
        out.extend_from_slice(b"\",\"kind\":");
        number(self.kind().0.into(), out);
        out.extend_from_slice(b",\"pubkey\":\"");
        hex::append(self.pubkey_bytes(), out);
        out.extend_from_slice(b"\",\"sig\":\"");
        hex::append(self.signature_bytes(), out);
        out.extend_from_slice(b"\",\"tags\":");
        tags(self.tags(), out);
        out.push(b'}');
    }

    /// The canonical JSON.
    #[must_use]
    pub fn to_json(self) -> String {
        let mut out = Vec::new();
        self.write_json(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// Appends `[0,<pubkey>,<created_at>,<kind>,<tags>,<content>]` (NIP-01).
fn serialization(event: EventView<'_>, out: &mut Vec<u8>) {
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

fn tags(tags: Tags<'_>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, tag) in tags.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.push(b'[');
        value(tag.name(), out);
        for element in tag.rest() {
            out.push(b',');
            value(element, out);
        }
        out.push(b']');
    }
    out.push(b']');
}

fn value(value: TagElement<'_>, out: &mut Vec<u8>) {
    match value {
        TagElement::Text(text) => string(text, out),
        TagElement::Hex(bytes) => {
            out.push(b'"');
            hex::append(bytes, out);
            out.push(b'"');
        }
    }
}

/// Appends `number` in decimal.
pub fn number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends `text` as a JSON string with NIP-01's escapes: the seven that it lists, `\u00xx` in lower case for the other
/// control characters, and everything else verbatim.
pub fn string(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2 + WIDE);
    out.push(b'"');
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512bw") {
        // SAFETY: the CPU has the feature that the function is compiled for.
        unsafe { wide(text, out) };
        out.push(b'"');
        return;
    }
    narrow(text, out);
    out.push(b'"');
}

/// Appends `text`, escaped, in steps of 64 bytes. The last step may have fewer; for most strings it is the only one.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw")]
fn wide(text: &[u8], out: &mut Vec<u8>) {
    use std::arch::x86_64::{
        _mm512_cmpeq_epi8_mask, _mm512_cmplt_epu8_mask, _mm512_maskz_loadu_epi8, _mm512_set1_epi8, _mm512_storeu_si512,
    };
    let mut rest = text;
    while !rest.is_empty() {
        let len = rest.len().min(WIDE);
        let mask = u64::MAX >> (WIDE - len);
        out.reserve(WIDE);
        // SAFETY: the load reads only the bytes that the mask selects, and they are in `rest`.
        let bytes = unsafe { _mm512_maskz_loadu_epi8(mask, rest.as_ptr().cast()) };
        // SAFETY: `reserve` made room for 64 bytes after the end.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().add(out.len()).cast(), bytes) };
        let special = _mm512_cmplt_epu8_mask(bytes, _mm512_set1_epi8(0x20))
            | _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'"' as i8))
            | _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'\\' as i8));
        let special = special & mask;
        let plain = if special == 0 { len } else { special.trailing_zeros() as usize };
        // SAFETY: the store wrote at least that many bytes after the end.
        unsafe { out.set_len(out.len() + plain) };
        rest = &rest[plain..];
        if special != 0 {
            escape(rest[0], out);
            rest = &rest[1..];
        }
    }
}

/// Appends `text`, escaped, in steps of 16 bytes.
fn narrow(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((stride, behind)) = rest.split_first_chunk() {
        rest = match escaped(stride, STRIDE, out) {
            // A predicted branch lets the CPU begin the next stride before it knows the result of this one.
            None => behind,
            Some(special) => &rest[special + 1..],
        };
    }
    while let Some(special) = escaped(&padded(rest), rest.len(), out) {
        rest = &rest[special + 1..];
    }
}

/// Appends the first `len` bytes of `stride`. Stops at a byte that needs an escape: appends the escape and returns the
/// position of that byte.
#[inline]
fn escaped(stride: &[u8; STRIDE], len: usize, out: &mut Vec<u8>) -> Option<usize> {
    let start = out.len();
    // All of it, before looking for escapes: a copy of a fixed size is a single move.
    out.extend_from_slice(stride);
    let specials = specials(stride) & ((1 << len) - 1);
    if specials == 0 {
        out.truncate(start + len);
        return None;
    }
    let special = specials.trailing_zeros() as usize;
    out.truncate(start + special);
    escape(stride[special], out);
    Some(special)
}

/// `tail`, which is shorter than a stride, followed by zeros. It is put together in registers: a load of bytes that
/// were stored in pieces would stall the CPU, and most strings in tags are short.
#[inline]
fn padded(tail: &[u8]) -> [u8; STRIDE] {
    let len = tail.len();
    let whole = if let (Some(first), Some(last)) = (tail.first_chunk(), tail.last_chunk()) {
        u128::from(u64::from_le_bytes(*first)) | u128::from(u64::from_le_bytes(*last)) << (8 * (len - 8))
    } else if let (Some(first), Some(last)) = (tail.first_chunk(), tail.last_chunk()) {
        (u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (8 * (len - 4))).into()
    } else {
        tail.iter().rev().fold(0, |whole: u32, byte| whole << 8 | u32::from(*byte)).into()
    };
    whole.to_le_bytes()
}

/// One bit for each byte that needs an escape; the lowest bit is the first byte's.
#[cfg(target_arch = "x86_64")]
fn specials(stride: &[u8; STRIDE]) -> u32 {
    // SAFETY: SSE2 is part of every x86-64.
    unsafe { specials_sse2(stride) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
fn specials_sse2(stride: &[u8; STRIDE]) -> u32 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    // SAFETY: the load reads the 16 bytes of `stride` and needs no alignment.
    let bytes = unsafe { _mm_loadu_si128(stride.as_ptr().cast()) };
    // A byte is below 0x20 if it is the smaller of itself and 0x1f.
    let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
    let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
    let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
    _mm_movemask_epi8(_mm_or_si128(control, _mm_or_si128(quote, backslash))) as u32
}

/// One bit for each byte that needs an escape; the lowest bit is the first byte's.
#[cfg(not(target_arch = "x86_64"))]
fn specials(stride: &[u8; STRIDE]) -> u32 {
    let bit = |(index, &byte): (usize, &u8)| u32::from(byte < 0x20 || byte == b'"' || byte == b'\\') << index;
    stride.iter().enumerate().map(bit).sum()
}

fn escape(byte: u8, out: &mut Vec<u8>) {
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
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
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

    /// The expected result, byte by byte.
    fn plain(text: &[u8]) -> Vec<u8> {
        let mut out = vec![b'"'];
        for &byte in text {
            if byte < 0x20 || byte == b'"' || byte == b'\\' { escape(byte, &mut out) } else { out.push(byte) }
        }
        out.push(b'"');
        out
    }

    #[test]
    fn a_byte_that_needs_an_escape_is_found_at_every_place() {
        for len in (0..50).chain([63, 64, 65, 130]) {
            for at in 0..len {
                for special in 0..=u8::MAX {
                    let mut text: Vec<u8> = (0..len).map(|place| b'a' + place as u8 % 26).collect();
                    text[at] = special;
                    text[len - 1 - at / 2] ^= special & 0x40;
                    let mut out = Vec::new();
                    string(&text, &mut out);
                    assert_eq!(out, plain(&text), "{special:#x} at {at} of {len}");
                    out.truncate(1);
                    narrow(&text, &mut out);
                    assert_eq!(out, plain(&text)[..out.len()], "{special:#x} at {at} of {len}, narrow");
                    assert_eq!(out.len() + 1, plain(&text).len());
                }
            }
        }
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
