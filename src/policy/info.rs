//! What the operator says about the relay in the NIP-11 document. Limits are not said here: they are read from
//! what is enforced (see [`limitation`](super::limitation())).

use serde::{Deserialize, Serialize};

use super::sets::OptionalKey;

/// The operator's part of the NIP-11 document. Empty texts are left out of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Info {
    /// The relay's name; NIP-11 asks for fewer than 30 characters.
    pub name: String,
    /// What the relay is for, in plain text.
    pub description: String,
    /// URL of a wide picture.
    pub banner: String,
    /// URL of a square picture.
    pub icon: String,
    /// The operator's key, `npub1…` or hex; empty for none.
    pub pubkey: OptionalKey,
    /// The relay's own key (NIP-11 `self`), `npub1…` or hex; empty for none.
    #[serde(rename = "self")]
    pub self_key: OptionalKey,
    /// Where to reach the operator, as a URI such as `mailto:`.
    pub contact: String,
    /// URL of the terms of service.
    pub terms_of_service: String,
    /// URL where a client's user can pay.
    pub payments_url: String,
    /// URL of the source code (NIP-11 `software`); by default where the package says it is, if it does.
    pub software: String,
    /// Whether NIP-11 says that using the relay costs money. Only says so; who may write is set in `[auth]`.
    pub payment_required: bool,
    /// Prices (NIP-11 `fees`).
    pub fees: Fees,
}

/// NIP-11's `fees`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fees {
    /// Once, to be let in.
    pub admission: Vec<Fee>,
    /// For each period.
    pub subscription: Vec<Fee>,
    /// For each event of some kinds.
    pub publication: Vec<Fee>,
}

/// One price.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fee {
    /// How much, in `unit`.
    pub amount: u64,
    /// Of what, such as `msats`.
    pub unit: String,
    /// For how many seconds; only of a subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// For events of which kinds; only of a publication.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<u16>,
}

impl Default for Info {
    fn default() -> Self {
        Self {
            name: "weir".into(),
            description: "A Nostr relay.".into(),
            banner: String::new(),
            icon: String::new(),
            pubkey: OptionalKey(None),
            self_key: OptionalKey(None),
            contact: String::new(),
            terms_of_service: String::new(),
            payments_url: String::new(),
            software: env!("CARGO_PKG_REPOSITORY").into(),
            payment_required: false,
            fees: Fees::default(),
        }
    }
}
