//! The messages of a client, parsed once into types.
//!
//! A malformed message is an error that holds the answer to send: one that names the event, subscription or session
//! wherever its id can be read (INV-14).
//!
//! Elements after the last one that a message needs: EVENT and AUTH refuse them, since a second event would go without
//! an answer. REQ and COUNT read them as further filters. CLOSE, NEG-OPEN, NEG-MSG and NEG-CLOSE ignore them.

use super::event::{Event, EventError};
use super::filter::{Filter, FilterError, MAX_ECHOED_CHARS, ParseOptions};
use super::hex;
use super::json::{Elements, Parser, Value};
use super::reply::{Prefix, Reason, RelayMessage};
use super::types::{EventId, SubscriptionId};

/// One message from a client.
#[derive(Clone, PartialEq, Debug)]
pub enum ClientMessage {
    /// Publish an event.
    Event(Event),
    /// Open a subscription.
    Req(SubscriptionId, Vec<Filter>),
    /// Close a subscription.
    Close(SubscriptionId),
    /// Count events (NIP-45).
    Count(SubscriptionId, Vec<Filter>),
    /// Authenticate (NIP-42).
    Auth(Event),
    /// Open a negentropy session (NIP-77).
    NegOpen(SubscriptionId, Filter, Vec<u8>),
    /// Continue a negentropy session.
    NegMsg(SubscriptionId, Vec<u8>),
    /// Close a negentropy session.
    NegClose(SubscriptionId),
}

/// The longest invalid subscription id that a refusal echoes. A longer one is refused with a NOTICE.
const MAX_ECHOED_BYTES: usize = 512;

impl ClientMessage {
    /// Parses one text message.
    ///
    /// # Errors
    /// The answer to send when the message is not one that NIP-01, 42, 45 or 77 strictly defines.
    pub fn parse(parser: &mut Parser, text: &[u8], options: ParseOptions) -> Result<Self, Box<RelayMessage>> {
        let parsed = parser.parse(text, |root| Self::from_value(root, options));
        parsed.unwrap_or_else(|error| Err(notice(format!("the message is {error}"))))
    }

    fn from_value(root: Value<'_, '_>, options: ParseOptions) -> Result<Self, Box<RelayMessage>> {
        let mut elements = root.as_array().ok_or_else(|| notice("the message is not a JSON array"))?;
        let verb = elements.next().and_then(Value::as_str);
        match verb.ok_or_else(|| notice("the message does not begin with its type"))? {
            "EVENT" => event(elements).map(Self::Event),
            "AUTH" => event(elements).map(Self::Auth),
            "REQ" => query(elements, options).map(|(sub, filters)| Self::Req(sub, filters)),
            "COUNT" => query(elements, options).map(|(sub, filters)| Self::Count(sub, filters)),
            "CLOSE" => only_id(elements, "CLOSE").map(Self::Close),
            "NEG-OPEN" => neg_open(elements, options),
            "NEG-MSG" => neg_msg(elements),
            "NEG-CLOSE" => only_id(elements, "NEG-CLOSE").map(Self::NegClose),
            other => {
                let name: String = other.chars().take(MAX_ECHOED_CHARS).collect();
                Err(boxed(RelayMessage::Notice(Reason::new(
                    Prefix::Unsupported,
                    format!("message {name:?} is unknown"),
                ))))
            }
        }
    }
}

fn boxed(message: RelayMessage) -> Box<RelayMessage> {
    Box::new(message)
}

fn notice(text: impl Into<std::borrow::Cow<'static, str>>) -> Box<RelayMessage> {
    boxed(RelayMessage::Notice(Reason::new(Prefix::Invalid, text)))
}

fn event(mut elements: Elements<'_, '_>) -> Result<Event, Box<RelayMessage>> {
    let value = elements.next().ok_or_else(|| notice("the event is missing"))?;
    let event = Event::from_value(value).map_err(|error| refused_event(value, &error))?;
    if elements.next().is_some() {
        let id = event.view().id();
        return Err(boxed(RelayMessage::refused(id, Prefix::Invalid, "unexpected element after the event")));
    }
    Ok(event)
}

/// Refuses something that is not an event: by its id, if it has one.
fn refused_event(value: Value<'_, '_>, error: &EventError) -> Box<RelayMessage> {
    let id = value
        .as_object()
        .and_then(|mut entries| entries.find(|(key, _)| *key == "id"))
        .and_then(|(_, id)| EventId::from_hex(id.as_str()?.as_bytes()));
    let text = error.to_string();
    match id {
        Some(id) => boxed(RelayMessage::refused(id, Prefix::Invalid, text)),
        None => notice(text),
    }
}

/// Takes the subscription id off the front.
fn subscription(
    elements: &mut Elements<'_, '_>,
    refuse: impl Fn(Box<str>, Reason) -> RelayMessage,
) -> Result<SubscriptionId, Box<RelayMessage>> {
    let text = elements.next().and_then(Value::as_str);
    let text = text.ok_or_else(|| notice("the subscription id is missing or not a string"))?;
    SubscriptionId::new(text).ok_or_else(|| {
        let reason = Reason::new(Prefix::Invalid, "a subscription id has 1 to 64 characters");
        boxed(if text.len() <= MAX_ECHOED_BYTES { refuse(text.into(), reason) } else { RelayMessage::Notice(reason) })
    })
}

fn closed(sub: Box<str>, reason: Reason) -> RelayMessage {
    RelayMessage::Closed { sub, reason }
}

fn neg_err(sub: Box<str>, reason: Reason) -> RelayMessage {
    RelayMessage::NegErr { sub, reason, max_records: None }
}

fn filter_reason(error: FilterError) -> Reason {
    match error {
        FilterError::Invalid(text) => Reason::new(Prefix::Invalid, text),
        FilterError::Unsupported(text) => Reason::new(Prefix::Unsupported, text),
    }
}

fn query(
    mut elements: Elements<'_, '_>,
    options: ParseOptions,
) -> Result<(SubscriptionId, Vec<Filter>), Box<RelayMessage>> {
    let sub = subscription(&mut elements, closed)?;
    let refuse = |reason| boxed(closed(sub.as_str().into(), reason));
    if elements.len() == 0 {
        return Err(refuse(Reason::new(Prefix::Invalid, "a filter is missing")));
    }
    let filters = elements.map(|value| Filter::from_value(value, options)).collect::<Result<_, _>>();
    match filters {
        Ok(filters) => Ok((sub, filters)),
        Err(error) => Err(refuse(filter_reason(error))),
    }
}

/// Parses CLOSE or NEG-CLOSE. An invalid id cannot name anything that is open, so the refusal is a NOTICE.
fn only_id(mut elements: Elements<'_, '_>, verb: &str) -> Result<SubscriptionId, Box<RelayMessage>> {
    let id = elements.next().and_then(Value::as_str).and_then(SubscriptionId::new);
    id.ok_or_else(|| notice(format!("{verb} does not have a subscription id of 1 to 64 characters")))
}

fn neg_open(mut elements: Elements<'_, '_>, options: ParseOptions) -> Result<ClientMessage, Box<RelayMessage>> {
    let sub = subscription(&mut elements, neg_err)?;
    let refuse = |reason| boxed(neg_err(sub.as_str().into(), reason));
    let missing = || refuse(Reason::new(Prefix::Invalid, "NEG-OPEN needs an id, a filter and a message"));
    let filter = Filter::from_value(elements.next().ok_or_else(missing)?, options);
    let filter = filter.map_err(|error| refuse(filter_reason(error)))?;
    let message = hex_message(elements.next()).ok_or_else(|| refuse(not_hex()))?;
    Ok(ClientMessage::NegOpen(sub, filter, message))
}

fn neg_msg(mut elements: Elements<'_, '_>) -> Result<ClientMessage, Box<RelayMessage>> {
    let sub = subscription(&mut elements, neg_err)?;
    match hex_message(elements.next()) {
        Some(message) => Ok(ClientMessage::NegMsg(sub, message)),
        None => Err(boxed(neg_err(sub.as_str().into(), not_hex()))),
    }
}

fn hex_message(value: Option<Value<'_, '_>>) -> Option<Vec<u8>> {
    hex::decode_vec(value?.as_str()?.as_bytes())
}

fn not_hex() -> Reason {
    Reason::new(Prefix::Invalid, "the message is not lower-case hex")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ClientMessage, String> {
        ClientMessage::parse(&mut Parser::default(), text.as_bytes(), ParseOptions::default())
            .map_err(|answer| answer.to_text())
    }

    fn refusal(text: &str) -> String {
        parse(text).expect_err("a refusal")
    }

    #[test]
    fn refusals_name_the_id_wherever_one_can_be_read() {
        assert_eq!(refusal(r#"["REQ","s"]"#), r#"["CLOSED","s","invalid: a filter is missing"]"#);
        assert_eq!(refusal(r#"["REQ","s",{"x":1}]"#), r#"["CLOSED","s","unsupported: filter key \"x\" is unknown"]"#);
        assert_eq!(
            refusal(r#"["COUNT","s",{"kinds":1}]"#),
            r#"["CLOSED","s","invalid: kinds is not a list of whole numbers"]"#
        );
        assert_eq!(refusal(r#"["REQ","",{}]"#), r#"["CLOSED","","invalid: a subscription id has 1 to 64 characters"]"#);
        assert_eq!(
            refusal(r#"["REQ",1,{}]"#),
            r#"["NOTICE","invalid: the subscription id is missing or not a string"]"#
        );
        assert_eq!(refusal(r#"["X"]"#), r#"["NOTICE","unsupported: message \"X\" is unknown"]"#);
        assert_eq!(refusal("[]"), r#"["NOTICE","invalid: the message does not begin with its type"]"#);
        assert_eq!(refusal("{}"), r#"["NOTICE","invalid: the message is not a JSON array"]"#);
        let id = "ab".repeat(32);
        assert_eq!(
            refusal(&format!(r#"["EVENT",{{"id":"{id}"}}]"#)),
            format!(r#"["OK","{id}",false,"invalid: content is missing"]"#)
        );
        assert_eq!(refusal(r#"["EVENT",{"id":"x"}]"#), r#"["NOTICE","invalid: id is not 64 lower-case hex digits"]"#);
        assert_eq!(
            refusal(r#"["NEG-OPEN","s",{},"6G"]"#),
            r#"["NEG-ERR","s","invalid: the message is not lower-case hex"]"#
        );
    }

    #[test]
    fn a_refusal_is_short_however_long_what_it_quotes_is() {
        let long = "\u{1}\u{200b}".repeat(10_000);
        for text in [
            format!("[\"{long}\"]"),
            format!(r#"["REQ","s",{{"{long}":1}}]"#),
            format!(r#"["COUNT","{long}",{{}}]"#),
            format!(r#"["NEG-OPEN","s",{{"{long}":1}},""]"#),
            format!(r#"["EVENT",{{"id":"{long}"}}]"#),
        ] {
            let text = text.replace('\u{1}', "\\u0001");
            assert!(refusal(&text).len() < 1_000, "{} bytes", refusal(&text).len());
        }
    }

    #[test]
    fn a_number_of_any_size_or_half_a_surrogate_pair_leaves_the_id_readable() {
        let id = "ab".repeat(32);
        for odd in ["18446744073709551616", "-1e400", r#""\ud800""#] {
            assert_eq!(
                refusal(&format!(r#"["EVENT",{{"content":{odd},"id":"{id}"}}]"#)),
                format!(r#"["OK","{id}",false,"invalid: content is not a Unicode string"]"#)
            );
            assert_eq!(
                refusal(&format!(r#"["REQ","s",{{"ids":{odd}}}]"#)),
                r#"["CLOSED","s","invalid: ids is not a list of strings of 64 lower-case hex digits"]"#
            );
            assert_eq!(
                refusal(&format!(r#"["NEG-MSG","s",{odd}]"#)),
                r#"["NEG-ERR","s","invalid: the message is not lower-case hex"]"#
            );
            assert_eq!(
                refusal(&format!(r#"["REQ",{odd},{{}}]"#)),
                r#"["NOTICE","invalid: the subscription id is missing or not a string"]"#
            );
        }
    }

    #[test]
    fn a_parser_error_never_reaches_a_client_by_name() {
        for text in ["", "[", "[01]", "nul", r#"["\x"]"#, "[1e400", "[\"\\ud800]"] {
            assert_eq!(refusal(text), r#"["NOTICE","invalid: the message is not valid JSON"]"#, "{text}");
        }
        assert_eq!(refusal(&"[".repeat(40)), r#"["NOTICE","invalid: the message is nested deeper than 32"]"#);
    }

    #[test]
    fn elements_after_the_last_one_are_filters_or_ignored_or_refused() {
        let alike = [
            (r#"["CLOSE","s"]"#, r#"["CLOSE","s",1]"#),
            (r#"["NEG-CLOSE","s"]"#, r#"["NEG-CLOSE","s",{}]"#),
            (r#"["NEG-MSG","s","61"]"#, r#"["NEG-MSG","s","61",[]]"#),
            (r#"["NEG-OPEN","s",{},"61"]"#, r#"["NEG-OPEN","s",{},"61","62"]"#),
        ];
        for (message, longer) in alike {
            assert!(parse(message).is_ok(), "{message}");
            assert_eq!(parse(message), parse(longer), "{longer}");
        }
        for verb in ["REQ", "COUNT"] {
            assert_eq!(
                refusal(&format!(r#"["{verb}","s",{{}},1]"#)),
                r#"["CLOSED","s","invalid: the filter is not a JSON object"]"#
            );
        }
        let event = super::super::testing::event(super::super::testing::author(1), 1, 1, &[], "");
        let (id, json) = (event.view().id(), event.view().to_json());
        for verb in ["EVENT", "AUTH"] {
            assert_eq!(
                refusal(&format!(r#"["{verb}",{json},{json}]"#)),
                format!(r#"["OK","{id}",false,"invalid: unexpected element after the event"]"#)
            );
        }
    }

    #[test]
    fn queries_and_closes_are_read() {
        let sub = SubscriptionId::new("s").expect("a subscription id");
        assert_eq!(parse(r#"["CLOSE","s"]"#), Ok(ClientMessage::Close(sub.clone())));
        let Ok(ClientMessage::Req(id, filters)) = parse(r#"["REQ","s",{},{"kinds":[1]}]"#) else {
            panic!("a REQ");
        };
        assert_eq!((id, filters.len()), (sub.clone(), 2));
        assert_eq!(
            parse(r#"["NEG-OPEN","s",{},"61"]"#),
            Ok(ClientMessage::NegOpen(sub, Filter::default(), vec![0x61]))
        );
    }
}
