//! What is compared: a filter without times, and a range of `created_at`.

use serde_json::{Map, Value, json};

use super::window::Window;
use crate::nostr::json::Parser;
use crate::nostr::{EventId, Filter, ParseOptions};

/// A filter and a range.
#[derive(Clone, PartialEq, Debug)]
pub struct Scope {
    /// The conditions as they are sent, without times.
    conditions: Map<String, Value>,
    /// The same for our own store.
    filter: Filter,
    window: Window,
}

impl Scope {
    /// Everything that matches a filter in JSON. Its `since` and `until` are the range; it must have no `limit`, which
    /// two relays would understand differently.
    ///
    /// # Errors
    /// When the text is not one filter, or has a limit.
    pub fn parse(text: &str) -> Result<Self, String> {
        let filter = Filter::parse(&mut Parser::default(), text.as_bytes(), ParseOptions::default());
        let filter = filter.map_err(|error| error.to_string())?;
        if filter.limit.is_some() {
            return Err("a filter with a limit cannot be compared: cut it by since and until".into());
        }
        let mut conditions: Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        conditions.retain(|key, value| !value.is_null() && key != "since" && key != "until");
        let since = filter.since.unwrap_or(Window::ALL.since);
        let until = filter.until.unwrap_or(Window::ALL.until);
        let filter = Filter { since: None, until: None, ..filter };
        Ok(Self { conditions, filter, window: Window { since, until } })
    }

    /// The same, restricted to a range.
    #[must_use]
    pub fn within(mut self, range: Window) -> Self {
        self.window.since = self.window.since.max(range.since);
        self.window.until = self.window.until.min(range.until);
        self
    }

    /// The range.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.window
    }

    /// The conditions and the range: what every event must match that is taken.
    #[must_use]
    pub fn whole(&self) -> Filter {
        Filter { since: Some(self.window.since), until: Some(self.window.until), ..self.filter.clone() }
    }

    /// Whether every event is in it.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.conditions.is_empty() && self.window == Window::ALL
    }

    /// The conditions beside the time.
    #[must_use]
    pub const fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The conditions beside the time, the same text for the same conditions in any order.
    #[must_use]
    pub fn name(&self) -> String {
        Value::from(self.conditions.clone()).to_string()
    }

    fn query(&self, window: Window) -> Map<String, Value> {
        let mut query = self.conditions.clone();
        if window.since > Window::ALL.since {
            query.insert("since".into(), window.since.0.into());
        }
        if window.until < Window::ALL.until {
            query.insert("until".into(), window.until.0.into());
        }
        query
    }

    /// The message that opens a negentropy session.
    #[must_use]
    pub fn neg_open(&self, name: &str, window: Window, message: &str) -> String {
        json!(["NEG-OPEN", name, self.query(window), message]).to_string()
    }

    /// The query for what arrives from now on.
    #[must_use]
    pub fn live(&self, name: &str) -> String {
        self.page(name, self.window, 0)
    }

    /// The query for a page.
    #[must_use]
    pub fn page(&self, name: &str, window: Window, limit: usize) -> String {
        let mut query = self.query(window);
        query.insert("limit".into(), limit.into());
        json!(["REQ", name, query]).to_string()
    }
}

/// The query for events by their ids.
#[must_use]
pub fn by_ids(name: &str, ids: &[EventId]) -> String {
    let ids: Vec<String> = ids.iter().map(EventId::to_string).collect();
    json!(["REQ", name, {"ids": ids, "limit": ids.len()}]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::Timestamp;

    #[test]
    fn times_of_the_filter_are_the_range_and_the_rest_is_sent_as_it_is() {
        let scope =
            Scope::parse(r##"{"until":90,"kinds":[1],"since":5,"#t":["a"],"authors":null}"##).expect("a filter");
        let scope = scope.within(Window { since: Timestamp(7), until: Timestamp(100) });
        assert_eq!(scope.window(), Window { since: Timestamp(7), until: Timestamp(90) });
        assert_eq!(scope.name(), r##"{"#t":["a"],"kinds":[1]}"##);
        let window = Window { since: Timestamp(8), until: Timestamp(9) };
        assert_eq!(
            scope.neg_open("n1", window, "61"),
            r##"["NEG-OPEN","n1",{"#t":["a"],"kinds":[1],"since":8,"until":9},"61"]"##
        );
        assert_eq!(scope.page("p1", Window::ALL, 500), r##"["REQ","p1",{"#t":["a"],"kinds":[1],"limit":500}]"##);
        assert_eq!(scope.live("l"), r##"["REQ","l",{"#t":["a"],"kinds":[1],"limit":0,"since":7,"until":90}]"##);
        assert_eq!((scope.filter().since, scope.filter().until), (None, None));
        let id = "ab".repeat(32);
        assert_eq!(by_ids("d1", &[EventId([0xab; 32])]), format!(r#"["REQ","d1",{{"ids":["{id}"],"limit":1}}]"#));
    }

    #[test]
    fn what_is_not_one_filter_without_a_limit_is_refused() {
        for text in ["", "[]", "[{}]", "{\"limit\":5}", "{\"search\":\"x\"}", "{\"kinds\":1}"] {
            assert!(Scope::parse(text).is_err(), "{text}");
        }
        assert_eq!(Scope::parse("{}").expect("all").window(), Window::ALL);
    }
}
