//! The operator's part of the NIP-11 document. Limits are not part of it: they are read from the settings that are
//! enforced (see [`limitation`](super::limitation())). Empty strings are left out of the document.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::sets::OptionalKey;

/// The operator's part of the NIP-11 document.
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
    /// URL of the source code (NIP-11 `software`); defaults to the package's repository, if it names one.
    pub software: String,
    /// Whether NIP-11 says that the relay charges money. This enforces nothing: `[auth]` controls who may write.
    pub payment_required: bool,
    /// Whether the page for browsers says how much the relay holds, how fresh it is and how many clients there are.
    pub public_stats: bool,
    /// The operator's own page for browsers, in place of the relay's.
    pub template_file: TemplateFile,
    /// Prices (NIP-11 `fees`).
    pub fees: Fees,
}

/// A file with a page, written as its path; an empty path is no file. The text is read and checked separately.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct TemplateFile {
    /// Its path, as written; empty if there is no file.
    pub path: String,
    /// What it held when it was read.
    pub text: Arc<str>,
}

impl From<String> for TemplateFile {
    fn from(path: String) -> Self {
        Self { path, text: Arc::default() }
    }
}

impl From<TemplateFile> for String {
    fn from(file: TemplateFile) -> Self {
        file.path
    }
}

/// NIP-11's `fees`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fees {
    /// One-time fees for admission.
    pub admission: Vec<Fee>,
    /// Recurring fees.
    pub subscription: Vec<Fee>,
    /// Fees per published event of certain kinds.
    pub publication: Vec<Fee>,
}

/// One price.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fee {
    /// The amount in `unit`.
    pub amount: u64,
    /// The currency, such as `msats`.
    pub unit: String,
    /// The period in seconds; only for subscriptions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// The kinds that it applies to; only for publications.
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
            public_stats: false,
            template_file: TemplateFile::default(),
            fees: Fees::default(),
        }
    }
}
