//! Lower-case hexadecimal, the only form that NIP-01 knows. Never accepts upper case or prefixes.

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
    out.reserve(2 * bytes.len());
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    blocks.iter().for_each(|block| out.extend_from_slice(digits(block).as_flattened()));
    rest.iter().for_each(|byte| out.extend_from_slice(digits(&[*byte]).as_flattened()));
}

/// Bytes encoded at once: their digits fill two registers of SSE2.
const BLOCK: usize = 16;

/// The two digits of each byte. Computed rather than looked up, so that the compiler can vectorize it.
#[inline]
fn digits<const N: usize>(bytes: &[u8; N]) -> [[u8; 2]; N] {
    let digit = |nibble: u8| nibble + if nibble > 9 { b'a' - 10 } else { b'0' };
    bytes.map(|byte| [digit(byte >> 4), digit(byte & 15)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_appended_as_its_two_digits() {
        let bytes: Vec<u8> = (0..=u8::MAX).chain(0..37).collect();
        for from in 0..40 {
            let mut out = b"kept".to_vec();
            append(&bytes[from..], &mut out);
            let expected: String = bytes[from..].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(String::from_utf8(out).expect("digits"), format!("kept{expected}"));
        }
    }
}
