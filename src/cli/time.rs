//! Parses and prints times for operators. All of them are in UTC.

use jiff::civil::{Date, DateTime, time};
use jiff::tz::TimeZone;

use crate::nostr::Timestamp;

const DATE: &str = "2026-11-28";

/// Parses a time: `2026-11-28` (the end of that day), `2026-11-28T14:00`, the same with an offset such as `Z` or
/// `+02:00`, or unix seconds.
///
/// # Errors
/// When the text has none of these forms.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Timestamp(seconds));
    }
    let utc = |time: DateTime| TimeZone::UTC.to_timestamp(time);
    // The date parser ignores a time of day that follows the date.
    let read = match text.parse::<Date>() {
        Ok(date) if text.len() == DATE.len() => utc(date.to_datetime(time(23, 59, 59, 0))),
        _ => text.parse::<jiff::Timestamp>().or_else(|_| text.parse::<DateTime>().and_then(utc)),
    };
    let seconds = read.ok().and_then(|time| u64::try_from(time.as_second()).ok());
    let wrong =
        || format!("`{text}` is not a time: use 2026-11-28, 2026-11-28T14:00, 2026-11-28T14:00:00Z or unix seconds");
    seconds.map(Timestamp).ok_or_else(wrong)
}

/// Formats a time to the second, such as `2026-11-28 14:00:00`.
pub fn display(time: Timestamp) -> String {
    let time_of = i64::try_from(time.0).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time_of.map_or_else(|| time.0.to_string(), |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_parsed_in_every_documented_form() {
        let read = |text: &str| parse(text).map(|time| time.0);
        assert_eq!(read("1795000000"), Ok(1_795_000_000));
        assert_eq!(read("1970-01-02"), Ok(2 * 86_400 - 1), "the end of that day");
        assert_eq!(read("1970-01-02T01:00"), Ok(86_400 + 3_600));
        assert_eq!(read("1970-01-02 01:00:30"), Ok(86_400 + 3_630));
        assert_eq!(read("1970-01-02T01:00:00Z"), Ok(86_400 + 3_600));
        assert_eq!(read("1970-01-02T01:00:00+01:00"), Ok(86_400));
        for wrong in ["", "yesterday", "1969-12-31", "2026-13-01", "2026-11-31", "-5"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_printed_in_utc_and_those_past_any_calendar_as_seconds() {
        assert_eq!(display(Timestamp(86_400 + 3_630)), "1970-01-02 01:00:30");
        assert_eq!(display(Timestamp(u64::MAX)), u64::MAX.to_string());
    }
}
