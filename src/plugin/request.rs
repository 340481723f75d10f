//! What a plugin is asked: one line of JSON for each event, as strfry writes it.
//!
//! The keys are in strfry's order, which is that of the alphabet, for programs that look for text rather than parse.
//! Pure: it appends to a buffer.

use std::net::IpAddr;

use crate::nostr::{EventView, Pubkey, Timestamp, hex, render};

/// Where an event comes from, as plugins are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin<'a> {
    /// A client, and the key that it has proven (NIP-42).
    Client(IpAddr, Option<Pubkey>),
    /// `weir import`.
    Import,
    /// The relay with this URL, from which this one fetches events.
    Sync(&'a str),
}

impl Origin<'_> {
    /// The words for `sourceType` and `sourceInfo`.
    fn words(&self) -> (&'static str, String) {
        match self {
            Self::Client(address, _) => match address.to_canonical() {
                IpAddr::V4(address) => ("IP4", address.to_string()),
                IpAddr::V6(address) => ("IP6", address.to_string()),
            },
            Self::Import => ("Import", String::new()),
            Self::Sync(url) => ("Sync", (*url).to_owned()),
        }
    }
}

/// Appends the request for `event`, with its end of line.
pub fn write(event: EventView<'_>, origin: &Origin<'_>, received_at: Timestamp, out: &mut Vec<u8>) {
    let (source, info) = origin.words();
    out.push(b'{');
    if let Origin::Client(_, Some(key)) = origin {
        out.extend_from_slice(b"\"authed\":\"");
        hex::append(&key.0, out);
        out.extend_from_slice(b"\",");
    }
    out.extend_from_slice(b"\"event\":");
    event.write_sorted_json(out);
    out.extend_from_slice(b",\"receivedAt\":");
    render::number(received_at.0, out);
    out.extend_from_slice(b",\"sourceInfo\":");
    render::string(info.as_bytes(), out);
    out.extend_from_slice(b",\"sourceType\":\"");
    out.extend_from_slice(source.as_bytes());
    out.extend_from_slice(b"\",\"type\":\"new\"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::testing::{author, trusted};

    fn line(origin: &Origin<'_>) -> String {
        let event = trusted(author(1), 1, 5, &[&["t", "a\"b"], &["p"]], "x\n\u{1}");
        let mut out = Vec::new();
        write(event.view(), origin, Timestamp(7), &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_request_is_one_line_with_the_keys_in_the_order_of_strfry() {
        let event = trusted(author(1), 1, 5, &[&["t", "a\"b"], &["p"]], "x\n\u{1}");
        let view = event.view();
        let hex_of = |bytes: &[u8]| hex::encode(bytes);
        let (id, key) = (hex_of(view.id_bytes()), hex_of(view.pubkey_bytes()));
        let sig = hex_of(view.signature_bytes());
        let json = format!(
            r#"{{"content":"x\n\u0001","created_at":5,"id":"{id}","kind":1,"pubkey":"{key}","sig":"{sig}","tags":[["t","a\"b"],["p"]]}}"#
        );
        let told = |authed: &str, info: &str, source: &str| {
            format!(
                "{{{authed}\"event\":{json},\"receivedAt\":7,\"sourceInfo\":\"{info}\",\"sourceType\":\"{source}\",\"type\":\"new\"}}\n"
            )
        };
        let at = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(line(&Origin::Client(at("192.0.2.7"), None)), told("", "192.0.2.7", "IP4"));
        assert_eq!(line(&Origin::Client(at("::ffff:192.0.2.7"), None)), told("", "192.0.2.7", "IP4"));
        let authed = format!("\"authed\":\"{}\",", "ab".repeat(32));
        let with_key = Origin::Client(at("2001:db8::7"), Some(Pubkey([0xab; 32])));
        assert_eq!(line(&with_key), told(&authed, "2001:db8::7", "IP6"));
        assert_eq!(line(&Origin::Import), told("", "", "Import"));
        assert_eq!(line(&Origin::Sync("wss://other/\"")), told("", "wss://other/\\\"", "Sync"));
    }
}
