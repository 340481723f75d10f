//! A role of the relay (NIP-43): its id, and what clients show of it.
//!
//! A role opens no door here; it is a label that members carry.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::nostr::NewTags;

/// The id of a role, 1 to 32 letters, digits, `-`, `_` and `.`, padded with zeros.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RoleId([u8; 32]);

/// A text that is no such id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a role's id has 1 to 32 letters, digits, -, _ or .")]
pub struct NotARoleId;

impl RoleId {
    /// Before every id.
    pub(super) const FIRST: Self = Self([0; 32]);
    /// After every id.
    pub(super) const LAST: Self = Self([0xff; 32]);

    fn text(&self) -> String {
        self.0.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
    }
}

impl FromStr for RoleId {
    type Err = NotARoleId;

    fn from_str(text: &str) -> Result<Self, NotARoleId> {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let mut id = [0; 32];
        if text.is_empty() || text.len() > id.len() || !text.bytes().all(is_good) {
            return Err(NotARoleId);
        }
        id[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self(id))
    }
}

impl fmt::Display for RoleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// What clients show of a role.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// What it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its hue, 0 to 360.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<u16>,
    /// Its place among the roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<i64>,
}

impl Role {
    /// The text of a decision.
    ///
    /// # Panics
    /// Never: strings and numbers are JSON.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are JSON")
    }

    /// Reads that text. A damaged one is a role without a label.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// The tags of its event, kind 33534.
    #[must_use]
    pub fn tags(&self, id: &RoleId) -> NewTags {
        let mut tags = vec![vec!["-".into()], vec!["d".into(), id.to_string()]];
        let texts = [("label", self.label.clone()), ("description", self.description.clone())];
        let number = |number: Option<String>| number.unwrap_or_default();
        let numbers = [
            ("color", number(self.color.map(|color| color.to_string()))),
            ("order", number(self.order.map(|order| order.to_string()))),
        ];
        let set = texts.into_iter().chain(numbers).filter(|(_, text)| !text.is_empty());
        tags.extend(set.map(|(name, text)| vec![name.into(), text]));
        tags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_as_it_is_written_and_shown_as_the_nip_has_it() {
        let id: RoleId = "28b7e50f".parse().expect("an id");
        let role =
            Role { label: "king".into(), description: "ruler of the relay".into(), color: Some(37), order: Some(1) };
        assert_eq!((Role::of_text(&role.to_text()), id.to_string()), (role.clone(), "28b7e50f".into()));
        let tags = serde_json::json!([
            ["-"],
            ["d", "28b7e50f"],
            ["label", "king"],
            ["description", "ruler of the relay"],
            ["color", "37"],
            ["order", "1"],
        ]);
        assert_eq!(serde_json::json!(role.tags(&id)), tags);
        assert_eq!(Role::default().tags(&id), [vec!["-".to_owned()], vec!["d".into(), "28b7e50f".into()]]);
        for wrong in ["", "a b", "é", &"x".repeat(33), "a:b", "\0"] {
            assert_eq!(wrong.parse::<RoleId>(), Err(NotARoleId), "{wrong:?}");
        }
    }
}
