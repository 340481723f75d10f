//! Who is a member (NIP-43): joining with a claim, leaving, and the invites that hold claims.
//!
//! A member is a key that was allowed: by an admin, or by its own request. So a ban ends a membership, and each step is
//! an act of the audit. An invite is used up before its user is a member: a process that is killed in between loses one
//! use and gives nothing away.

use serde_json::{Value, json};

use super::audit::{Decision, Verdict};
use super::error::JournalError;
use super::journal::{Actor, Journal};
use super::request::{CallError, MethodResult, Request};
use super::subject::{InviteCode, Subject};
use crate::nostr::{EventId, Pubkey, Timestamp};
use crate::policy::Membership;

/// The methods about invites, served where there is membership. None is in NIP-86.
pub const METHODS: [&str; 3] = ["invite", "uninvite", "listinvites"];

/// The most uses of one invite.
const MAX_USES: u64 = 100_000;

/// The longest time that an invite is good: ten years, in seconds.
pub const MAX_TTL_S: u64 = 315_360_000;

/// Expired invites that a new one clears away.
const CLEARED: usize = 2;

/// A key is a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Joined {
    /// From now on.
    Now,
    /// It was one before.
    Already,
}

/// Why a key did not become a member.
#[derive(Debug, thiserror::Error)]
pub enum NotJoined {
    /// No invite has this code, or it was used up.
    #[error("that is an invalid invite code")]
    Invalid,
    /// The invite is no longer good.
    #[error("that invite code is expired")]
    Expired,
    /// An admin banned the key.
    #[error("the key is banned")]
    Banned,
    /// The request was carried out before.
    #[error("this request was used before; sign a new one")]
    Used,
    /// It could not be recorded.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// What is left of an invite.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invite {
    /// How many may still join with it.
    pub uses: u64,
    /// Until when.
    pub until: Timestamp,
    /// Who made it.
    pub by: String,
}

impl Invite {
    /// The text of its decision, such as `1 uses until 1795000000 by uid:0`.
    fn to_text(&self) -> String {
        format!("{} uses until {} by {}", self.uses, self.until, self.by)
    }

    /// Reads that text.
    #[must_use]
    pub fn of(decision: &Decision) -> Option<Self> {
        let (uses, rest) = decision.text.split_once(" uses until ")?;
        let (until, by) = rest.split_once(" by ")?;
        Some(Self { uses: uses.parse().ok()?, until: Timestamp(until.parse().ok()?), by: by.into() })
    }
}

/// A member's request: the event and its date. It is taken once.
pub type JoinRequest = (EventId, Timestamp);

/// Makes a key a member, if its claim is good.
///
/// # Errors
/// When it is not, the key is banned, the request was used before, or it cannot be recorded.
pub fn join(
    journal: &mut Journal,
    membership: &Membership,
    (key, asked): (Pubkey, JoinRequest),
    claim: &str,
    by: (&Actor, Timestamp),
) -> Result<Joined, NotJoined> {
    journal.refresh()?;
    if journal.holds_request(&asked.0, asked.1)? {
        return Err(NotJoined::Used);
    }
    let subject = Subject::Key(key);
    match journal.state().get(&subject).map(|decision| decision.verdict) {
        Some(Verdict::Allow) => return Ok(Joined::Already),
        Some(Verdict::Ban) => return Err(NotJoined::Banned),
        Some(Verdict::Set) | None => {}
    }
    let how = spend(journal, membership, (claim, asked), by)?;
    // Roles that it had as a member before are gone.
    journal.decide("join", Subject::Roles(key), None, "", by)?;
    let is_welcome = |before: Option<&Decision>| before.is_none_or(|before| before.verdict != Verdict::Ban);
    match journal.decide_if("join", subject, Some((Verdict::Allow, &how)), "", by, is_welcome)? {
        true => Ok(Joined::Now),
        false => Err(NotJoined::Banned),
    }
}

/// Uses a claim; returns how its user joined, for lists and the audit.
fn spend(
    journal: &mut Journal,
    membership: &Membership,
    (claim, asked): (&str, JoinRequest),
    by: (&Actor, Timestamp),
) -> Result<String, NotJoined> {
    if membership.claims.iter().any(|own| own == claim) {
        admit(journal, asked)?;
        return Ok("joined with a claim of the configuration".into());
    }
    let subject = InviteCode::parse(claim).map(Subject::Invite).ok_or(NotJoined::Invalid)?;
    let invite = journal.state().get(&subject).and_then(Invite::of).ok_or(NotJoined::Invalid)?;
    if invite.until < by.1 {
        return Err(NotJoined::Expired);
    }
    admit(journal, asked)?;
    let left = Invite { uses: invite.uses.saturating_sub(1), ..invite.clone() };
    let (text, is_used_up) = (left.to_text(), left.uses == 0);
    let decision = (!is_used_up).then_some((Verdict::Allow, text.as_str()));
    // Another process may have used it meanwhile.
    let is_same = |before: Option<&Decision>| before.and_then(Invite::of).is_some_and(|before| before == invite);
    match journal.decide_if("join", subject, decision, "", by, is_same)? {
        true => Ok(format!("joined, invited by {}", invite.by)),
        false => Err(NotJoined::Invalid),
    }
}

/// Takes a request, once its claim is known to be good: those that are refused fill no list.
fn admit(journal: &mut Journal, (id, created_at): JoinRequest) -> Result<(), NotJoined> {
    if journal.admit_request(id, created_at)? { Ok(()) } else { Err(NotJoined::Used) }
}

/// Ends a membership. Returns whether there was one.
///
/// # Errors
/// When the request was used before, or it cannot be recorded.
pub fn leave(
    journal: &mut Journal,
    (key, asked): (Pubkey, JoinRequest),
    by: (&Actor, Timestamp),
) -> Result<bool, NotJoined> {
    journal.refresh()?;
    if journal.holds_request(&asked.0, asked.1)? {
        return Err(NotJoined::Used);
    }
    let is_member = |before: Option<&Decision>| before.is_some_and(|before| before.verdict == Verdict::Allow);
    if !is_member(journal.state().get(&Subject::Key(key))) {
        return Ok(false);
    }
    admit(journal, asked)?;
    Ok(journal.decide_if("leave", Subject::Key(key), None, "", by, is_member)?)
}

/// Makes an invite. Clears some expired ones away.
///
/// # Errors
/// When there are too many, or it cannot be recorded.
pub fn invite(
    journal: &mut Journal,
    (uses, ttl_s): (u64, u64),
    reason: &str,
    by: (&Actor, Timestamp),
) -> Result<(InviteCode, Invite), JournalError> {
    journal.refresh()?;
    let is_over =
        |(_, decision): &(InviteCode, &Decision)| Invite::of(decision).is_none_or(|invite| invite.until < by.1);
    let over: Vec<_> = journal.state().invites().filter(is_over).map(|(code, _)| code).take(CLEARED).collect();
    for code in over {
        journal.decide("expire", Subject::Invite(code), None, "", by)?;
    }
    let (code, until) = (new_code()?, Timestamp(by.1.0.saturating_add(ttl_s)));
    let invite = Invite { uses, until, by: by.0.by.clone() };
    journal.decide("invite", Subject::Invite(code), Some((Verdict::Allow, &invite.to_text())), reason, by)?;
    Ok((code, invite))
}

/// The invite of a member: the one that it has, or a new one for one use.
///
/// # Errors
/// As [`invite`].
pub fn invite_of(
    journal: &mut Journal,
    membership: &Membership,
    by: (&Actor, Timestamp),
) -> Result<InviteCode, JournalError> {
    let is_own = |decision: &Decision| {
        Invite::of(decision).is_some_and(|invite| invite.by == by.0.by && invite.until >= by.1 && invite.uses > 0)
    };
    let own = journal.state().invites().find(|(_, decision)| is_own(decision)).map(|(code, _)| code);
    match own {
        Some(code) => Ok(code),
        None => invite(journal, (1, membership.invite_ttl_s), "", by).map(|(code, _)| code),
    }
}

fn new_code() -> Result<InviteCode, JournalError> {
    let mut code = [0; 16];
    getrandom::fill(&mut code).map_err(|error| JournalError::Random(error.to_string()))?;
    Ok(InviteCode(code))
}

/// Carries out one of [`METHODS`].
///
/// # Errors
/// When a parameter is wrong, or the act cannot be recorded.
pub fn call(
    journal: &mut Journal,
    membership: &Membership,
    request: &Request,
    by: (&Actor, Timestamp),
) -> Result<MethodResult, CallError> {
    match request.method.as_str() {
        "invite" => {
            let uses = request.number(0)?.unwrap_or(1);
            let ttl_s = request.number(1)?.unwrap_or(membership.invite_ttl_s);
            if !(1..=MAX_USES).contains(&uses) {
                return Err(CallError::Param(0, "is not a number of uses from 1 to 100000"));
            }
            if !(1..=MAX_TTL_S).contains(&ttl_s) {
                return Err(CallError::Param(1, "is not a number of seconds up to ten years"));
            }
            let (code, made) = invite(journal, (uses, ttl_s), request.reason(2)?, by)?;
            Ok(MethodResult { result: shown(code, &made), changed: Some(Subject::Invite(code)) })
        }
        "uninvite" => {
            let code = request.param(0).and_then(Value::as_str).and_then(InviteCode::parse);
            let subject = code.map(Subject::Invite).ok_or(CallError::Param(0, "is not a code of 32 hex digits"))?;
            let is_changed = journal.decide("uninvite", subject, None, request.reason(1)?, by)?;
            Ok(MethodResult { result: true.into(), changed: is_changed.then_some(subject) })
        }
        _ => {
            let invites = journal.state().invites();
            let good = invites.filter_map(|(code, decision)| Some((code, Invite::of(decision)?)));
            let good = good.filter(|(_, invite)| invite.until >= by.1);
            Ok(Value::from_iter(good.map(|(code, invite)| shown(code, &invite))).into())
        }
    }
}

fn shown(code: InviteCode, invite: &Invite) -> Value {
    json!({ "code": code.to_string(), "uses": invite.uses, "until": invite.until.0, "by": invite.by })
}
