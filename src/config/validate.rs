//! Finds values that are out of range or contradict each other, all in one pass.

use std::borrow::Cow;

use super::cluster;
use super::error::Fault;
use super::sections::Config;
use crate::management::members::MAX_TTL_S;
use crate::policy::{Audience, Membership, PluginOptions, Rate, TierLimits, TrustOptions};
use crate::server::CHANGES_PATH;

/// The faults found so far.
struct Faults(Vec<Fault>);

impl Faults {
    /// Reports a fault unless `good`.
    fn unless(&mut self, good: bool, key: impl Into<Cow<'static, str>>, text: impl Into<String>) {
        if !good {
            self.0.push(Fault { key: key.into(), text: text.into() });
        }
    }

    /// Reports a number that is out of range.
    fn range(&mut self, key: &'static str, value: u64, range: std::ops::RangeInclusive<u64>) {
        let (low, high) = range.clone().into_inner();
        let text = if high == u64::MAX {
            format!("{value} is below the minimum of {low}")
        } else {
            format!("{value} is not between {low} and {high}")
        };
        self.unless(range.contains(&value), key, text);
    }
}

/// A week: who keeps a session longer should log in again.
const MAX_SESSION_S: u64 = 604_800;

/// All faults in `config`, section by section.
pub fn check(config: &Config) -> Vec<Fault> {
    let mut faults = Faults(Vec::new());
    server(config, &mut faults);
    storage(config, &mut faults);
    limits(config, &mut faults);
    tiers(config, &mut faults);
    rates(config, &mut faults);
    memory(config, &mut faults);
    access(config, &mut faults);
    policy(config, &mut faults);
    plugin(config, &mut faults);
    membership(config, &mut faults);
    faults.0.extend(config.replication.faults());
    faults.0.extend(cluster::faults(&config.cluster));
    pipeline(config, &mut faults);
    monitoring(config, &mut faults);
    faults.0
}

fn server(config: &Config, faults: &mut Faults) {
    let server = &config.server;
    let is_path = server.path.starts_with('/') && !server.path.contains(['?', '#', ' ']);
    faults.unless(is_path, "server.path", "must start with a slash and contain no ?, # or space");
    faults.range("server.max_connections", server.max_connections as u64, 1..=u64::MAX);
    faults.range("server.max_connections_per_address", server.max_connections_per_address as u64, 1..=u64::MAX);
    faults.range("server.max_half_open", server.max_half_open as u64, 16..=u64::MAX);
    let text = "needs server.trusted_proxies: with an empty list, nobody could connect";
    let has_proxies = !server.proxy_protocol || !server.trusted_proxies.is_empty();
    faults.unless(has_proxies, "server.proxy_protocol", text);
    faults.range("server.header_timeout_s", server.header_timeout_s, 1..=3600);
    // Less than a page does not hold a full segment; the kernel takes numbers up to 2^30.
    let buffer = server.socket_buffer_bytes;
    let fits = buffer == 0 || (4096..=1 << 30).contains(&buffer);
    faults.unless(fits, "server.socket_buffer_bytes", "give 0, or 4096 to 1073741824");
    faults.range("server.outbox_frames", server.outbox_frames as u64, 1..=u64::MAX);
    let message = config.limits.max_message_length;
    let fits = server.outbox_bytes >= message;
    faults.unless(
        fits,
        "server.outbox_bytes",
        format!("must be at least limits.max_message_length, which is {message}"),
    );
    let below = (1..=server.outbox_bytes).contains(&server.outbox_high_water_bytes);
    faults.unless(below, "server.outbox_high_water_bytes", "must be between 1 and outbox_bytes");
}

/// LMDB maps whole pages; 4 KiB is the smallest page of the machines weir runs on.
const PAGE_BYTES: u64 = 4096;

fn storage(config: &Config, faults: &mut Faults) {
    let storage = &config.storage;
    let whole = storage.map_bytes.is_multiple_of(PAGE_BYTES) && storage.map_bytes >= 1 << 20;
    faults.unless(whole, "storage.map_bytes", "must be a multiple of 4096 bytes and at least 1 MiB");
    let fits = storage.max_bytes <= storage.map_bytes;
    faults.unless(fits, "storage.max_bytes", format!("exceeds map_bytes, which is {}", storage.map_bytes));
    faults.range("storage.confirm_removal_percent", storage.confirm_removal_percent.into(), 0..=100);
    retention(config, faults);
    for (key, limit) in [
        ("storage.max_events_per_author", storage.max_events_per_author),
        ("storage.max_bytes_per_author", storage.max_bytes_per_author),
    ] {
        let text =
            "has no effect without a rule in storage.retention or default_keep = \"room\": everything is kept forever";
        faults.unless(limit == 0 || !storage.retention().is_empty(), key, text);
    }
    faults.range("storage.max_readers", storage.max_readers.into(), 16..=65_536);
    faults.range("storage.newest_times_bytes", storage.newest_times_bytes, 0..=16 << 30);
}

/// A rule that selects nothing is a mistake: another rule decides about the events that it was meant for.
fn retention(config: &Config, faults: &mut Faults) {
    for (place, rule) in config.storage.retention.iter().enumerate() {
        for (key, text) in rule.faults() {
            faults.unless(false, format!("storage.retention[{}].{key}", place + 1), text);
        }
    }
    let rules = config.storage.retention();
    for (place, by) in rules.idle_rules() {
        let text = match by {
            Some(last) => {
                format!("this rule never applies: the rules up to rule {} select all of its events first", last + 1)
            }
            None if !rules.rules()[place].faults().is_empty() => continue,
            None => "this rule selects nothing: not_authors lists all of its authors".into(),
        };
        faults.unless(false, format!("storage.retention[{}]", place + 1), text);
    }
}

fn limits(config: &Config, faults: &mut Faults) {
    let limits = &config.limits;
    // The parser holds a whole message; 64 MiB is the bound on all events on their way to disk.
    faults.range("limits.max_message_length", limits.max_message_length as u64, 1024..=64 << 20);
    faults.range("limits.max_filters", limits.max_filters as u64, 1..=u64::MAX);
    faults.range("limits.max_filter_items", limits.max_filter_items as u64, 1..=u64::MAX);
    faults.range("limits.default_limit", limits.default_limit.into(), 1..=u64::MAX);
    faults.range("limits.max_event_tags", limits.max_event_tags as u64, 1..=u64::MAX);
    faults.range("limits.min_pow_difficulty", limits.min_pow_difficulty.into(), 0..=256);
}

/// The keys of one tier, in the order of [`check_tier`].
type TierKeys = [&'static str; 8];

macro_rules! tier_keys {
    ($name:literal) => {
        [
            concat!("tiers.", $name, ".max_subscriptions"),
            concat!("tiers.", $name, ".max_filter_bytes"),
            concat!("tiers.", $name, ".max_limit"),
            concat!("tiers.", $name, ".max_event_bytes"),
            concat!("tiers.", $name, ".events"),
            concat!("tiers.", $name, ".bytes"),
            concat!("tiers.", $name, ".queries"),
            concat!("tiers.", $name, ".cpu_us"),
        ]
    };
}

fn tiers(config: &Config, faults: &mut Faults) {
    let tiers = &config.tiers;
    check_tier(config, &tiers.anonymous, tier_keys!("anonymous"), faults);
    check_tier(config, &tiers.authenticated, tier_keys!("authenticated"), faults);
    check_tier(config, &tiers.listed, tier_keys!("listed"), faults);
}

fn check_tier(config: &Config, tier: &TierLimits, keys: TierKeys, faults: &mut Faults) {
    let [max_subscriptions, max_filter_bytes, max_limit, max_event_bytes, events, bytes, queries, cpu_us] = keys;
    faults.range(max_subscriptions, tier.max_subscriptions as u64, 1..=u64::MAX);
    faults.range(max_filter_bytes, tier.max_filter_bytes, 1..=u64::MAX);
    let default = config.limits.default_limit;
    let text = format!("{} is below limits.default_limit, which is {default}", tier.max_limit);
    faults.unless(tier.max_limit >= default, max_limit, text);
    // A record has a header of 140 bytes and needs room for some content.
    faults.range(max_event_bytes, tier.max_event_bytes as u64, 256..=u64::MAX);
    for (key, rate) in [(events, tier.events), (bytes, tier.bytes), (queries, tier.queries), (cpu_us, tier.cpu_us)] {
        check_rate(key, rate, faults);
    }
}

fn check_rate(key: &'static str, rate: Rate, faults: &mut Faults) {
    let passes = rate.per_second == 0 || rate.burst > 0;
    faults.unless(passes, key, "a burst of 0 blocks everything; use at least 1, or per_second = 0 for no limit");
}

fn rates(config: &Config, faults: &mut Faults) {
    let rates = &config.rates;
    for (key, rate) in [
        ("rates.events", rates.events),
        ("rates.bytes", rates.bytes),
        ("rates.queries", rates.queries),
        ("rates.cpu_us", rates.cpu_us),
    ] {
        check_rate(key, rate, faults);
    }
    faults.range("rates.refuse_after_s", rates.refuse_after_s.into(), 1..=3600);
    let text = format!("must be at least refuse_after_s, which is {}", rates.refuse_after_s);
    faults.unless(rates.close_after_s >= rates.refuse_after_s, "rates.close_after_s", text);
    faults.range("rates.ipv4_prefix_bits", rates.ipv4_prefix_bits.into(), 0..=32);
    faults.range("rates.ipv6_prefix_bits", rates.ipv6_prefix_bits.into(), 0..=128);
}

fn memory(config: &Config, faults: &mut Faults) {
    let memory = &config.memory;
    for (key, bound) in [
        ("memory.filters", memory.filters),
        ("memory.partial_messages", memory.partial_messages),
        ("memory.waiting_events", memory.waiting_events),
        ("memory.outboxes", memory.outboxes),
    ] {
        let fits = bound.per_address_bytes > 0 && bound.per_address_bytes <= bound.total_bytes;
        faults.unless(fits, key, "per_address_bytes must be between 1 and total_bytes");
    }
    let twice = 2 * config.limits.max_message_length as u64;
    let text = format!("per_address_bytes must hold two messages of limits.max_message_length, {twice} bytes");
    faults.unless(memory.partial_messages.per_address_bytes >= twice, "memory.partial_messages", text);
    let tiers = &config.tiers;
    let all = [&tiers.anonymous, &tiers.authenticated, &tiers.listed];
    let largest = all.map(|tier| tier.max_event_bytes).into_iter().max().unwrap_or_default();
    let text = format!("per_address_bytes must hold the largest event that is accepted, {largest} bytes");
    faults.unless(memory.waiting_events.per_address_bytes >= largest as u64, "memory.waiting_events", text);
    let holds_one = memory.outboxes.per_address_bytes >= config.server.outbox_bytes as u64;
    faults.unless(holds_one, "memory.outboxes", "per_address_bytes must be at least server.outbox_bytes");
}

fn access(config: &Config, faults: &mut Faults) {
    let nobody = config.access.lists_nobody();
    for (key, who) in [("auth.read", config.auth.read), ("auth.write", config.auth.write)] {
        let text = "access.listed_pubkeys is empty, so this locks everyone out";
        faults.unless(who != Audience::Listed || !nobody, key, text);
    }
    faults.range("auth.window", config.auth.window, 1..=u64::MAX);
}

fn plugin(config: &Config, faults: &mut Faults) {
    let plugin = &config.plugin;
    faults.range("plugin.workers", plugin.workers as u64, 1..=PluginOptions::MAX_WORKERS as u64);
    faults.range("plugin.in_flight", plugin.in_flight as u64, 1..=PluginOptions::MAX_IN_FLIGHT as u64);
    faults.range("plugin.timeout_ms", plugin.timeout_ms, 1..=3_600_000);
    let is_line = !plugin.command.contains(['\0', '\n']) && plugin.command.trim() == plugin.command;
    faults.unless(is_line, "plugin.command", "must be one line without spaces around it");
    let text = "an empty list asks about nothing; to use no plugin, leave command empty";
    faults.unless(!plugin.sources.is_empty(), "plugin.sources", text);
}

fn membership(config: &Config, faults: &mut Faults) {
    let membership = &config.membership;
    let sizes = Membership::MIN_CLAIM..=Membership::MAX_CLAIM;
    let text = format!("a claim has {} to {} bytes: a shorter one is guessed", sizes.start(), sizes.end());
    faults.unless(membership.claims.iter().all(|claim| sizes.contains(&claim.len())), "membership.claims", text);
    faults.range("membership.invite_ttl_s", membership.invite_ttl_s, 60..=MAX_TTL_S);
    faults.range("membership.request_window_s", membership.request_window_s, 1..=3600);
    let Some(own) = membership.own_key() else {
        let text = "has no effect without membership.key_file";
        return faults.unless(membership.claims.is_empty(), "membership.claims", text);
    };
    let text = "members could not leave: their request is a protected event, and access.protected_events is false";
    faults.unless(config.access.protected_events, "membership.key_file", text);
    let is_own = config.info.self_key.0.is_none_or(|key| key == own);
    faults.unless(is_own, "info.self", format!("is not the key of membership.key_file, {own}; leave it empty"));
}

fn policy(config: &Config, faults: &mut Faults) {
    let trust = &config.policy.trust;
    faults.range("policy.trust.within", trust.within.into(), 0..=TrustOptions::MAX_WITHIN.into());
    faults.range("policy.trust.max_keys", trust.max_keys as u64, 1..=TrustOptions::MAX_KEYS as u64);
}

fn pipeline(config: &Config, faults: &mut Faults) {
    let (pipeline, queues) = (&config.pipeline, &config.queues);
    faults.range("pipeline.slice_rows", pipeline.slice_rows.into(), 1..=u64::MAX);
    faults.range("pipeline.slice_us", pipeline.slice_us, 1..=u64::MAX);
    let longest = crate::pipeline::Options::MAX_COMMIT_INTERVAL_MS;
    faults.range("pipeline.commit_interval_ms", pipeline.commit_interval_ms, 0..=longest);
    let longest = crate::pipeline::Options::MAX_FANOUT_INTERVAL_MS;
    faults.range("pipeline.fanout_interval_ms", pipeline.fanout_interval_ms, 0..=longest);
    for (key, value) in [
        ("queues.ingest_events", queues.ingest_events),
        ("queues.unanswered_events", queues.unanswered_events),
        ("queues.write_batches", queues.write_batches),
        ("queues.live_batches", queues.live_batches),
        ("queues.scans", queues.scans),
        ("queues.scans_per_connection", queues.scans_per_connection),
    ] {
        faults.range(key, value as u64, 1..=u64::MAX);
    }
    let least = crate::pipeline::query::sessions::Options::MIN_FRAME_BYTES as u64;
    faults.range("negentropy.frame_bytes", config.negentropy.frame_bytes as u64, least..=u64::MAX);
    let negentropy = &config.negentropy;
    let fits = negentropy.max_records <= negentropy.max_records_per_address
        && negentropy.max_records_per_address <= negentropy.max_records_total;
    let text = "must be between max_records and max_records_total";
    faults.unless(fits, "negentropy.max_records_per_address", text);
}

fn monitoring(config: &Config, faults: &mut Faults) {
    let apart = config.metrics.listen.is_none_or(|own| own.port() == 0 || own != config.server.listen);
    faults.unless(apart, "metrics.listen", "must differ from server.listen, since clients must not reach it");
    let changes = &config.changes;
    let is_reachable = !changes.on_metrics_address || config.metrics.listen.is_some();
    faults.unless(is_reachable, "changes.on_metrics_address", "has no effect without metrics.listen");
    let is_apart = changes.token_file.path.is_empty() || config.server.path != CHANGES_PATH;
    faults.unless(is_apart, "server.path", format!("{CHANGES_PATH} is where changes.token_file serves the feed"));
    dashboard(config, faults);
    if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(&config.log.level) {
        faults.unless(false, "log.level", format!("not a level: {error}"));
    }
}

fn dashboard(config: &Config, faults: &mut Faults) {
    let dashboard = &config.dashboard;
    let (path, served) = (&dashboard.path, [&config.server.path, "/", "/metrics", "/healthz", "/readyz", CHANGES_PATH]);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
    let is_path = path.starts_with('/') && !path.ends_with('/') && path.bytes().all(is_plain);
    let text = "must start with a slash, not end with one, and have only letters, digits, /, -, _ and .";
    faults.unless(is_path, "dashboard.path", text);
    let is_apart = served.iter().all(|other| path != other);
    faults.unless(is_apart, "dashboard.path", "something else is served there");
    faults.range("dashboard.session_s", dashboard.session_s, 60..=MAX_SESSION_S);
    let is_reachable = !dashboard.on_metrics_address || config.metrics.listen.is_some();
    faults.unless(is_reachable, "dashboard.on_metrics_address", "has no effect without metrics.listen");
}
