//! Sizes and durations with units: `max_bytes = "40 GiB"`, `ping_after_s = "25s"`. The unit of a key follows from its
//! name, so such a string is converted to a number before anything else sees it; plain numbers are left alone.

use toml::de::{DeTable, DeValue};

use super::error::Problem;

/// The unit of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    Bytes,
    Seconds,
    Milliseconds,
    Microseconds,
}

/// Keys whose name does not end in their unit: names from NIP-11, and the two numbers of a rate.
const NAMED: [(&str, Unit); 12] = [
    ("limits.max_message_length", Unit::Bytes),
    ("limits.created_at_lower_limit", Unit::Seconds),
    ("limits.created_at_upper_limit", Unit::Seconds),
    ("limits.ephemeral_max_age", Unit::Seconds),
    ("auth.window", Unit::Seconds),
    ("bytes.per_second", Unit::Bytes),
    ("bytes.burst", Unit::Bytes),
    ("cpu_us.per_second", Unit::Microseconds),
    ("cpu_us.burst", Unit::Microseconds),
    ("info.fees.subscription.period", Unit::Seconds),
    ("storage.retention.max_bytes", Unit::Bytes),
    ("storage.max_bytes_per_author", Unit::Bytes),
];

const SUFFIXES: [(&str, Unit); 4] =
    [("_bytes", Unit::Bytes), ("_s", Unit::Seconds), ("_ms", Unit::Milliseconds), ("_us", Unit::Microseconds)];

const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// In microseconds.
const TIMES: [(&str, u64); 8] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
    ("w", 604_800_000_000),
    ("y", 31_536_000_000_000),
];

impl Unit {
    fn of(path: &str) -> Option<Self> {
        let is_named = |name: &str| path == name || path.strip_suffix(name).is_some_and(|before| before.ends_with('.'));
        let named = NAMED.iter().find(|(name, _)| is_named(name));
        named.or_else(|| SUFFIXES.iter().find(|(suffix, _)| path.ends_with(suffix))).map(|(_, unit)| *unit)
    }

    /// The size of this unit in bytes or microseconds.
    const fn factor(self) -> u64 {
        match self {
            Self::Bytes | Self::Microseconds => 1,
            Self::Milliseconds => 1_000,
            Self::Seconds => 1_000_000,
        }
    }

    const fn form(self) -> &'static str {
        match self {
            Self::Bytes => "a number of bytes, or a string such as \"40 GiB\" (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB)",
            Self::Seconds => "a number of seconds, or a string such as \"90s\" (us, ms, s, m, h, d, w, y)",
            Self::Milliseconds => "a number of milliseconds, or a string such as \"250ms\" (us, ms, s, m, h, d, w, y)",
            Self::Microseconds => "a number of microseconds, or a string such as \"300us\" (us, ms, s, m, h, d, w, y)",
        }
    }

    /// Converts a string to a number of this unit.
    ///
    /// # Errors
    /// With what to write instead.
    fn read(self, text: &str) -> Result<u64, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = (&text[..digits], text[digits..].trim_start());
        let units: &[(&str, u64)] = if self == Self::Bytes { &SIZES } else { &TIMES };
        let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        let wrong = || format!("`{text}` is not {}", self.form());
        let total = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
        let total = total.ok_or_else(wrong)?;
        if !total.is_multiple_of(self.factor()) {
            return Err(format!("`{text}` is not a whole number of {self:?}").to_lowercase());
        }
        // TOML integers are signed.
        let count = total / self.factor();
        if count <= i64::MAX as u64 { Ok(count) } else { Err(wrong()) }
    }
}

/// The strings in a table that stand for a number: byte offset and the digits of the number.
///
/// # Errors
/// With every string that its key does not accept.
pub fn numbers(text: &str, table: &DeTable<'_>) -> Result<Vec<(usize, String)>, Vec<Problem>> {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    in_table(text, "", table, &mut |at, path, said| {
        let Some(unit) = Unit::of(path) else { return };
        match unit.read(said) {
            Ok(number) => found.push((at, number.to_string())),
            Err(wrong) => problems.push(Problem::at(text, at, path.into(), wrong)),
        }
    });
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

fn in_table(text: &str, prefix: &str, table: &DeTable<'_>, visit: &mut impl FnMut(usize, &str, &str)) {
    for (key, value) in table {
        in_value(text, &format!("{prefix}{}", key.get_ref()), value.span().start, value.get_ref(), visit);
    }
}

fn in_value(text: &str, path: &str, at: usize, value: &DeValue<'_>, visit: &mut impl FnMut(usize, &str, &str)) {
    match value {
        DeValue::String(said) => visit(at, path, said),
        DeValue::Table(inner) => in_table(text, &format!("{path}."), inner, visit),
        DeValue::Array(values) => {
            values.iter().for_each(|value| in_value(text, path, value.span().start, value.get_ref(), visit));
        }
        _ => {}
    }
}

/// Replaces the strings that [`numbers`] found by their numbers.
pub fn replace<'i>(table: &mut DeTable<'i>, numbers: &'i [(usize, String)]) {
    for (_, value) in table.iter_mut() {
        replace_in(value.span().start, value.get_mut(), numbers);
    }
}

fn replace_in<'i>(at: usize, value: &mut DeValue<'i>, numbers: &'i [(usize, String)]) {
    match value {
        DeValue::String(_) => {
            if let Some((_, digits)) = numbers.iter().find(|(place, _)| *place == at) {
                *value = DeValue::parse(digits).expect("digits are a TOML value").into_inner();
            }
        }
        DeValue::Table(inner) => replace(inner, numbers),
        DeValue::Array(values) => {
            values.iter_mut().for_each(|value| replace_in(value.span().start, value.get_mut(), numbers));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn sizes_and_times_become_the_unit_of_their_key() {
        let config = Config::parse(
            "weir.toml",
            "[server]\nping_after_s = \"2m\"\noutbox_bytes = \"9 MiB\"\n[storage]\nmax_bytes = \"40GiB\"\n\
             [[storage.retention]]\nkinds = [1]\nmax_bytes = \"1 GB\"\n[auth]\nwindow = \"1h\"\n\
             [limits]\nmax_message_length = \"2 MiB\"\ncreated_at_upper_limit = 30\n\
             [pipeline]\ninline_us = \"1ms\"\ncommit_interval_ms = \"1s\"\n\
             [tiers.anonymous]\nbytes = { per_second = \"1 MiB\", burst = 33554432 }\n\
             [memory]\nfilters = { per_address_bytes = \"3 MiB\", total_bytes = \"1 GiB\" }\n",
        )
        .expect("a configuration");
        assert_eq!((config.server.ping_after_s, config.server.outbox_bytes), (120, 9 << 20));
        assert_eq!((config.storage.max_bytes, config.storage.retention[0].bounds.max_bytes), (40 << 30, 1_000_000_000));
        assert_eq!((config.auth.window, config.limits.created_at_upper_limit), (3_600, 30));
        assert_eq!(config.limits.max_message_length, 2 << 20);
        assert_eq!((config.pipeline.inline_us, config.pipeline.commit_interval_ms), (1_000, 1_000));
        assert_eq!(config.tiers.anonymous.bytes, crate::policy::Rate::new(1 << 20, 32 << 20));
        assert_eq!(config.memory.filters, crate::ledger::Bound { per_address_bytes: 3 << 20, total_bytes: 1 << 30 });
    }

    /// The comments say which keys these are.
    #[test]
    fn every_key_of_the_sample_file_that_is_a_size_or_a_time_takes_a_unit() {
        let words = ["bytes", "Bytes", "seconds", "Seconds", "milliseconds", "Milliseconds", "Microseconds"];
        // Counts of other things, whose comments mention sizes or times, and sizes in tables of their own.
        let others =
            ["server.max_half_open", "server.path", "plugin.command", "policy.kind_limits", "rates.exempt_addresses"];
        let (mut section, mut comment, mut units) = (String::new(), String::new(), 0);
        for line in include_str!("../../config/weir.toml").lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.into();
            } else if let Some(text) = line.strip_prefix('#') {
                comment.push_str(text.split(". ").next().unwrap_or_default());
            } else if let Some((key, value)) = line.split_once(" = ") {
                let path = format!("{section}.{key}");
                let first = comment.split(['.', ':', ',']).next().unwrap_or_default();
                let is_number = value.chars().all(|c| c.is_ascii_digit());
                let is_meant = is_number && first.split_whitespace().any(|word| words.contains(&word));
                let has_unit = super::Unit::of(&path).is_some();
                assert!(has_unit || !is_meant || others.contains(&&*path), "{path}: {first}");
                units += usize::from(has_unit && is_number);
                comment.clear();
            }
        }
        assert!(units > 30, "only {units} keys with a unit were found");
    }

    #[test]
    fn a_size_or_time_that_its_key_does_not_accept_is_reported_with_its_place() {
        let told = |text: &str| Config::parse("weir.toml", text).expect_err("a fault").to_string();
        assert_eq!(
            told("[storage]\nmax_bytes = \"40 gigs\"\n[server]\nping_after_s = \"1500ms\"\n"),
            "weir.toml:2:13: storage.max_bytes: `40 gigs` is not a number of bytes, or a string such as \"40 GiB\" \
             (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB)\n\
             weir.toml:4:16: server.ping_after_s: `1500ms` is not a whole number of seconds"
        );
        for wrong in ["", "GiB", "-1 GiB", "1.5 GiB", "99999999999 TiB", "1 s", "9223372036854775808"] {
            assert!(
                told(&format!("[storage]\nmax_bytes = \"{wrong}\"\n")).contains("is not a number of bytes"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn strings_of_other_keys_stay_strings() {
        let config = Config::parse("weir.toml", "[info]\nname = \"5 GiB\"\n").expect("a configuration");
        assert_eq!(config.info.name, "5 GiB");
    }
}
