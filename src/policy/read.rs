//! Whether a client may see an event: one rule for REQ, COUNT, live delivery and negentropy alike (INV-15).
//!
//! A filter that can match nothing the client may see is refused. Otherwise, events that the client may not see are
//! silently left out, row by row.

use std::borrow::Cow;
use std::sync::Arc;

use super::peer::Peer;
use super::settings::{Auth, Settings};
use crate::ledger::{Account, Hold, Scope};
use crate::nostr::filter::{FilterValue, TagFilter};
use crate::nostr::{EventView, Filter, Kind, Prefix, Pubkey, Reason, TagElement};

/// Who may see events of a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    Anyone,
    Authenticated,
    Involved,
    Author,
}

impl Auth {
    /// Whether anyone may see events of this kind.
    #[must_use]
    pub fn is_for_anyone(&self, kind: Kind) -> bool {
        self.rule(kind) == Rule::Anyone
    }

    /// The strictest rule that names `kind`.
    fn rule(&self, kind: Kind) -> Rule {
        if self.author_only_kinds.contains(kind) {
            Rule::Author
        } else if self.involved_kinds.contains(kind) {
            Rule::Involved
        } else if self.read_kinds.contains(kind) {
            Rule::Authenticated
        } else {
            Rule::Anyone
        }
    }
}

/// What a client may see: the rules of one settings snapshot, and the keys authenticated so far, sorted.
#[derive(Clone, Copy, Debug)]
pub struct ReadGuard<'a> {
    auth: &'a Auth,
    keys: &'a [Pubkey],
}

impl<'a> ReadGuard<'a> {
    /// What a client that has authenticated `keys` ([`Peer::keys`]) may see under `settings`.
    #[must_use]
    pub const fn new(settings: &'a Settings, keys: &'a [Pubkey]) -> Self {
        Self { auth: &settings.auth, keys }
    }

    /// Whether the client may see `event`.
    #[must_use]
    pub fn allows(self, event: EventView<'_>) -> bool {
        match self.auth.rule(event.kind()) {
            Rule::Anyone => true,
            Rule::Authenticated => !self.keys.is_empty(),
            Rule::Author => self.has(event.pubkey_bytes()),
            Rule::Involved => self.is_involved(event),
        }
    }

    fn is_involved(self, event: EventView<'_>) -> bool {
        !self.keys.is_empty()
            && (self.has(event.pubkey_bytes())
                || event.tags().indexed().any(|(letter, value)| match value {
                    TagElement::Hex(key) => letter == b'p' && self.has(key),
                    TagElement::Text(_) => false,
                }))
    }

    fn has(self, key: &[u8; 32]) -> bool {
        self.keys.binary_search_by(|own| own.0.cmp(key)).is_ok()
    }
}

/// The conditions on `p` tags.
fn recipients(filter: &Filter) -> impl Iterator<Item = &TagFilter> {
    filter.tags.iter().filter(|tag| tag.letter == b'p')
}

/// Whether `peer` may ask for `filters` with REQ or NEG-OPEN.
///
/// # Errors
/// `auth-required:` when the client must authenticate first, `restricted:` when its keys do not suffice, `invalid:`
/// when a limit is exceeded.
pub fn check_filters(settings: &Settings, peer: &Peer, filters: &[Filter]) -> Result<(), Reason> {
    const PRIVATE: &str = "direct messages are visible only to their author and their recipients";
    check(settings, peer, filters, PRIVATE)
}

/// Whether `peer` may ask for `filters` with COUNT (NIP-45).
///
/// # Errors
/// As [`check_filters`].
pub fn check_count(settings: &Settings, peer: &Peer, filters: &[Filter]) -> Result<(), Reason> {
    check(settings, peer, filters, "cannot count other people's direct messages")
}

fn check(settings: &Settings, peer: &Peer, filters: &[Filter], private: &'static str) -> Result<(), Reason> {
    let limits = &settings.limits;
    if filters.len() > limits.max_filters {
        let text = format!("too many filters: {}, the limit is {}", filters.len(), limits.max_filters);
        return Err(Reason::new(Prefix::Invalid, text));
    }
    let items = filters.iter().map(Filter::items).sum::<usize>();
    if items > limits.max_filter_items {
        let text = format!("too many values in the filters: {items}, the limit is {}", limits.max_filter_items);
        return Err(Reason::new(Prefix::Invalid, text));
    }
    peer.check(settings, settings.auth.read, "read")?;
    filters
        .iter()
        .filter(|filter| !filter.is_never())
        .try_for_each(|filter| check_kinds(settings, peer, filter, private))
}

/// Refuses a filter that can only match events that the client may not see. A filter that lists no kinds, or kinds of
/// which some are open, is answered with the events that the client may see.
fn check_kinds(settings: &Settings, peer: &Peer, filter: &Filter, private: &'static str) -> Result<(), Reason> {
    let Some(kinds) = &filter.kinds else { return Ok(()) };
    if kinds.iter().any(|&kind| may_give(settings, peer, filter, kind)) {
        return Ok(());
    }
    let prefix = if peer.is_authenticated() { Prefix::Restricted } else { Prefix::AuthRequired };
    let text = if kinds.iter().any(|&kind| settings.auth.rule(kind) == Rule::Involved) {
        private
    } else if peer.is_authenticated() {
        "these events are visible only to their author"
    } else {
        "these events are visible only to authenticated clients"
    };
    Err(Reason::new(prefix, text))
}

/// Whether `peer` could see any event of `kind` that matches `filter`. A private message is assumed to have one
/// recipient (NIP-04, NIP-59), so a filter for somebody else's messages is refused.
fn may_give(settings: &Settings, peer: &Peer, filter: &Filter, kind: Kind) -> bool {
    let by_us = || filter.authors.as_ref().is_none_or(|authors| authors.iter().any(|author| peer.is(author)));
    let for_us = || {
        let ours = |value: &FilterValue| matches!(value, FilterValue::Hex(key) if peer.is(&Pubkey(*key)));
        recipients(filter).all(|tag| tag.values.iter().any(ours))
    };
    // A gift wrap is signed with a throwaway key (NIP-59), so unless the filter lists it, the author is not the client.
    let is_wrap = matches!(kind, Kind::GIFT_WRAP | Kind::EPHEMERAL_GIFT_WRAP) && filter.authors.is_none();
    match settings.auth.rule(kind) {
        Rule::Anyone => true,
        Rule::Authenticated => peer.is_authenticated(),
        Rule::Author => peer.is_authenticated() && by_us(),
        Rule::Involved => peer.is_authenticated() && (for_us() || (by_us() && !is_wrap)),
    }
}

/// Whether `peer` may open a subscription while `open` others are open, not counting one that it replaces.
///
/// # Errors
/// `error:` at the limit of the client's tier. It is not `rate-limited:`, since trying again does not help.
pub fn check_open(settings: &Settings, peer: &Peer, open: usize) -> Result<(), Reason> {
    let max = settings.tiers.get(peer.tier(settings)).max_subscriptions;
    if open >= max {
        let text = format!("too many subscriptions: a connection may have at most {max}; close some first");
        return Err(Reason::new(Prefix::Error, text));
    }
    Ok(())
}

/// Memory of a subscription or query besides its filters: its id, its table entries, its job.
const SUBSCRIPTION_BYTES: u64 = 512;

/// Bytes of memory that a subscription or query with these filters takes.
#[must_use]
pub fn subscription_bytes(filters: &[Filter]) -> u64 {
    SUBSCRIPTION_BYTES + filters.iter().map(Filter::memory_bytes).sum::<usize>() as u64
}

/// Charges the memory of a query to its connection's account, of which `spare_bytes` are about to be released.
///
/// # Errors
/// `error:` when it would exceed the bound of the client's tier, of its address, or of all clients together.
pub fn hold_filters(
    settings: &Settings,
    peer: &Peer,
    account: &Arc<Account>,
    bytes: u64,
    spare_bytes: u64,
) -> Result<Hold, Reason> {
    let max = settings.tiers.get(peer.tier(settings)).max_filter_bytes;
    Hold::take(account, bytes, spare_bytes, max).map_err(|scope| {
        let text: Cow<'static, str> = match scope {
            Scope::Connection => {
                let has = account.used_bytes();
                format!(
                    "filters too large: a connection may use at most {max} bytes, it uses {has}, and this query needs {bytes}"
                )
                .into()
            }
            Scope::Address => "filters too large: your address has reached its limit; close some subscriptions first".into(),
            Scope::All => "filters too large: the relay has reached its limit".into(),
        };
        Reason::new(Prefix::Error, text)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sets::KindSet;
    use super::super::testing::{AUTHOR, event, filter, prefix, said};
    use super::*;
    use crate::ledger::{Bound, Ledger, Options};
    use crate::nostr::hex;

    const FRIEND: [u8; 32] = [0xcd; 32];

    /// An anonymous client, the author, the friend whom the events are addressed to, and a stranger.
    fn peers() -> [Peer; 4] {
        let peer = || Peer::new([192, 0, 2, 7].into());
        let with = |key: [u8; 32]| {
            let mut peer = peer();
            peer.authenticate(Pubkey(key)).expect("room for a key");
            peer
        };
        [peer(), with(AUTHOR), with(FRIEND), with([0xef; 32])]
    }

    fn to_friend(kind: u16) -> crate::nostr::Event {
        event(kind, &format!(r#"[["e","{0}"],["p","{0}"]]"#, hex::encode(&FRIEND)), r#""x""#)
    }

    #[test]
    fn direct_messages_are_seen_by_author_and_recipient_only() {
        let settings = Settings::default();
        let seen = |event: &crate::nostr::Event| {
            peers().map(|peer| ReadGuard::new(&settings, peer.keys()).allows(event.view()))
        };
        for kind in [4, 1059, 21059] {
            assert_eq!(seen(&to_friend(kind)), [false, true, true, false], "kind {kind}");
        }
        assert_eq!(seen(&to_friend(1)), [true; 4]);
        let mentioned = event(4, &format!(r#"[["e","{}"],["p"]]"#, hex::encode(&FRIEND)), r#""x""#);
        assert_eq!(seen(&mentioned), [false, true, false, false]);
    }

    #[test]
    fn kinds_can_be_for_their_author_or_for_authenticated_clients_only() {
        let mut settings = Settings::default();
        settings.auth.author_only_kinds = KindSet::of(&[31234]);
        settings.auth.read_kinds = KindSet::of(&[7]);
        let seen = |kind| {
            let event = to_friend(kind);
            peers().map(|peer| ReadGuard::new(&settings, peer.keys()).allows(event.view()))
        };
        assert_eq!(seen(31234), [false, true, false, false]);
        assert_eq!(seen(7), [false, true, true, true]);
        let asked = |text: &str| peers().map(|peer| prefix(ask(&settings, &peer, text)));
        let (auth, restricted) = (Some(Prefix::AuthRequired), Some(Prefix::Restricted));
        assert_eq!(asked(r#"{"kinds":[7]}"#), [auth, None, None, None]);
        assert_eq!(asked(r#"{"kinds":[31234]}"#), [auth, None, None, None]);
        let of_author = format!(r#"{{"kinds":[31234],"authors":["{}"]}}"#, hex::encode(&AUTHOR));
        assert_eq!(asked(&of_author), [auth, None, restricted, restricted]);
    }

    fn ask(settings: &Settings, peer: &Peer, text: &str) -> Result<(), Reason> {
        check_filters(settings, peer, &[filter(r#"{"kinds":[1]}"#), filter(text)])
    }

    #[test]
    fn a_filter_that_can_give_nothing_is_refused_and_a_mixed_one_is_answered() {
        let settings = Settings::default();
        let (friend, author) = (hex::encode(&FRIEND), hex::encode(&AUTHOR));
        let (auth, no) = (Some(Prefix::AuthRequired), Some(Prefix::Restricted));
        let cases = [
            (r#"{"kinds":[4,1059]}"#.into(), [auth, None, None, None]),
            (r#"{"kinds":[1,1059]}"#.into(), [None; 4]),
            ("{}".into(), [None; 4]),
            (r#"{"kinds":[]}"#.into(), [None; 4]),
            (format!(r##"{{"#p":["{friend}"]}}"##), [None; 4]),
            (format!(r##"{{"kinds":[1059],"#p":["{friend}"]}}"##), [auth, no, None, no]),
            (format!(r##"{{"kinds":[21059],"#p":["{friend}"]}}"##), [auth, no, None, no]),
            (format!(r##"{{"kinds":[4],"#p":["{friend}"]}}"##), [auth, None, None, None]),
            (format!(r#"{{"kinds":[4],"authors":["{author}"]}}"#), [auth, None, None, None]),
            (format!(r##"{{"kinds":[4],"authors":["{author}"],"#p":["{friend}"]}}"##), [auth, None, None, no]),
            (format!(r##"{{"kinds":[1059],"authors":["{author}"],"#p":["{friend}"]}}"##), [auth, None, None, no]),
        ];
        for (text, expected) in cases {
            let got = peers().map(|peer| prefix(ask(&settings, &peer, &text)));
            assert_eq!(got, expected, "{text}");
            let got = peers().map(|peer| prefix(check_count(&settings, &peer, &[filter(&text)])));
            assert_eq!(got, expected, "COUNT {text}");
        }
    }

    /// Another relay counts other people's messages when the filter lists no kind.
    #[test]
    fn a_count_without_kinds_counts_no_messages_of_others() {
        let settings = Settings::default();
        let message = crate::nostr::testing::event(Pubkey(AUTHOR), 4, 1, &[&["p", &hex::encode(&FRIEND)]], "");
        let counted = peers().map(|peer| ReadGuard::new(&settings, peer.keys()).allows(message.view()));
        assert_eq!(counted, [false, true, true, false], "rows are checked");
        let [nobody, ..] = peers();
        let text = r#"{"kinds":[4]}"#;
        let refused = "auth-required: cannot count other people's direct messages";
        assert_eq!(said(check_count(&settings, &nobody, &[filter(text)])), refused);
    }

    /// Another relay reveals the ids of direct messages to strangers over negentropy, and does not let their owners
    /// sync them.
    #[test]
    fn negentropy_follows_the_rules_of_req() {
        let settings = Settings::default();
        let [nobody, _, friend, _] = peers();
        let own = filter(&format!(r##"{{"kinds":[4,1059],"#p":["{}"]}}"##, hex::encode(&FRIEND)));
        assert!(check_filters(&settings, &nobody, std::slice::from_ref(&own)).is_err());
        assert_eq!(check_filters(&settings, &friend, &[own]), Ok(()));
    }

    #[test]
    fn refusals_of_filters_state_the_limit_and_the_number() {
        let mut settings = Settings::default();
        settings.limits.max_filters = 2;
        settings.limits.max_filter_items = 3;
        let [peer, ..] = peers();
        let check = |filters: &[Filter]| said(check_filters(&settings, &peer, filters));
        assert_eq!(check(&[filter(r#"{"kinds":[1,2]}"#), filter(r##"{"#t":["a"]}"##)]), "");
        let text = "invalid: too many values in the filters: 4, the limit is 3";
        assert_eq!(check(&[filter(r#"{"kinds":[1,2]}"#), filter(r##"{"#t":["a","b"]}"##)]), text);
        let text = "invalid: too many filters: 3, the limit is 2";
        assert_eq!(check(&[filter("{}"), filter("{}"), filter("{}")]), text);
    }

    /// Other relays answer with NOTICE at the limit, or refuse a replacement.
    #[test]
    fn at_the_cap_another_subscription_is_refused_with_a_reason_for_closed() {
        let mut settings = Settings::default();
        settings.tiers.anonymous.max_subscriptions = 2;
        let [nobody, author, ..] = peers();
        let said = |peer, open| said(check_open(&settings, peer, open));
        assert_eq!([said(&nobody, 1), said(&author, 2)], ["", ""]);
        assert_eq!(
            said(&nobody, 2),
            "error: too many subscriptions: a connection may have at most 2; close some first"
        );
    }

    #[test]
    fn filters_beyond_a_memory_bound_are_refused_with_the_bound_that_they_exceed() {
        let mut settings = Settings::default();
        settings.tiers.anonymous.max_filter_bytes = 9_000;
        let [nobody, author, ..] = peers();
        let ledger = Ledger::new(Options {
            filters: Bound { per_address_bytes: 20_000, total_bytes: 25_000 },
            ..Options::default()
        });
        let addresses = [1, 2].map(|last| ledger.address([192, 0, 2, last].into()));
        let connect = |address: usize| Arc::new(Account::of_connection(&addresses[address].filters));
        let (one, two, stranger) = (connect(0), connect(0), connect(1));
        let hold = |peer, account, bytes| hold_filters(&settings, peer, account, bytes, 0);
        let said = |held: Result<Hold, Reason>| held.expect_err("a refusal").to_string();
        let _first = hold(&nobody, &one, 8_000).expect("room");
        let text = "error: filters too large: a connection may use at most 9000 bytes, it uses 8000, and this query needs 1001";
        assert_eq!(said(hold(&nobody, &one, 1_001)), text);
        let _second = hold(&author, &two, 10_000).expect("room of another tier");
        let text = "error: filters too large: your address has reached its limit; close some subscriptions first";
        assert_eq!(said(hold(&author, &two, 2_001)), text);
        assert_eq!(said(hold(&nobody, &stranger, 7_001)), "error: filters too large: the relay has reached its limit");
        assert!(hold(&nobody, &stranger, 7_000).is_ok());
    }

    /// Another relay puts a word before `auth-required:`, so clients do not see it.
    #[test]
    fn auth_to_read_is_asked_for_at_the_very_start_of_the_text() {
        let mut settings = Settings::default();
        settings.auth.read = super::super::settings::Audience::Authenticated;
        let [nobody, author, ..] = peers();
        let refused = said(ask(&settings, &nobody, "{}"));
        assert_eq!(refused, "auth-required: only authenticated clients may read");
        assert_eq!(said(ask(&settings, &author, "{}")), "");
    }

    /// Keys, kinds and filters from sets so small that they often match.
    fn small_filter() -> impl Strategy<Value = (u8, u8, u8)> {
        (0..8u8, 0..8u8, 0..8u8)
    }

    /// A filter from three bit sets; an empty set leaves its key out.
    fn filter_of((kinds, authors, recipients): (u8, u8, u8)) -> Filter {
        let list = |bits: u8, item: &dyn Fn(u8) -> String| {
            (0..3).filter(|bit| bits >> bit & 1 == 1).map(item).collect::<Vec<_>>().join(",")
        };
        let key = |bit: u8| format!("\"{}\"", hex::encode(&[bit + 1; 32]));
        let parts = [
            ("kinds", list(kinds, &|bit| ["1", "4", "31234"][usize::from(bit)].into())),
            ("authors", list(authors, &key)),
            ("#p", list(recipients, &key)),
        ];
        let parts = parts.iter().filter(|(_, items)| !items.is_empty());
        let parts: Vec<_> = parts.map(|(name, items)| format!("\"{name}\":[{items}]")).collect();
        filter(&format!("{{{}}}", parts.join(",")))
    }

    proptest! {
        /// INV-15: a refused filter gives nothing.
        #[test]
        fn refused_filters_match_nothing_that_may_be_seen(
            asked in small_filter(),
            keys in 0..8u8,
            (kind, author, recipient) in (0..3usize, 0..3u8, 0..4u8),
        ) {
            let mut settings = Settings::default();
            settings.auth.author_only_kinds = KindSet::of(&[31234]);
            let [mut peer, ..] = peers();
            for bit in (0..3).filter(|bit| keys >> bit & 1 == 1) {
                peer.authenticate(Pubkey([bit + 1; 32])).expect("room for a key");
            }
            // 0 is no recipient.
            let key = hex::encode(&[recipient; 32]);
            let tags: &[&[&str]] = if recipient == 0 { &[] } else { &[&["p", &key]] };
            let author = Pubkey([author + 1; 32]);
            let event = crate::nostr::testing::event(author, [1, 4, 31234][kind], 1, tags, "");
            let filter = filter_of(asked);
            let guard = ReadGuard::new(&settings, peer.keys());
            if filter.matches(event.view()) {
                let refused = check_filters(&settings, &peer, std::slice::from_ref(&filter)).is_err();
                prop_assert!(!(refused && guard.allows(event.view())), "refused: {filter:?}");
            }
        }
    }
}
