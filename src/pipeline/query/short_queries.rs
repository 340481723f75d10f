//! Which queries are known to take little before they are planned.
//!
//! They are begun on the io thread that read them, and go before other new queries in Q4. A slice bounds them all the
//! same.

use crate::nostr::Filter;
use crate::pipeline::fair::SHORT_US;
use crate::store::Query;

/// Rows that a query looks at which is always begun on the io thread: each is one look-up, or the next row of a list,
/// about as much work as the parsing of what asks for it.
const MAX_SHORT_ROWS: usize = 32;

/// Whether a query is short.
pub fn is_short(query: &Query) -> bool {
    let rows = query.filters.iter().map(|filter| short_rows(filter, query.limits.is_some()));
    rows.sum::<Option<usize>>().is_some_and(|rows| rows <= MAX_SHORT_ROWS)
}

/// What a query counts as having taken before it is begun, in microseconds: one that is not known to be short goes
/// behind those that are.
pub fn first_spent_us(query: &Query) -> u64 {
    if is_short(query) { 0 } else { SHORT_US }
}

/// How many rows a filter is answered from, where it tells: as many as it has ids, or a few of the newest of some
/// authors, as clients ask for profiles and lists.
fn short_rows(filter: &Filter, is_limited: bool) -> Option<usize> {
    match (&filter.ids, &filter.authors, filter.limit) {
        (Some(ids), ..) => Some(ids.len()),
        (None, Some(authors), Some(limit)) if is_limited && filter.tags.is_empty() => {
            let lists = authors.len() * filter.kinds.as_ref().map_or(1, |kinds| kinds.len());
            Some(lists.saturating_add(limit as usize))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::{ParseOptions, json};

    #[test]
    fn a_filter_is_short_that_names_its_rows_or_asks_for_the_newest_of_a_few_authors() {
        let key = "ab".repeat(32);
        let rows = |text: &str| {
            let text = text.replace('K', &format!("\"{key}\""));
            let filter = Filter::parse(&mut json::Parser::default(), text.as_bytes(), ParseOptions::default());
            [true, false].map(|is_limited| short_rows(filter.as_ref().expect("a filter"), is_limited))
        };
        assert_eq!(rows(r#"{"ids":[K]}"#), [Some(1); 2]);
        assert_eq!(rows(r#"{"authors":[K],"kinds":[0,3,10002],"limit":3}"#), [Some(6), None]);
        assert_eq!(rows(r#"{"authors":[K],"limit":4294967295}"#), [Some(4_294_967_296), None]);
        for long in [r#"{"authors":[K]}"#, r#"{"limit":1}"#, r##"{"authors":[K],"#t":["x"],"limit":1}"##] {
            assert_eq!(rows(long), [None; 2], "{long}");
        }
    }
}
