//! The methods of NIP-86 about roles.

use serde_json::Value;

use super::audit::Verdict;
use super::journal::{Actor, Journal};
use super::request::{CallError, MethodResult, Request};
use super::role::{Role, RoleId};
use super::state::State;
use super::subject::Subject;
use crate::nostr::{Pubkey, Timestamp};

/// The methods, served where there is membership.
pub const METHODS: [&str; 5] = ["createrole", "editrole", "deleterole", "assignrole", "unassignrole"];

/// Bytes of a label, and of a description.
const MAX_LABEL: usize = 64;
const MAX_DESCRIPTION: usize = 512;

/// Roles that one key may have.
const MAX_OF_KEY: usize = 16;

/// The roles of a key, those that exist, in the order of their ids.
#[must_use]
pub fn of_key(state: &State, key: &Pubkey) -> Vec<RoleId> {
    let text = state.get(&Subject::Roles(*key)).map(|decision| decision.text.as_str()).unwrap_or_default();
    let exists = |id: &RoleId| state.get(&Subject::Role(*id)).is_some();
    text.split(' ').filter_map(|id| id.parse().ok()).filter(exists).collect()
}

/// Carries out one of [`METHODS`].
///
/// # Errors
/// When a parameter is wrong, or the act cannot be recorded.
pub fn call(journal: &mut Journal, request: &Request, by: (&Actor, Timestamp)) -> Result<MethodResult, CallError> {
    match request.method.as_str() {
        "createrole" | "editrole" => put(journal, request, by),
        "deleterole" => delete(journal, request, by),
        _ => assign(journal, request, by),
    }
}

fn id(request: &Request, place: usize) -> Result<RoleId, CallError> {
    let text = request.param(place).map(|value| value.as_str().map_or_else(|| value.to_string(), String::from));
    text.and_then(|text| text.parse().ok())
        .ok_or(CallError::Param(place, "is not a role's id: 1 to 32 letters, digits, -, _ or ."))
}

fn known(journal: &Journal, request: &Request, place: usize) -> Result<RoleId, CallError> {
    let id = id(request, place)?;
    let is_known = journal.state().get(&Subject::Role(id)).is_some();
    if is_known { Ok(id) } else { Err(CallError::Param(place, "there is no such role")) }
}

/// A number, or a string of digits, or nothing.
fn number(request: &Request, place: usize, wrong: &'static str) -> Result<Option<i64>, CallError> {
    let number = match request.param(place) {
        None => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_i64(),
    };
    number.map(Some).ok_or(CallError::Param(place, wrong))
}

fn put(journal: &mut Journal, request: &Request, by: (&Actor, Timestamp)) -> Result<MethodResult, CallError> {
    const COLOR: &str = "is not a hue from 0 to 360";
    let is_new = request.method == "createrole";
    let id = if is_new { id(request, 0)? } else { known(journal, request, 0)? };
    let color = number(request, 3, COLOR)?.map(|hue| u16::try_from(hue).ok().filter(|hue| *hue <= 360));
    let role = Role {
        label: request.text(1, MAX_LABEL)?.into(),
        description: request.text(2, MAX_DESCRIPTION)?.into(),
        color: color.map(|hue| hue.ok_or(CallError::Param(3, COLOR))).transpose()?,
        order: number(request, 4, "is not a whole number")?,
    };
    let (subject, text) = (Subject::Role(id), role.to_text());
    if is_new && journal.state().get(&subject).is_some_and(|decision| decision.text != text) {
        return Err(CallError::Param(0, "there is such a role; use editrole"));
    }
    decide(journal, request, subject, Some(&text), by)
}

/// Deletes a role, and takes it from each key that has it: a later role of the same id begins with none.
fn delete(journal: &mut Journal, request: &Request, by: (&Actor, Timestamp)) -> Result<MethodResult, CallError> {
    let id = known(journal, request, 0)?;
    let holds = |text: &str| text.split(' ').any(|own| own == id.to_string());
    let holders: Vec<_> =
        journal.state().holders().filter(|(_, decision)| holds(&decision.text)).map(|(key, _)| key).collect();
    for key in holders {
        give(journal, request, key, id, false, by)?;
    }
    decide(journal, request, Subject::Role(id), None, by)
}

fn assign(journal: &mut Journal, request: &Request, by: (&Actor, Timestamp)) -> Result<MethodResult, CallError> {
    let Subject::Key(key) = request.key()? else { return Err(CallError::Param(0, "is not a public key")) };
    let id = known(journal, request, 1)?;
    give(journal, request, key, id, request.method == "assignrole", by)
}

/// Gives a key a role, or takes it.
fn give(
    journal: &mut Journal,
    request: &Request,
    key: Pubkey,
    id: RoleId,
    is_given: bool,
    by: (&Actor, Timestamp),
) -> Result<MethodResult, CallError> {
    let mut roles = of_key(journal.state(), &key);
    roles.retain(|own| *own != id);
    if is_given {
        roles.push(id);
        roles.sort_unstable();
    }
    if roles.len() > MAX_OF_KEY {
        return Err(CallError::Param(0, "the key has as many roles as it may have"));
    }
    let text = roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    decide(journal, request, Subject::Roles(key), Some(text.as_str()).filter(|text| !text.is_empty()), by)
}

fn decide(
    journal: &mut Journal,
    request: &Request,
    subject: Subject,
    text: Option<&str>,
    by: (&Actor, Timestamp),
) -> Result<MethodResult, CallError> {
    let is_changed = journal.decide(&request.method, subject, text.map(|text| (Verdict::Set, text)), "", by)?;
    Ok(MethodResult { result: true.into(), changed: is_changed.then_some(subject) })
}
