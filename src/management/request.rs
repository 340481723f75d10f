//! A request to manage the relay and its parameters, and how a call ends.
//!
//! It carries nothing out.

use serde::Deserialize;
use serde_json::Value;

use super::error::JournalError;
use super::subject::{NotASubject, Subject};
use crate::nostr::bech32::parse_pubkey;
use crate::nostr::{EventId, Kind};

/// Bytes of a reason, and of a name.
pub(super) const MAX_REASON: usize = 512;

/// Bytes of a description, and of the URL of an icon.
pub(super) const MAX_TEXT: usize = 4096;

/// A request.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Its parameters.
    #[serde(default)]
    pub params: Option<Vec<Value>>,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It is no request.
    #[error("the body is not a request such as {{\"method\":\"supportedmethods\",\"params\":[]}}: {0}")]
    Malformed(serde_json::Error),
    /// There is no such method.
    #[error("unknown method {0:?}")]
    Unknown(String),
    /// There is no membership.
    #[error("{0} needs membership.key_file in the configuration")]
    NoMembership(String),
    /// A parameter is missing or wrong.
    #[error("params[{0}]: {1}")]
    Param(usize, &'static str),
    /// A parameter names nothing that a decision can be about.
    #[error("params[{0}]: {1}")]
    Subject(usize, NotASubject),
    /// It could not be recorded.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// What a call did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MethodResult {
    /// The result.
    pub result: Value,
    /// What was decided about, if anything changed.
    pub changed: Option<Subject>,
}

impl From<Value> for MethodResult {
    fn from(result: Value) -> Self {
        Self { result, changed: None }
    }
}

impl Request {
    /// Reads a request. Elements that it does not know are ignored.
    ///
    /// # Errors
    /// When it is not JSON, or has no method.
    pub fn parse(body: &[u8]) -> Result<Self, CallError> {
        // First all of it: what is ignored would not be looked at.
        let value: Value = serde_json::from_slice(body).map_err(CallError::Malformed)?;
        serde_json::from_value(value).map_err(CallError::Malformed)
    }

    /// The parameter at `place`; null counts as missing.
    #[must_use]
    pub fn param(&self, place: usize) -> Option<&Value> {
        self.params.as_ref()?.get(place).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, place: usize, most: usize) -> Result<&str, CallError> {
        match self.param(place) {
            None => Ok(""),
            Some(Value::String(text)) if text.len() <= most => Ok(text),
            Some(Value::String(_)) => Err(CallError::Param(place, "the text is too long")),
            Some(_) => Err(CallError::Param(place, "is not a string")),
        }
    }

    /// The reason, which may be missing or null.
    ///
    /// # Errors
    /// When it is not a string, or too long.
    pub fn reason(&self, place: usize) -> Result<&str, CallError> {
        self.text(place, MAX_REASON)
    }

    /// What the first parameter names, in any form that people type; a link of a client (NIP-21) will do.
    ///
    /// # Errors
    /// When it is missing or names nothing.
    pub fn subject(&self) -> Result<Subject, CallError> {
        let text = self.param(0).ok_or(CallError::Param(0, "is missing"))?;
        let text = text.as_str().ok_or(CallError::Param(0, "is not a string"))?.trim();
        text.strip_prefix("nostr:").unwrap_or(text).parse().map_err(|error| CallError::Subject(0, error))
    }

    pub(super) fn key(&self) -> Result<Subject, CallError> {
        let key = self.param(0).and_then(Value::as_str).and_then(|text| parse_pubkey(text).ok());
        key.map(Subject::Key).ok_or(CallError::Param(0, "is not a public key of 64 hex digits"))
    }

    pub(super) fn event(&self) -> Result<Subject, CallError> {
        let id = self.param(0).and_then(Value::as_str).and_then(|text| EventId::from_hex(text.as_bytes()));
        id.map(Subject::Event).ok_or(CallError::Param(0, "is not an event id of 64 hex digits"))
    }

    /// A kind as a number, or as a string of digits.
    pub(super) fn kind(&self) -> Result<Subject, CallError> {
        let number = match self.param(0) {
            Some(Value::Number(number)) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
            Some(Value::String(digits)) => digits.parse().ok(),
            _ => None,
        };
        number.map(|kind| Subject::Kind(Kind(kind))).ok_or(CallError::Param(0, "is not a kind from 0 to 65535"))
    }

    pub(super) fn address(&self) -> Result<Subject, CallError> {
        let network = self.param(0).and_then(Value::as_str).and_then(|text| text.parse().ok());
        network.map(Subject::Address).ok_or(CallError::Param(0, "is not an address or a prefix"))
    }

    /// A number that may be missing.
    ///
    /// # Errors
    /// When there is something else.
    pub fn number(&self, place: usize) -> Result<Option<u64>, CallError> {
        match self.param(place) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or(CallError::Param(place, "is not a number")),
        }
    }
}
