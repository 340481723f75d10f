//! What the relay accepts, in words: one sentence for each thing that the settings enforce. There is no second list of
//! limits to fall behind them.

use super::words::{bytes, count, counted, duration, kinds, ranges};
use crate::policy::{
    Access, Audience, KindSet, Limits, Rate, Rule, Settings, Source, Tier, TierLimits, accepts_kind, kind_edges,
};

/// Sentences about one thing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section {
    /// What they are about.
    pub title: &'static str,
    /// The sentences.
    pub lines: Vec<String>,
}

/// Everything that is told in sentences; sections without one are left out.
pub fn sections(settings: &Settings) -> Vec<Section> {
    let sections = [
        ("Who may read", reading(settings)),
        ("Who may publish", publishing(settings)),
        ("Which events", events(settings)),
        ("How long they are kept", keeping(settings)),
    ];
    let sections = sections.into_iter().filter(|(_, lines)| !lines.is_empty());
    sections.map(|(title, lines)| Section { title, lines }).collect()
}

fn of(set: &KindSet) -> String {
    kinds(&ranges(set.edges(), |kind| set.contains(kind)))
}

fn reading(settings: &Settings) -> Vec<String> {
    let auth = &settings.auth;
    let mut lines = vec![match auth.read {
        Audience::Anyone => "Anyone may read.".to_owned(),
        Audience::Authenticated => "Clients read once they have proven a key (NIP-42).".to_owned(),
        Audience::Listed => {
            "Clients read once they have proven a key that the operator has listed (NIP-42).".to_owned()
        }
    }];
    if !auth.read_kinds.is_empty() {
        lines.push(format!("Events of {} are shown to clients that have proven a key.", of(&auth.read_kinds)));
    }
    if !auth.involved_kinds.is_empty() {
        let kinds = of(&auth.involved_kinds);
        lines.push(format!("Events of {kinds} are shown only to their author and recipients, who prove their key."));
    }
    if !auth.author_only_kinds.is_empty() {
        let kinds = of(&auth.author_only_kinds);
        lines.push(format!("Events of {kinds} are shown only to their author, who proves the key."));
    }
    lines
}

fn publishing(settings: &Settings) -> Vec<String> {
    let (auth, access, policy) = (&settings.auth, &settings.access, &settings.policy);
    let lists_apply = policy.sources.contains(&Source::Ws);
    let mut lines = Vec::new();
    if settings.membership.is_on() {
        lines.push("Members may publish. Who has an invite becomes one with a client that knows NIP-43.".into());
    } else if lists_apply && access.allows_members_only() {
        lines.push("Authors whom the operator has listed may publish.".into());
    }
    match auth.write {
        Audience::Anyone if lines.is_empty() => lines.push("Anyone may publish.".into()),
        Audience::Anyone => {}
        Audience::Authenticated => lines.push("Clients publish once they have proven a key (NIP-42).".into()),
        Audience::Listed => {
            lines.push("Clients publish once they have proven a key that the operator has listed (NIP-42).".into());
        }
    }
    if lists_apply && !policy.trust.roots.is_empty() {
        let hops = counted(policy.trust.within.into(), "hop", "hops");
        lines.push(format!("Authors must be within {hops} of keys that the operator trusts, by who follows whom."));
    }
    if !is_open(settings) && !access.addressed_kinds.is_empty() {
        let kinds = of(&access.addressed_kinds);
        lines.push(format!("Anyone may send events of {kinds} to those who may publish here."));
    }
    if !auth.write_kinds.is_empty() {
        lines.push(format!("Events of {} take a proven key (NIP-42).", of(&auth.write_kinds)));
    }
    let newcomers = &policy.newcomers;
    if newcomers.period_s > 0 {
        let (period, events) = (duration(newcomers.period_s), count(newcomers.events_per_hour.into()));
        lines.push(format!("A key that is new here may publish {events} events an hour in its first {period}."));
    }
    lines
}

/// Whether anybody may publish.
fn is_open(settings: &Settings) -> bool {
    let Settings { policy, access, auth, membership, .. } = settings;
    let has_lists = access.allows_members_only() || membership.is_on() || !policy.trust.roots.is_empty();
    auth.write == Audience::Anyone && !(has_lists && policy.sources.contains(&Source::Ws))
}

fn events(settings: &Settings) -> Vec<String> {
    let Settings { limits, policy, plugin, access, .. } = settings;
    let mut lines = vec![accepted_kinds(settings)];
    lines.push(format!(
        "An event may have {} of content and {}.",
        counted(limits.max_content_length as u64, "character", "characters"),
        counted(limits.max_event_tags as u64, "tag", "tags"),
    ));
    lines.extend(policy.kind_limits.iter().filter_map(|limit| {
        let parts = [
            limit.max_event_bytes.map(|most| bytes(most as u64)),
            limit.max_content_length.map(|most| counted(most as u64, "character", "characters") + " of content"),
            limit.max_event_tags.map(|most| counted(most as u64, "tag", "tags")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("Of {}, at most {}.", of(&limit.kinds), super::words::list(&parts)))
    }));
    lines.push(dates(limits));
    if limits.min_pow_difficulty > 0 {
        let bits = counted(limits.min_pow_difficulty.into(), "leading zero bit", "leading zero bits");
        let target = if limits.require_committed_target { ", and commit to as many" } else { "" };
        lines.push(format!("An id must have {bits} (NIP-13){target}."));
    }
    lines.push(protected(access));
    if !policy.content.is_empty() {
        lines.push("The operator refuses some words and patterns in content.".into());
    }
    if !plugin.command.is_empty() && !plugin.dry_run && plugin.sources.contains(&Source::Ws) {
        lines.push("A program of the operator’s has the last word on each event.".into());
    }
    lines
}

fn accepted_kinds(settings: &Settings) -> String {
    let edges = || kind_edges(settings);
    let accepted = ranges(edges(), |kind| accepts_kind(settings, kind));
    let refused = ranges(edges(), |kind| !accepts_kind(settings, kind));
    if accepted.is_empty() {
        return "No kind of event is accepted.".into();
    }
    if refused.is_empty() {
        return "Events of every kind are accepted.".into();
    }
    let size = |ranges: &[(u16, u16)]| -> u32 {
        ranges.iter().map(|(first, last)| u32::from(*last) - u32::from(*first) + 1).sum()
    };
    if size(&refused) <= size(&accepted) {
        return format!("Events of every kind are accepted, except {}.", kinds(&refused));
    }
    format!("Events of {} are accepted, and no others.", kinds(&accepted))
}

fn dates(limits: &Limits) -> String {
    let future = duration(limits.created_at_upper_limit);
    match limits.created_at_lower_limit {
        0 => format!("An event may have any age, and be dated up to {future} in the future."),
        past => format!("An event may be up to {} old, and be dated up to {future} in the future.", duration(past)),
    }
}

fn protected(access: &Access) -> String {
    if access.protected_events {
        "Protected events (NIP-70) are accepted from their authors, who prove their key.".into()
    } else {
        "Protected events (NIP-70) are not accepted.".into()
    }
}

fn keeping(settings: &Settings) -> Vec<String> {
    let (rules, limits) = (settings.retention.rules(), settings.retention.limits());
    if settings.retention.is_empty() {
        return vec!["Everything is kept.".into()];
    }
    let mut lines: Vec<String> = rules.iter().map(rule).collect();
    if limits.max_events_per_author > 0 {
        let events = counted(limits.max_events_per_author, "event", "events");
        lines.push(format!("Of one author, at most {events} besides those that are kept forever."));
    }
    if limits.max_bytes_per_author > 0 {
        let most = bytes(limits.max_bytes_per_author);
        lines.push(format!("Of one author, at most {most} besides what is kept forever."));
    }
    lines
}

/// What one rule keeps. Whose events it is about is the operator's business.
fn rule(rule: &Rule) -> String {
    let (selector, bounds) = (&rule.selector, rule.bounds);
    let mut what = selector.kinds.as_ref().map_or_else(|| "other events".to_owned(), of);
    if !selector.takes_every_author() {
        what += " of some authors";
    }
    if selector.addressed_to.is_some() {
        what += " to some recipients";
    }
    if rule.is_forever() {
        return sentence(&format!("{what}: forever."));
    }
    let mut kept = Vec::new();
    kept.extend(bounds.max_age.map(|age| format!("for {}", duration(age.seconds))));
    let newest = |most: u64, of: &str| (most > 0).then(|| format!("the newest {}{of}", count(most)));
    kept.extend(newest(bounds.max_per_author_and_kind, " of each author and kind"));
    kept.extend(newest(bounds.max_events, ""));
    kept.extend((bounds.max_bytes > 0).then(|| format!("the newest {}", bytes(bounds.max_bytes))));
    if kept.is_empty() {
        kept.push("as long as there is room".into());
    }
    sentence(&format!("{what}: {}.", kept.join(", ")))
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// The limits of a connection, by what its client has proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// Above each column of values.
    pub heads: Vec<&'static str>,
    /// What is limited, and its values.
    pub rows: Vec<(&'static str, Vec<String>)>,
}

/// The limits by tier. The column of listed keys is left out where the operator has listed none.
pub fn limits(settings: &Settings) -> Table {
    let mut tiers = vec![("Without a key", Tier::Anonymous), ("With a proven key", Tier::Authenticated)];
    if !settings.access.lists_nobody() {
        tiers.push(("Listed by the operator", Tier::Listed));
    }
    let all = |value: &dyn Fn(&TierLimits) -> String| {
        tiers.iter().map(|(_, tier)| value(settings.tiers.get(*tier))).collect::<Vec<_>>()
    };
    let limits = &settings.limits;
    let rows = vec![
        ("Bytes of a message", all(&|_| bytes(limits.max_message_length as u64))),
        ("Bytes of an event, as it is stored", all(&|tier| bytes(tier.max_event_bytes as u64))),
        ("Open subscriptions", all(&|tier| count(tier.max_subscriptions as u64))),
        ("Filters of a request, and values in them", {
            all(&|_| format!("{}, {}", count(limits.max_filters as u64), count(limits.max_filter_items as u64)))
        }),
        ("Stored events for a filter, unless it has a limit", {
            all(&|tier| count(limits.default_limit.min(tier.max_limit).into()))
        }),
        ("Stored events for a filter, at most", all(&|tier| count(tier.max_limit.into()))),
        ("Events published in a second, and at once", all(&|tier| rate(tier.events))),
        ("Requests in a second, and at once", all(&|tier| rate(tier.queries))),
    ];
    Table { heads: tiers.iter().map(|(name, _)| *name).collect(), rows }
}

fn rate(rate: Rate) -> String {
    if rate.per_second == 0 {
        return "no limit".into();
    }
    format!("{}, {}", count(rate.per_second.into()), count(rate.burst.into()))
}
