//! Numbers, sizes, times and lists of kinds, as people read them.

use std::fmt::Display;

use crate::nostr::Kind;

/// A number with commas between its thousands.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and what it counts, in the plural unless it is one.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A size in the largest unit that it fills, with one digit behind the point where it is not whole.
pub fn bytes(bytes: u64) -> String {
    let Some((unit, factor)) = UNITS.into_iter().find(|(_, factor)| bytes >= *factor) else {
        return counted(bytes, "byte", "bytes");
    };
    if bytes.is_multiple_of(factor) {
        return format!("{} {unit}", bytes / factor);
    }
    format!("{:.1} {unit}", bytes as f64 / factor as f64)
}

const TIMES: [(&str, &str, u64); 5] = [
    ("year", "years", 31_536_000),
    ("day", "days", 86_400),
    ("hour", "hours", 3600),
    ("minute", "minutes", 60),
    ("second", "seconds", 1),
];

/// A time in the largest unit that divides it.
pub fn duration(seconds: u64) -> String {
    let divides = |(.., factor): &(&str, &str, u64)| seconds >= *factor && seconds.is_multiple_of(*factor);
    let (one, many, factor) = TIMES.into_iter().find(divides).unwrap_or(TIMES[4]);
    counted(seconds / factor, one, many)
}

/// How long ago something was, in the largest unit that has passed.
pub fn ago(seconds: u64) -> String {
    match TIMES.into_iter().find(|(.., factor)| seconds >= *factor) {
        Some((one, many, factor)) => counted(seconds / factor, one, many) + " ago",
        None => "just now".into(),
    }
}

/// A list in a sentence: `a, b and c`.
pub fn list<T: Display>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [only] => only.to_string(),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(ToString::to_string).collect();
            format!("{} and {last}", first.join(", "))
        }
    }
}

/// `kind 1` or `kinds 1, 7 and 30000–39999`, from ranges in their order.
pub fn kinds(ranges: &[(u16, u16)]) -> String {
    let texts: Vec<String> = ranges
        .iter()
        .map(|&(first, last)| if first == last { first.to_string() } else { format!("{first}–{last}") })
        .collect();
    let is_one = matches!(ranges, [(first, last)] if first == last);
    format!("{} {}", if is_one { "kind" } else { "kinds" }, list(&texts))
}

/// The ranges of kinds for which `holds`, which changes at `edges` alone.
pub fn ranges(edges: impl Iterator<Item = Kind>, holds: impl Fn(Kind) -> bool) -> Vec<(u16, u16)> {
    let mut starts: Vec<u16> = edges.map(|kind| kind.0).chain([0]).collect();
    starts.sort_unstable();
    starts.dedup();
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for (place, &first) in starts.iter().enumerate() {
        let last = starts.get(place + 1).map_or(u16::MAX, |next| next - 1);
        if !holds(Kind(first)) {
            continue;
        }
        match ranges.last_mut() {
            Some((_, end)) if u32::from(*end) + 1 == u32::from(first) => *end = last,
            _ => ranges.push((first, last)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::KindSet;

    #[test]
    fn numbers_sizes_and_times_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [1, 1023, 1024, 1536, 1 << 20, 5 << 40].map(bytes),
            ["1 byte", "1,023 bytes", "1 KiB", "1.5 KiB", "1 MiB", "5 TiB"]
        );
        assert_eq!(
            [0, 1, 60, 90, 900, 86_400, 604_800].map(duration),
            ["0 seconds", "1 second", "1 minute", "90 seconds", "15 minutes", "1 day", "7 days"]
        );
        assert_eq!(
            [0, 1, 59, 3599, 90_000].map(ago),
            ["just now", "1 second ago", "59 seconds ago", "59 minutes ago", "1 day ago"]
        );
        assert_eq!([&[][..], &[1], &[1, 2], &[1, 2, 3]].map(list), ["", "1", "1 and 2", "1, 2 and 3"]);
    }

    #[test]
    fn kinds_are_told_in_ranges_up_to_the_last_one() {
        let set = KindSet::of(&[3, 1, 2, 7, u16::MAX]);
        let held = ranges(set.edges(), |kind| set.contains(kind));
        assert_eq!(held, [(1, 3), (7, 7), (u16::MAX, u16::MAX)]);
        assert_eq!(kinds(&held), "kinds 1–3, 7 and 65535");
        assert_eq!(ranges(set.edges(), |kind| !set.contains(kind)), [(0, 0), (4, 6), (8, 65534)]);
        assert_eq!(ranges(std::iter::empty(), |_| true), [(0, u16::MAX)]);
        assert_eq!(kinds(&[(4, 4)]), "kind 4");
    }
}
