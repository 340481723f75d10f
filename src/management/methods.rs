//! The methods of NIP-86 that read and change decisions: from a request to its result.
//!
//! Whether the caller may, was decided before. What a decision entails beside the look-ups of policy, such as removing
//! a banned event, is left to the caller: [`MethodResult::changed`] tells the subject.

use serde_json::{Value, json};

use super::audit::Verdict;
use super::journal::{Actor, Journal};
use super::request::{CallError, MAX_REASON, MAX_TEXT, MethodResult, Request};
use super::state::List;
use super::subject::Subject;
use super::{members, roles};
use crate::nostr::{Kind, Timestamp};
use crate::policy::{Access, Membership};

/// The methods that are always served. `listdisallowedkinds`, which other relays have too, `unbanevent`, `audit`,
/// `undo` and `countdecisions` are not in NIP-86.
pub const METHODS: [&str; 23] = [
    "banpubkey",
    "unbanpubkey",
    "listbannedpubkeys",
    "allowpubkey",
    "unallowpubkey",
    "listallowedpubkeys",
    "banevent",
    "allowevent",
    "listbannedevents",
    "changerelayname",
    "changerelaydescription",
    "changerelayicon",
    "allowkind",
    "disallowkind",
    "listallowedkinds",
    "listdisallowedkinds",
    "blockip",
    "unblockip",
    "listblockedips",
    "unbanevent",
    "audit",
    "undo",
    "countdecisions",
];

/// The methods that return decisions, with their lists.
const LISTS: [(&str, List); 4] = [
    ("listbannedpubkeys", List::BannedKeys),
    ("listallowedpubkeys", List::AllowedKeys),
    ("listbannedevents", List::BannedEvents),
    ("listblockedips", List::BlockedAddresses),
];

/// Entries of a list that are returned unless the request asks for another number, and the most that it gets.
const MAX_ENTRIES: u64 = 10_000;

/// Acts of the audit that are returned, likewise.
const MAX_ACTS: u64 = 1_000;

/// Bytes of JSON in a list, unless its first entry alone has more. One act may have 50 KiB, and whoever reads an answer
/// has a bound of his own (`socket::MAX_ANSWER`).
const MAX_LIST: usize = 4 << 20;

/// What the configuration says, as far as methods depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Configured<'a> {
    /// The lists.
    pub access: &'a Access,
    /// Membership.
    pub membership: &'a Membership,
}

/// The methods that are served.
pub fn methods(membership: &Membership) -> impl Iterator<Item = &'static str> {
    let of_members = members::METHODS.into_iter().chain(roles::METHODS);
    METHODS.into_iter().chain(of_members.filter(|_| membership.is_on()))
}

/// Carries a request out.
///
/// # Errors
/// When there is no such method, a parameter is wrong, or the act cannot be recorded.
pub fn call(
    journal: &mut Journal,
    Configured { access, membership }: Configured<'_>,
    request: &Request,
    by: (&Actor, Timestamp),
) -> Result<MethodResult, CallError> {
    let (ban, allow) = (Some(Verdict::Ban), Some(Verdict::Allow));
    if let Some((_, of)) = LISTS.iter().find(|(method, _)| *method == request.method) {
        return list(journal, *of, request);
    }
    match request.method.as_str() {
        "banpubkey" => decide(journal, request, request.key()?, ban, by),
        "allowpubkey" => decide(journal, request, request.key()?, allow, by),
        "unbanpubkey" => take_back(journal, request, request.key()?, Verdict::Ban, by),
        "unallowpubkey" => take_back(journal, request, request.key()?, Verdict::Allow, by),
        "banevent" => decide(journal, request, request.event()?, ban, by),
        "allowevent" => decide(journal, request, request.event()?, allow, by),
        "unbanevent" => take_back(journal, request, request.event()?, Verdict::Ban, by),
        "allowkind" => decide(journal, request, request.kind()?, allow, by),
        "disallowkind" => decide(journal, request, request.kind()?, ban, by),
        "blockip" => decide(journal, request, request.address()?, ban, by),
        "unblockip" => take_back(journal, request, request.address()?, Verdict::Ban, by),
        "changerelayname" => rename(journal, request, Subject::Name, by),
        "changerelaydescription" => rename(journal, request, Subject::Description, by),
        "changerelayicon" => rename(journal, request, Subject::Icon, by),
        "countdecisions" => {
            let count = |(method, list): (&str, _)| (method.to_owned(), journal.state().listed_count(list).into());
            Ok(Value::Object(LISTS.into_iter().map(count).collect()).into())
        }
        "listallowedkinds" => Ok(kinds(journal, access).into()),
        "listdisallowedkinds" => {
            let is_banned =
                |kind: &u16| access.deny_kinds.contains(Kind(*kind)) || journal.moderation().bans_kind(Kind(*kind));
            Ok(Value::from((0..=u16::MAX).filter(is_banned).collect::<Vec<_>>()).into())
        }
        "audit" => {
            let count = request.number(0)?.unwrap_or(MAX_ACTS).min(MAX_ACTS) as usize;
            let skip = usize::try_from(request.number(1)?.unwrap_or(0)).unwrap_or(usize::MAX);
            let acts = journal.audit(count, skip)?;
            Ok(page(acts.iter().map(|act| json!(act))).into())
        }
        "undo" => {
            let number = request.number(0)?.ok_or(CallError::Param(0, "is not the number of an act"))?;
            let subject = journal.undo(number, by)?;
            Ok(MethodResult { result: true.into(), changed: Some(subject) })
        }
        method if members::METHODS.contains(&method) || roles::METHODS.contains(&method) => {
            if !membership.is_on() {
                return Err(CallError::NoMembership(method.into()));
            }
            let is_about_roles = roles::METHODS.contains(&method);
            if is_about_roles {
                roles::call(journal, request, by)
            } else {
                members::call(journal, membership, request, by)
            }
        }
        _ => Err(CallError::Unknown(request.method.chars().take(64).collect())),
    }
}

fn decide(
    journal: &mut Journal,
    request: &Request,
    subject: Subject,
    verdict: Option<Verdict>,
    by: (&Actor, Timestamp),
) -> Result<MethodResult, CallError> {
    let reason = request.reason(1)?;
    let decision = verdict.map(|verdict| (verdict, reason));
    let is_changed = journal.decide(&request.method, subject, decision, reason, by)?;
    Ok(MethodResult { result: true.into(), changed: is_changed.then_some(subject) })
}

/// Takes a decision back, if it is the one that the method is about.
fn take_back(
    journal: &mut Journal,
    request: &Request,
    subject: Subject,
    verdict: Verdict,
    by: (&Actor, Timestamp),
) -> Result<MethodResult, CallError> {
    let reason = request.reason(1)?;
    // Another process may just have decided.
    journal.refresh()?;
    if journal.state().get(&subject).is_none_or(|decision| decision.verdict != verdict) {
        return Ok(Value::from(true).into());
    }
    let is_changed = journal.decide(&request.method, subject, None, reason, by)?;
    Ok(MethodResult { result: true.into(), changed: is_changed.then_some(subject) })
}

/// Gives the relay another name, description or icon; an empty one gives it the configured one again.
fn rename(
    journal: &mut Journal,
    request: &Request,
    subject: Subject,
    by: (&Actor, Timestamp),
) -> Result<MethodResult, CallError> {
    if request.param(0).is_none() {
        return Err(CallError::Param(0, "is missing"));
    }
    let text = request.text(0, if subject == Subject::Name { MAX_REASON } else { MAX_TEXT })?;
    let decision = (!text.is_empty()).then_some((Verdict::Set, text));
    let is_changed = journal.decide(&request.method, subject, decision, "", by)?;
    Ok(MethodResult { result: true.into(), changed: is_changed.then_some(subject) })
}

/// The latest decisions of a kind, the newest first. NIP-86 has no pages: two numbers may follow, how many and after
/// how many. There may be fewer, see [`page`].
fn list(journal: &Journal, list: List, request: &Request) -> Result<MethodResult, CallError> {
    let count = request.number(0)?.unwrap_or(MAX_ENTRIES).min(MAX_ENTRIES) as usize;
    let skip = usize::try_from(request.number(1)?.unwrap_or(0)).unwrap_or(usize::MAX);
    let shown = journal.state().listed(list, skip).take(count).map(|(subject, decision)| {
        let (name, text) = match subject {
            Subject::Event(id) => ("id", id.to_string()),
            Subject::Address(network) => ("ip", network.to_string()),
            Subject::Key(key) => ("pubkey", key.to_string()),
            other => ("subject", other.to_string()),
        };
        json!({ name: text, "reason": decision.text })
    });
    Ok(page(shown).into())
}

/// As many of these as an answer may hold. Only an empty page is the end of a list.
fn page(entries: impl Iterator<Item = Value>) -> Value {
    let mut bytes = 0;
    let fits = |entry: &Value| {
        let is_first = bytes == 0;
        bytes += entry.to_string().len() + 1;
        is_first || bytes <= MAX_LIST
    };
    entries.take_while(fits).collect()
}

/// The kinds that are accepted by name: those of the configuration's list, with what admins allowed and without what is
/// refused. Where the configuration has no list, every other kind is accepted too.
fn kinds(journal: &Journal, access: &Access) -> Value {
    let moderation = journal.moderation();
    let is_allowed = |kind: &u16| {
        let kind = Kind(*kind);
        let is_named = moderation.allows_kind(kind) || access.allow_kinds.contains(kind);
        is_named && !moderation.bans_kind(kind) && !access.deny_kinds.contains(kind)
    };
    Value::from((0..=u16::MAX).filter(is_allowed).collect::<Vec<_>>())
}
