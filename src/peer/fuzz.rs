//! The fuzz target of what another relay sends.

use super::message::{Incoming, event_id, printable};
use crate::nostr::json::Parser;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let id = "ab".repeat(32);
    let texts = [
        r#"["EVENT","d1",{"id":"00","tags":[["e","x"]]}]"#.to_owned(),
        " [ \"EVENT\" , \"d1\" ,{}] ".to_owned(),
        r#"["EOSE","d1",["auth"]]"#.to_owned(),
        r#"["CLOSED","d1","auth-required: who are you?"]"#.to_owned(),
        format!(r#"["OK","{id}",true,"duplicate: have it"]"#),
        r#"["NOTICE","ERROR: bad msg: negentropy disabled"]"#.to_owned(),
        r#"["AUTH","challenge"]"#.to_owned(),
        r#"["NEG-MSG","n1","6100000200"]"#.to_owned(),
        r#"["NEG-ERR","n1","blocked: too many query results",100]"#.to_owned(),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}

/// Any text is one message or another, and what is kept of it is no longer than it was, bounded, and fit to print.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let incoming = Incoming::parse(&mut Parser::default(), text);
    let (sub, told) = match &incoming {
        Incoming::Event(sub) => (*sub, ""),
        Incoming::Eose(sub) | Incoming::NegMsg(sub, _) => (sub.as_str(), ""),
        Incoming::Closed(sub, told) | Incoming::NegErr(sub, told) => (sub.as_str(), told.as_str()),
        Incoming::Ok(_, _, told) | Incoming::Notice(told) => ("", told.as_str()),
        Incoming::Auth(_) | Incoming::Other => ("", ""),
    };
    assert!(sub.len() <= 64 && told.chars().count() <= 301 && !told.contains(char::is_control));
    assert_eq!(printable(told).chars().take(300).collect::<String>(), told.chars().take(300).collect::<String>());
    if let Some(id) = event_id(text) {
        assert!(text.contains(&id.to_string()));
    }
    assert_eq!(Incoming::parse(&mut Parser::default(), text), incoming, "the second time");
}
