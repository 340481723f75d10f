//! Parses filters, times and durations from command-line arguments.

use std::io::Read;
use std::sync::Arc;

use crate::nostr::json::Parser;
use crate::nostr::{Filter, FilterError, ParseOptions, Timestamp};
use crate::pipeline::now;

/// The operator may use every filter that weir supports.
const ALL_OPTIONS: ParseOptions = ParseOptions { and_filters: true };

/// The filters of an argument, at least one.
#[derive(Clone, Debug)]
pub struct Filters(pub Arc<[Filter]>);

impl Filters {
    /// The filter that matches everything.
    pub fn all() -> Self {
        Self([Filter::default()].into())
    }

    /// Whether any filter has no condition.
    pub fn has_empty(&self) -> bool {
        self.0.iter().any(|filter| Filter { limit: None, ..filter.clone() } == Filter::default())
    }

    /// The same filters, each restricted to this time window.
    pub fn within(self, since: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        let cut = |filter: &Filter| Filter {
            since: filter.since.max(since),
            until: [filter.until, until].into_iter().flatten().min(),
            ..filter.clone()
        };
        Self(self.0.iter().map(cut).collect())
    }
}

/// Parses one filter or an array of filters; `-` reads from standard input.
pub fn filters(text: &str) -> Result<Filters, String> {
    let mut input = String::new();
    let text = if text == "-" {
        std::io::stdin().read_to_string(&mut input).map_err(|error| error.to_string())?;
        // Skip a byte order mark.
        input.trim_start_matches('\u{feff}')
    } else {
        text
    };
    let read = Parser::default().parse(text.trim().as_bytes(), |root| {
        let filter = |value| Filter::from_value(value, ALL_OPTIONS);
        match root.as_array() {
            Some(list) => list.map(filter).collect::<Result<Arc<[Filter]>, FilterError>>(),
            None => filter(root).map(|filter| [filter].into()),
        }
    });
    let list = read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    if list.is_empty() { Err("the array contains no filter".into()) } else { Ok(Filters(list)) }
}

/// Parses a time: unix seconds, or an age such as `90d`.
pub fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Timestamp(seconds));
    }
    match duration(text) {
        Ok(ago) => Ok(Timestamp(now().0.saturating_sub(ago))),
        Err(_) => Err("expected unix seconds or an age with a unit (s, m, h, d, w), such as 90d".into()),
    }
}

/// Parses a duration such as `90d`, in seconds.
pub fn duration(text: &str) -> Result<u64, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];
    let read = |(unit, seconds): (&str, u64)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(seconds);
    let found = units.into_iter().find_map(read);
    found.ok_or_else(|| "expected a whole number with a unit (s, m, h, d, w), such as 90d".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_may_stand_alone_or_in_an_array() {
        let count = |text| filters(text).map(|filters| filters.0.len());
        assert_eq!(count("{}"), Ok(1));
        assert_eq!(count(r#" [{"kinds":[1]},{"limit":1}] "#), Ok(2));
        assert_eq!(count("[]"), Err("the array contains no filter".into()));
        assert_eq!(count(r#"{"kind":[1]}"#), Err("filter key \"kind\" is unknown".into()));
        assert!(count("{").is_err_and(|error| error.starts_with("not valid JSON")));
    }

    #[test]
    fn a_window_is_narrowed_never_widened() {
        let window = |text, since: Option<u64>, until: Option<u64>| {
            let cut = filters(text).expect("a filter").within(since.map(Timestamp), until.map(Timestamp));
            (cut.0[0].since.map(|time| time.0), cut.0[0].until.map(|time| time.0))
        };
        assert_eq!(window("{}", None, None), (None, None));
        assert_eq!(window("{}", Some(3), Some(9)), (Some(3), Some(9)));
        assert_eq!(window(r#"{"since":5,"until":6}"#, Some(3), Some(9)), (Some(5), Some(6)));
        assert_eq!(window(r#"{"since":1,"until":99}"#, Some(3), Some(9)), (Some(3), Some(9)));
    }

    #[test]
    fn a_filter_without_a_condition_is_empty_whatever_its_limit() {
        let is_empty = |text| filters(text).expect("a filter").has_empty();
        assert!(is_empty("{}") && is_empty(r#"[{"kinds":[1]},{"limit":5}]"#));
        assert!(!is_empty(r#"{"kinds":[]}"#) && !is_empty(r#"{"until":5}"#));
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(
            ["90s", "2m", "1h", "30d", "1w"].map(|text| duration(text).ok()).map(Option::unwrap_or_default),
            [90, 120, 3600, 2_592_000, 604_800]
        );
        for text in ["", "d", "90", "-1d", "1.5d", "1y", "99999999999999999999d", "18446744073709551615w"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(time("1700000000"), Ok(Timestamp(1_700_000_000)));
        assert!(time("yesterday").is_err());
    }
}
