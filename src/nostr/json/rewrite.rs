//! Rewrites valid JSON that simd-json refuses so that it accepts it: numbers beyond 64 bits, and halves of surrogate
//! pairs.
//!
//! It is tried only after simd-json has refused a text. It must never make invalid JSON valid: each token is replaced
//! by one token, simd-json judges the result, and a token that is replaced is checked here first.

use std::io::Write as _;

use serde::de::IgnoredAny;

/// Replaces a number that is too large for a double. Of the numbers near the end of the range it is the shortest.
const BEYOND: f64 = 1e308;

/// Appends `text`, rewritten, to `out`. Returns whether anything was rewritten.
///
/// - An integer beyond 64 bits becomes the nearest double, and a number beyond the range of doubles [`BEYOND`].
///   (RFC 8259 §6 leaves the range to the reader.)
/// - A string with half a surrogate pair is no text (RFC 8259 §8.2). It becomes `false`, which no field that needs a
///   string accepts. In a key, U+FFFD replaces the half: no key that means anything contains it.
///
/// The result is at most a tenth longer than `text`.
pub fn rewrite(text: &[u8], out: &mut Vec<u8>) -> bool {
    let mut changed = false;
    let mut rest = text;
    while let Some(&first) = rest.first() {
        let (token, behind) = rest.split_at(token_len(first, rest));
        rest = behind;
        changed |= match first {
            b'"' => put_string(token, is_key(behind), out),
            b'-' | b'0'..=b'9' => put_number(token, out),
            _ => {
                out.extend_from_slice(token);
                false
            }
        };
    }
    changed
}

/// The length of the token that `text` begins with: a string, a number, or everything up to the next of these.
fn token_len(first: u8, text: &[u8]) -> usize {
    let end = match first {
        b'"' => return string_len(text),
        b'-' | b'0'..=b'9' => {
            text.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
        }
        _ => text.iter().position(|byte| matches!(byte, b'"' | b'-' | b'0'..=b'9')),
    };
    end.unwrap_or(text.len())
}

/// The length of the string that `text` begins with, including quotes; that of `text` if the string does not end.
fn string_len(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// Whether the text after a string makes it a key.
fn is_key(behind: &[u8]) -> bool {
    behind.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) == Some(&b':')
}

/// Whether `token` alone is valid JSON, whatever its number or string means.
fn is_json(token: &[u8]) -> bool {
    std::str::from_utf8(token).is_ok_and(|token| serde_json::from_str::<IgnoredAny>(token).is_ok())
}

fn put_number(token: &[u8], out: &mut Vec<u8>) -> bool {
    let text = std::str::from_utf8(token).unwrap_or_default();
    let fits = text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok();
    let nearest: f64 = text.parse().unwrap_or_default();
    let is_double = token.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) && nearest.is_finite();
    if fits || is_double || !is_json(token) {
        out.extend_from_slice(token);
        return false;
    }
    write!(out, "{:e}", nearest.clamp(-BEYOND, BEYOND)).expect("a Vec takes every byte");
    true
}

fn put_string(token: &[u8], is_key: bool, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.extend_from_slice(token);
    if !replace_halves(&mut out[start..]) {
        return false;
    }
    if !is_key && is_json(token) {
        out.truncate(start);
        out.extend_from_slice(b"false");
    }
    true
}

/// Overwrites every escape that is half of a surrogate pair with `\ufffd`. Returns whether there was one.
fn replace_halves(string: &mut [u8]) -> bool {
    let mut found = false;
    let mut at = 0;
    while at < string.len() {
        at += match (string[at], escaped_unit(&string[at..])) {
            (b'\\', Some(0xd800..=0xdbff)) if matches!(escaped_unit(&string[at + 6..]), Some(0xdc00..=0xdfff)) => 12,
            (b'\\', Some(0xd800..=0xdfff)) => {
                string[at + 2..at + 6].copy_from_slice(b"fffd");
                found = true;
                6
            }
            (b'\\', _) => 2,
            _ => 1,
        };
    }
    found
}

/// The UTF-16 unit of the `\u` escape that `text` begins with.
fn escaped_unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.first_chunk::<4>()?;
    digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)? as u16))
}

#[cfg(test)]
mod tests;
