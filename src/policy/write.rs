//! Whether a client may publish an event: everything that can be decided without the store and the signature.
//!
//! Checks run from the cheapest to the most expensive; an ordinary note passes all of them in well under 100 ns.

use std::borrow::Cow;

use super::access::Access;
use super::limits::{Limits, TierLimits};
use super::membership::check_request;
use super::moderation::Moderation;
use super::options::PolicyOptions;
use super::peer::Peer;
use super::plugin::Source;
use super::refusal::Refusal;
use super::rule::is_addressed;
use super::rules::{self, Action};
use super::sets::KindSet;
use super::settings::Settings;
use crate::metrics::PolicyRule;
use crate::nostr::json::{Parser, Value};
use crate::nostr::pow::{committed_target, difficulty};
use crate::nostr::{EventView, Kind, Prefix, Pubkey, TagElement, Timestamp};

/// What becomes of an event that policy does not refuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It goes on.
    Accept,
    /// It goes on unless its author is new here and has published too much, which the store tells once its signature is
    /// known to be good.
    Newcomer,
    /// It is dropped once its signature is known to be good, and its client told that it was accepted.
    Mute,
    /// It is a request to join or to leave (NIP-43): the `management` thread answers it, and it goes no further.
    Request,
}

/// Whether `peer` may publish `event` at `now`.
///
/// # Errors
/// The rule that it breaks, and the reason for `OK false`: `invalid:` for form and limits, `blocked:` for the
/// operator's lists, `pow:` for too little work, `auth-required:` and `restricted:` for events that require
/// authentication.
pub fn check_event(
    settings: &Settings,
    peer: &Peer,
    event: EventView<'_>,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let kind = event.kind();
    check_publishable(&settings.policy, kind)?;
    check_size(&settings.limits, settings.tiers.get(peer.tier(settings)), event)?;
    if settings.membership.is_request(kind) {
        // Whoever asks is no member yet, so the rules about authors and what they publish do not apply.
        check_request(&settings.membership, event, now)?;
        check_protected(&settings.access, peer, event)?;
        check_still_welcome(settings, event)?;
        return Ok(Decision::Request);
    }
    check_time(&settings.limits, event, now)?;
    check_protected(&settings.access, peer, event)?;
    if kind == Kind::VANISH {
        // It must be obeyed no matter who may write here (NIP-62), so the remaining checks do not apply.
        return check_vanish(settings, event).map(|()| Decision::Accept);
    }
    settings.moderation.check_bans(event)?;
    let decision = check_rules(settings, event, Source::Ws)?;
    settings.retention.check_age(event, now).map_err(|reason| Refusal { rule: PolicyRule::Retention, reason })?;
    check_work(&settings.limits, event)?;
    check_keys(settings, peer, event)?;
    check_repost(event)?;
    Ok(if decision == Decision::Accept && may_be_new(settings, event) { Decision::Newcomer } else { decision })
}

/// Whether the author may be held to the rates of new keys, and the event counts.
fn may_be_new(settings: &Settings, event: EventView<'_>) -> bool {
    settings.policy.newcomers.period_s > 0
        && settings.access.counts_for_newcomers(event.kind())
        && !settings.access.knows(&event.pubkey(), &settings.moderation)
}

/// Whether the operator may take `event` from a file or another relay. Refused are kinds that no relay may store,
/// vanish requests to other relays, what admins banned and, if `policy.sources` has `source`, what the lists and rules
/// refuse. Limits, dates and proofs of keys concern clients alone, but another relay may not send what no client could:
/// events that are too large, dated in the future, or protected (NIP-70).
///
/// # Errors
/// The refusal that a client would get.
pub fn check_import(
    settings: &Settings,
    event: EventView<'_>,
    source: Source,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    check_publishable(&settings.policy, event.kind())?;
    if source == Source::Sync {
        check_from_relay(settings, event, now)?;
    }
    if event.kind() == Kind::VANISH {
        return check_vanish(settings, event).map(|()| Decision::Accept);
    }
    settings.moderation.check_bans(event)?;
    check_rules(settings, event, source)
}

/// What holds for events from another relay, which neither the operator nor its author has sent here.
fn check_from_relay(settings: &Settings, event: EventView<'_>, now: Timestamp) -> Result<(), Refusal> {
    rules::check_size(event, settings.tiers.largest_event_bytes())?;
    rules::check_tags(event, settings.limits.max_event_tags, None)?;
    rules::check_content_length(event, settings.limits.max_content_length, None)?;
    check_future(&settings.limits, event, now)?;
    if event.is_protected() {
        return Err(Refusal::new(PolicyRule::Protected, Prefix::Blocked, "only its author may publish this event"));
    }
    check_repost(event)
}

/// What this relay says about an event that another node of its cluster has accepted. The rules, rates and the plugin
/// were asked there; protected events (NIP-70) travel too, since the nodes are one relay to their clients.
///
/// # Errors
/// The refusal.
pub fn check_from_node(settings: &Settings, event: EventView<'_>) -> Result<(), Refusal> {
    check_publishable(&settings.policy, event.kind())?;
    rules::check_size(event, settings.tiers.largest_event_bytes())?;
    if event.kind() == Kind::VANISH {
        return check_vanish(settings, event);
    }
    settings.moderation.check_bans(event)
}

/// Whether an event is welcome as far as it and its author were not banned or denied. That may have changed while it
/// was on its way.
///
/// # Errors
/// The refusal, for the client.
pub fn check_still_welcome(settings: &Settings, event: EventView<'_>) -> Result<(), Refusal> {
    if event.kind() == Kind::VANISH {
        return Ok(());
    }
    settings.moderation.check_bans(event)?;
    let is_denied = settings.policy.sources.contains(&Source::Ws) && settings.access.denies(&event.pubkey());
    if is_denied { Err(Refusal::author()) } else { Ok(()) }
}

/// What the operator's lists and rules say about an event from `source`.
fn check_rules(settings: &Settings, event: EventView<'_>, source: Source) -> Result<Decision, Refusal> {
    if !settings.policy.sources.contains(&source) {
        return Ok(Decision::Accept);
    }
    check_lists(settings, event)?;
    check_trust(settings, event)?;
    settings.policy.kind_limits.iter().try_for_each(|limits| limits.check(event))?;
    match settings.policy.content.iter().find_map(|rule| rule.judge(event)) {
        Some(Action::Refuse) => Err(Refusal::content()),
        Some(Action::Mute) => Ok(Decision::Mute),
        None if settings.access.mutes(&event.pubkey()) => Ok(Decision::Mute),
        None => Ok(Decision::Accept),
    }
}

/// Refuses kinds that are not meant for the public. AUTH must never be broadcast (NIP-42), whatever the operator lists.
fn check_publishable(policy: &PolicyOptions, kind: Kind) -> Result<(), Refusal> {
    if kind == Kind::CLIENT_AUTH || policy.private_kinds.contains(kind) {
        return Err(Refusal::private_kind(kind));
    }
    Ok(())
}

fn invalid(rule: PolicyRule, text: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(rule, Prefix::Invalid, text)
}

/// Whether the client has proven the keys that publishing takes.
fn check_keys(settings: &Settings, peer: &Peer, event: EventView<'_>) -> Result<(), Refusal> {
    let kind = event.kind();
    if let Err(reason) = peer.check(settings, settings.auth.write, "publish")
        && !settings.access.is_for_member(event, &settings.moderation)
    {
        let rule = if reason.prefix == Prefix::AuthRequired { PolicyRule::Auth } else { PolicyRule::Member };
        return Err(Refusal { rule, reason });
    }
    if settings.auth.write_kinds.contains(kind) && !peer.is_authenticated() {
        let text = format!("only authenticated clients may publish kind {kind}");
        return Err(Refusal::new(PolicyRule::Auth, Prefix::AuthRequired, text));
    }
    Ok(())
}

fn check_size(limits: &Limits, tier: &TierLimits, event: EventView<'_>) -> Result<(), Refusal> {
    rules::check_size(event, tier.max_event_bytes)?;
    rules::check_tags(event, limits.max_event_tags, None)?;
    rules::check_content_length(event, limits.max_content_length, None)
}

fn check_time(limits: &Limits, event: EventView<'_>, now: Timestamp) -> Result<(), Refusal> {
    check_future(limits, event, now)?;
    let (kind, created_at) = (event.kind(), event.created_at().0);
    let age = now.0.saturating_sub(created_at);
    let too_old = |limit: u64| limit > 0 && age > limit;
    if kind.is_ephemeral() {
        if kind != Kind::EPHEMERAL_GIFT_WRAP && too_old(limits.ephemeral_max_age) {
            let text = format!("created_at of an ephemeral event is more than {} s ago", limits.ephemeral_max_age);
            return Err(invalid(PolicyRule::Time, text));
        }
        // Expiration does not concern events that are not stored (NIP-40).
        return Ok(());
    }
    if kind != Kind::VANISH && too_old(limits.created_at_lower_limit) {
        return Err(invalid(
            PolicyRule::Time,
            format!("created_at is more than {} s ago", limits.created_at_lower_limit),
        ));
    }
    if event.is_expired(now) {
        return Err(invalid(PolicyRule::Time, "the event is expired"));
    }
    Ok(())
}

fn check_future(limits: &Limits, event: EventView<'_>, now: Timestamp) -> Result<(), Refusal> {
    if event.created_at().0 <= now.0.saturating_add(limits.created_at_upper_limit) {
        return Ok(());
    }
    let text = format!("created_at is more than {} s in the future", limits.created_at_upper_limit);
    Err(invalid(PolicyRule::Time, text))
}

/// Accepts a protected event only from its author (NIP-70), whatever other rights the client has.
fn check_protected(access: &Access, peer: &Peer, event: EventView<'_>) -> Result<(), Refusal> {
    const ONLY_AUTHOR: &str = "this event may only be published by its author";
    if !event.is_protected() || (access.protected_events && peer.is(&event.pubkey())) {
        Ok(())
    } else if !access.protected_events {
        Err(Refusal::new(PolicyRule::Protected, Prefix::Blocked, "protected events are not accepted here"))
    } else if peer.is_authenticated() {
        Err(Refusal::new(PolicyRule::Protected, Prefix::Restricted, ONLY_AUTHOR))
    } else {
        Err(Refusal::new(PolicyRule::Protected, Prefix::AuthRequired, ONLY_AUTHOR))
    }
}

/// Whether a vanish request is addressed to this relay (NIP-62).
fn check_vanish(settings: &Settings, event: EventView<'_>) -> Result<(), Refusal> {
    let mut relays = event.tags().values("relay").filter_map(TagElement::as_text);
    if relays.any(|relay| relay == b"ALL_RELAYS" || settings.auth.urls.name(relay)) {
        return Ok(());
    }
    Err(invalid(PolicyRule::Vanish, format!("the request does not name this relay, which is {}", settings.auth.urls)))
}

/// The operator's lists, with what admins allowed beside them. What the lists refuse is refused, whatever admins
/// allowed.
fn check_lists(settings: &Settings, event: EventView<'_>) -> Result<(), Refusal> {
    let (access, moderation) = (&settings.access, &*settings.moderation);
    check_kind(access, moderation, event.kind())?;
    let author = event.pubkey();
    if access.denies(&author) {
        return Err(Refusal::author());
    }
    let has_members = settings.membership.is_on();
    let is_open = !has_members && !access.allows_members_only();
    if is_open || access.is_member(&author, moderation) || access.is_for_member(event, moderation) {
        return Ok(());
    }
    Err(if has_members { Refusal::not_a_member() } else { Refusal::stranger() })
}

/// What those lists say about a kind.
fn check_kind(access: &Access, moderation: &Moderation, kind: Kind) -> Result<(), Refusal> {
    let is_named = access.allow_kinds.is_empty() || access.allow_kinds.contains(kind) || moderation.allows_kind(kind);
    if access.deny_kinds.contains(kind) || !is_named {
        return Err(Refusal::kind(kind));
    }
    Ok(())
}

/// Whether any event of this kind is accepted from clients, to be told to people.
#[must_use]
pub fn accepts_kind(settings: &Settings, kind: Kind) -> bool {
    let has_lists = settings.policy.sources.contains(&Source::Ws);
    check_publishable(&settings.policy, kind).is_ok()
        && (kind == Kind::VANISH || !settings.moderation.bans_kind(kind))
        && (kind == Kind::VANISH || !has_lists || check_kind(&settings.access, &settings.moderation, kind).is_ok())
}

/// The kinds at which [`accepts_kind`] may change, in any order.
pub fn kind_edges(settings: &Settings) -> impl Iterator<Item = Kind> {
    let sets = [&settings.policy.private_kinds, &settings.access.allow_kinds, &settings.access.deny_kinds];
    let single = settings.moderation.kinds().chain([Kind::CLIENT_AUTH, Kind::VANISH]);
    let single = single.flat_map(|kind| [Some(kind.0), kind.0.checked_add(1)]).flatten().map(Kind);
    sets.into_iter().flat_map(KindSet::edges).chain(single)
}

/// Whether the author is in the web of trust, if there is one and it is known.
fn check_trust(settings: &Settings, event: EventView<'_>) -> Result<(), Refusal> {
    let Some(trusted) = &settings.trusted else { return Ok(()) };
    let access = &settings.access;
    let is_in = |key: &Pubkey| trusted.contains(key) || access.knows(key, &settings.moderation);
    if is_in(&event.pubkey()) || (access.addressed_kinds.contains(event.kind()) && is_addressed(event, is_in)) {
        return Ok(());
    }
    Err(Refusal::untrusted())
}

fn check_work(limits: &Limits, event: EventView<'_>) -> Result<(), Refusal> {
    let required = limits.min_pow_difficulty;
    if required == 0 {
        return Ok(());
    }
    let pow = |text: String| Err(Refusal::new(PolicyRule::Work, Prefix::Pow, text));
    let found = difficulty(&event.id());
    if found < required {
        return pow(format!("difficulty {found} is below {required}"));
    }
    if !limits.require_committed_target {
        return Ok(());
    }
    match committed_target(event) {
        Some(target) if target >= u32::from(required) => Ok(()),
        Some(target) => pow(format!("the committed target {target} is below {required}")),
        None => pow(format!("the nonce tag commits to no target; {required} is required")),
    }
}

/// Refuses a repost that embeds a protected event (NIP-70).
fn check_repost(event: EventView<'_>) -> Result<(), Refusal> {
    if !matches!(event.kind(), Kind::REPOST | Kind::GENERIC_REPOST) {
        return Ok(());
    }
    // The three spellings of that string in JSON; without any of them there is no such tag and nothing to parse.
    let ways: [&[u8]; 3] = [b"\"-\"", b"\"\\u002d\"", b"\"\\u002D\""];
    let content = event.content();
    if !ways.iter().any(|way| content.windows(way.len()).any(|window| window == *way)) {
        return Ok(());
    }
    // Content that is not JSON embeds no event.
    if Parser::default().parse(content, has_protected_tag).unwrap_or(false) {
        return Err(invalid(PolicyRule::Protected, "a repost must not embed a protected event"));
    }
    Ok(())
}

fn has_protected_tag(embedded: Value<'_, '_>) -> bool {
    let Some(mut entries) = embedded.as_object() else { return false };
    entries.any(|(key, value)| {
        let is_protecting = |tag: Value<'_, '_>| tag.as_array().and_then(|mut tag| tag.next()?.as_str()) == Some("-");
        key == "tags" && value.as_array().is_some_and(|mut tags| tags.any(is_protecting))
    })
}

#[cfg(test)]
mod tests;
