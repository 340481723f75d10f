//! The titles of the NIPs that this relay can support, as <https://github.com/nostr-protocol/nips> has them.

const TITLES: [(u32, &str); 18] = [
    (1, "Basic protocol"),
    (2, "Follow lists"),
    (4, "Encrypted direct messages"),
    (9, "Deletion requests"),
    (11, "Relay information"),
    (13, "Proof of work"),
    (17, "Private direct messages"),
    (40, "Expiration"),
    (42, "Authentication of clients"),
    (43, "Members and invites"),
    (45, "Counting"),
    (59, "Gift wraps"),
    (62, "Requests to vanish"),
    (67, "Hints of completeness"),
    (70, "Protected events"),
    (77, "Negentropy sync"),
    (86, "Management over HTTP"),
    (91, "Several tag values at once"),
];

/// The title; empty for a NIP that is not in the list.
pub fn title(nip: u32) -> &'static str {
    TITLES.iter().find(|(number, _)| *number == nip).map(|(_, title)| *title).unwrap_or_default()
}

/// Where the NIP is published.
pub fn url(nip: u32) -> String {
    format!("https://github.com/nostr-protocol/nips/blob/master/{nip:02}.md")
}
