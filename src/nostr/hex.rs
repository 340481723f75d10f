//! Lower-case hexadecimal, the only form NIP-01 knows. Upper case and prefixes are never accepted.

use faster_hex::CheckCase;

/// Decodes exactly `2 * N` lower-case hexadecimal digits; `None` for anything else.
#[must_use]
pub fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    faster_hex::hex_decode_with_case(text, &mut bytes, CheckCase::Lower).ok()?;
    Some(bytes)
}

/// Decodes lower-case hexadecimal of any even length; `None` for anything else.
#[must_use]
pub fn decode_vec(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let mut bytes = vec![0; text.len() / 2];
    faster_hex::hex_decode_with_case(text, &mut bytes, CheckCase::Lower).ok()?;
    Some(bytes)
}

/// The lower-case hexadecimal of `bytes`.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    faster_hex::hex_string(bytes)
}

/// Appends the lower-case hexadecimal of `bytes` to `out`.
pub fn append(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + 2 * bytes.len(), 0);
    faster_hex::hex_encode(bytes, &mut out[start..]).expect("the destination was made twice as long as the source");
}
