//! What each key of strfry.conf means in weir.toml.
//!
//! A key either becomes one or more keys here, or is named with the reason why it has no counterpart. Keys that the
//! file does not hold keep weir's defaults, which differ from strfry's.
//!
//! What comes out is a configuration that weir takes. A value that it would refuse is left out, and named too.

use std::fmt::Write as _;

use super::value::{Node, Position, Value};
use crate::config::{Config, ConfigError, Problem};

/// The tiers, each with limits of its own.
const TIERS: [&str; 3] = ["tiers.anonymous", "tiers.authenticated", "tiers.listed"];

/// A key that weir.toml cannot say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leftover {
    /// The key of strfry.conf, with its sections.
    pub key: String,
    /// Its value, as JSON.
    pub value: String,
    /// Where it stands.
    pub place: Position,
    /// Why, and what to do instead.
    pub reason: String,
}

/// A configuration of strfry's in weir's words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The text of weir.toml, leftovers as comments at its end.
    pub toml: String,
    /// What weir.toml cannot say, in the order of the file.
    pub leftovers: Vec<Leftover>,
}

/// Translates a configuration; `file` is its name in comments.
#[must_use]
pub fn translate(file: &str, root: &Node) -> Translation {
    let (leaves, mut target) = (root.leaves(), Target::default());
    let (mut waiting, mut left): (Vec<usize>, Vec<(usize, Reason)>) = ((0..leaves.len()).collect(), Vec::new());
    loop {
        let mut refused = Vec::new();
        for &number in &waiting {
            let (key, node) = &leaves[number];
            let before = target.lines.clone();
            let outcome = carry(key, &node.value, root, &mut target);
            if target.lines != before
                && let Some(fault) = target.fault()
            {
                target.lines = before;
                refused.push((number, format!("not carried over: {fault}")));
            } else if let Err(reason) = outcome {
                left.push((number, reason));
            }
        }
        // A value may fit only beside another one, so those that did not are tried again while there are fewer of them.
        if refused.len() == waiting.len() || refused.is_empty() {
            left.extend(refused);
            break;
        }
        waiting = refused.into_iter().map(|(number, _)| number).collect();
    }
    left.sort_unstable_by_key(|(number, _)| *number);
    let leftover = |(number, reason): (usize, Reason)| {
        let (key, node) = &leaves[number];
        Leftover { key: key.clone(), value: node.value.to_string(), place: node.place, reason }
    };
    let leftovers: Vec<Leftover> = left.into_iter().map(leftover).collect();
    Translation { toml: target.text(file) + &comment(&leftovers), leftovers }
}

/// A line of weir.toml.
#[derive(Clone, PartialEq, Eq)]
struct Line {
    section: &'static str,
    key: &'static str,
    value: String,
    comment: String,
}

#[derive(Default)]
struct Target {
    lines: Vec<Line>,
}

impl Target {
    /// Sets `path` (a section, a dot and a key); what is set again is replaced.
    fn set(&mut self, path: &'static str, value: impl ToString, comment: impl Into<String>) {
        let (section, key) = path.rsplit_once('.').unwrap_or_default();
        self.set_in(section, key, value, comment);
    }

    fn set_in(&mut self, section: &'static str, key: &'static str, value: impl ToString, comment: impl Into<String>) {
        let line = Line { section, key, value: value.to_string(), comment: comment.into() };
        match self.lines.iter_mut().find(|old| (old.section, old.key) == (section, key)) {
            Some(old) => *old = line,
            None => self.lines.push(line),
        }
    }

    fn set_tiers(&mut self, key: &'static str, value: impl ToString, comment: &str) {
        for tier in TIERS {
            self.set_in(tier, key, value.to_string(), comment);
        }
    }

    fn text(&self, file: &str) -> String {
        let mut text = format!(
            "# From {file}, by `weir config from-strfry`. Every key that is missing here has weir's default.\n"
        );
        let mut sections: Vec<_> = self.lines.iter().map(|line| line.section).collect();
        sections.sort_by_key(|section| SECTIONS.iter().position(|own| own == section));
        sections.dedup();
        for section in sections {
            let _ = writeln!(text, "\n[{section}]");
            for line in self.lines.iter().filter(|line| line.section == section) {
                let _ = writeln!(text, "# {}\n{} = {}", line.comment, line.key, line.value);
            }
        }
        text
    }

    /// Why weir would not take these lines, if so.
    fn fault(&self) -> Option<String> {
        match Config::parse("", &self.text("")).err()? {
            ConfigError::Wrong { problems, .. } => {
                problems.first().map(|Problem { key, text, .. }| format!("{key}: {text}"))
            }
            error @ ConfigError::Unreadable { .. } => Some(error.to_string()),
        }
    }
}

/// What is left over, as comments.
fn comment(leftovers: &[Leftover]) -> String {
    let mut text = String::new();
    if !leftovers.is_empty() {
        text.push_str("\n# What has no counterpart:\n");
    }
    for Leftover { key, value, place, reason } in leftovers {
        let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).take(60).collect();
        let _ = writeln!(text, "#\n# line {}: {key} = {value}\n#   {reason}", place.line);
    }
    text
}

/// The order of sections in weir.toml.
const SECTIONS: [&str; 11] =
    ["server", "storage", "limits", TIERS[0], TIERS[1], TIERS[2], "auth", "plugin", "info", "pipeline", "negentropy"];

/// LMDB maps whole pages.
const PAGE_BYTES: u64 = 4096;

/// Why a value is not carried over.
type Reason = String;

/// Carries one key over, or says why not.
fn carry(key: &str, value: &Value, root: &Node, to: &mut Target) -> Result<(), Reason> {
    match key {
        "db" => Err("weir keeps its own files, in storage.data: `strfry export | weir import -` fills them".into()),
        "dbParams.maxreaders" => number(value).map(|n| to.set("storage.max_readers", n, key)),
        "dbParams.mapsize" => {
            number(value).map(|n| to.set("storage.map_bytes", n.checked_next_multiple_of(PAGE_BYTES).unwrap_or(n), key))
        }
        "dbParams.noReadAhead" => Err("weir reads the pages that a query needs, and asks for no others".into()),
        _ if key.starts_with("events.") => event_limit(key, value, to),
        "relay.bind" | "relay.port" => {
            listen(root).map(|at| to.set("server.listen", quoted(&at), "relay.bind, relay.port"))
        }
        "relay.realIpHeader" => real_ip(value, root, to),
        _ if key.starts_with("relay.auth.") => auth(key, value, root, to),
        _ if key.starts_with("relay.info.") => info(key, value, to),
        "relay.writePolicy.plugin" | "relay.writePolicy.timeoutSeconds" => plugin(key, value, to),
        _ if key.starts_with("relay.filterValidation.") => filters(key, value, root, to),
        _ if key.starts_with("relay.logging.") => {
            Err("weir never logs what clients send; log.level and [metrics] say what it does".into())
        }
        _ if key.starts_with("relay.numThreads.") => {
            Err("weir chooses by the number of cores: server.io_threads, pipeline.read_threads, verify_threads".into())
        }
        _ => relay(key, value, to),
    }
}

fn event_limit(key: &str, value: &Value, to: &mut Target) -> Result<(), Reason> {
    match key {
        "events.maxEventSize" => {
            let comment = "events.maxEventSize; weir counts an event as stored, which is less than its JSON";
            number(value).map(|n| to.set_tiers("max_event_bytes", n, comment))
        }
        "events.rejectEventsNewerThanSeconds" => number(value).map(|n| to.set("limits.created_at_upper_limit", n, key)),
        "events.rejectEventsOlderThanSeconds" => number(value).map(|n| to.set("limits.created_at_lower_limit", n, key)),
        "events.rejectEphemeralEventsOlderThanSeconds" => {
            number(value).map(|n| to.set("limits.ephemeral_max_age", n, key))
        }
        "events.maxNumTags" => number(value).map(|n| to.set("limits.max_event_tags", n, key)),
        "events.ephemeralEventsLifetimeSeconds" => Err("weir delivers ephemeral events and never stores them".into()),
        "events.maxTagValSize" => Err("weir limits a whole event (tiers.*.max_event_bytes), not one tag".into()),
        _ => unknown(),
    }
}

/// The other keys of `relay`.
fn relay(key: &str, value: &Value, to: &mut Target) -> Result<(), Reason> {
    match key {
        "relay.nofiles" => Err("set LimitNOFILE in the unit; weir lowers its own limits to what it gets".into()),
        "relay.maxWebsocketPayloadSize" => number(value).map(|n| to.set("limits.max_message_length", n, key)),
        "relay.maxReqFilterSize" => number(value).map(|n| to.set("limits.max_filters", n, key)),
        "relay.autoPingSeconds" => number(value).map(|n| to.set("server.ping_after_s", n, key)),
        "relay.enableTcpKeepalive" => Err("weir finds dead connections by its own pings (server.ping_after_s)".into()),
        "relay.queryTimesliceBudgetMicroseconds" => number(value).map(|n| to.set("pipeline.slice_us", n, key)),
        "relay.maxFilterLimit" => number(value).map(|n| {
            to.set("limits.default_limit", n, key);
            to.set_tiers("max_limit", n, key);
        }),
        "relay.maxTagsPerFilter" => {
            Err("weir limits the values of all lists together (limits.max_filter_items)".into())
        }
        "relay.maxFilterLimitCount" => Err("weir answers every COUNT exactly and charges what it costs".into()),
        "relay.maxSubsPerConnection" => number(value).map(|n| to.set_tiers("max_subscriptions", n, key)),
        "relay.maxPendingOutboundBytes" => match number(value)? {
            0 => Err("weir always has a bound (server.outbox_bytes)".into()),
            bytes => {
                to.set("server.outbox_bytes", bytes, key);
                if bytes < Config::default().server.outbox_high_water_bytes as u64 {
                    to.set("server.outbox_high_water_bytes", bytes, key);
                }
                Ok(())
            }
        },
        "relay.compression.enabled" => flag(value).map(|on| to.set("server.compression", on, key)),
        "relay.compression.slidingWindow" => Err("weir compresses each message by itself, as most clients ask".into()),
        "relay.negentropy.enabled" => flag(value).map(|on| to.set("negentropy.enabled", on, key)),
        "relay.negentropy.maxSyncEvents" => number(value).map(|n| to.set("negentropy.max_records", n, key)),
        _ => unknown(),
    }
}

/// The address of both keys, or of one and strfry's default for the other.
fn listen(root: &Node) -> Result<String, Reason> {
    let bind = root.get("relay.bind").map_or_else(|| Ok("127.0.0.1".into()), text)?;
    let port = root.get("relay.port").map_or(Ok(7777), number)?;
    let port = u16::try_from(port).map_err(|_| "a port is 0 to 65535".to_string())?;
    let address: std::net::IpAddr =
        bind.parse().map_err(|_| "server.listen takes an address, not a name".to_string())?;
    Ok(std::net::SocketAddr::new(address, port).to_string())
}

/// strfry believes the header of anybody; weir only that of proxies that it is told.
fn real_ip(value: &Value, root: &Node, to: &mut Target) -> Result<(), Reason> {
    let header = text(value)?;
    if header.is_empty() {
        return Ok(());
    }
    let local = listen(root).is_ok_and(|at| at.starts_with("127.") || at.starts_with("[::1]"));
    let proxies = if local { r#"["127.0.0.0/8", "::1/128"]"# } else { "[]" };
    let comment = if local {
        "relay.realIpHeader: the proxy on this machine is believed"
    } else {
        "relay.realIpHeader: name the addresses of your proxy here, else all clients share its limits"
    };
    to.set("server.trusted_proxies", proxies, comment);
    if header.eq_ignore_ascii_case("x-forwarded-for") && local {
        return Ok(());
    }
    Err("weir reads X-Forwarded-For of server.trusted_proxies: let the proxy set that header".into())
}

fn auth(key: &str, value: &Value, root: &Node, to: &mut Target) -> Result<(), Reason> {
    match key {
        "relay.auth.enabled" if flag(value)? => Ok(()),
        "relay.auth.enabled" => Err("weir always answers AUTH; [auth] says what needs it".into()),
        "relay.auth.serviceUrl" => {
            let url = text(value)?;
            if !url.is_empty() {
                to.set("auth.urls", format!("[{}]", quoted(&url)), key);
            }
            Ok(())
        }
        "relay.auth.restrictedReadKinds" => {
            let kinds = format!("[{}]", kinds(value)?.join(", "));
            let involved = root.get("relay.auth.restrictReadToInvolvedPubkey");
            if involved.is_none_or(|value| *value == Value::Bool(true)) {
                to.set("auth.involved_kinds", kinds, key);
            } else {
                to.set("auth.involved_kinds", "[]", "relay.auth.restrictReadToInvolvedPubkey");
                to.set("auth.read_kinds", kinds, key);
            }
            Ok(())
        }
        // Read with the kinds.
        "relay.auth.restrictReadToInvolvedPubkey" => flag(value).map(|_| ()),
        _ => unknown(),
    }
}

fn info(key: &str, value: &Value, to: &mut Target) -> Result<(), Reason> {
    let path = match key {
        "relay.info.name" => "info.name",
        "relay.info.description" => "info.description",
        "relay.info.pubkey" => "info.pubkey",
        "relay.info.self" => "info.self",
        "relay.info.contact" => "info.contact",
        "relay.info.icon" => "info.icon",
        "relay.info.banner" => "info.banner",
        "relay.info.terms" => "info.terms_of_service",
        "relay.info.privacy" => {
            return left_if_set(value, "NIP-11 has no such field; link it from info.terms_of_service");
        }
        "relay.info.nips" => return left_if_set(value, "weir advertises exactly the NIPs that it serves"),
        _ => return unknown(),
    };
    let text = text(value)?;
    // strfry's own file has "unset".
    if !text.is_empty() && text != "unset" {
        to.set(path, quoted(&text), key);
    }
    Ok(())
}

/// The plugin is asked one event at a time until it names events by their ids, as strfry's does.
fn plugin(key: &str, value: &Value, to: &mut Target) -> Result<(), Reason> {
    if key == "relay.writePolicy.plugin" {
        let command = text(value)?;
        if !command.is_empty() {
            to.set("plugin.command", quoted(&command), key);
        }
        return Ok(());
    }
    let out_of_range = || "not carried over: plugin.timeout_ms has no room for it".to_string();
    let milliseconds = number(value)?.checked_mul(1000).ok_or_else(out_of_range)?;
    to.set("plugin.timeout_ms", milliseconds, key);
    Ok(())
}

fn filters(key: &str, value: &Value, root: &Node, to: &mut Target) -> Result<(), Reason> {
    let on = root.get("relay.filterValidation.enabled") == Some(&Value::Bool(true));
    match key {
        _ if !on => Ok(()),
        "relay.filterValidation.enabled" => Ok(()),
        "relay.filterValidation.maxFiltersPerReq" => number(value).map(|n| to.set("limits.max_filters", n, key)),
        _ => Err("weir does not refuse filters by their form; what a query costs is charged (tiers.*.cpu_us)".into()),
    }
}

fn unknown() -> Result<(), Reason> {
    Err("weir knows no such key, and strfry may not either".into())
}

fn left_if_set(value: &Value, reason: &str) -> Result<(), Reason> {
    if text(value)?.is_empty() { Ok(()) } else { Err(reason.into()) }
}

fn number(value: &Value) -> Result<u64, Reason> {
    let number = if let Value::Integer(number) = value { u64::try_from(*number).ok() } else { None };
    number.ok_or_else(|| "not carried over: expected a whole number from 0".into())
}

fn flag(value: &Value) -> Result<bool, Reason> {
    if let Value::Bool(value) = value { Ok(*value) } else { Err("not carried over: expected true or false".into()) }
}

fn text(value: &Value) -> Result<String, Reason> {
    if let Value::Text(text) = value { Ok(text.clone()) } else { Err("not carried over: expected a string".into()) }
}

/// Kinds in a string, separated by commas.
fn kinds(value: &Value) -> Result<Vec<String>, Reason> {
    let list = text(value)?;
    let kinds = list.split(',').map(str::trim).filter(|kind| !kind.is_empty());
    let read = |kind: &str| kind.parse::<u16>().map(|kind| kind.to_string());
    kinds.map(read).collect::<Result<_, _>>().map_err(|_| "not carried over: expected kinds such as \"4, 1059\"".into())
}

/// A TOML string.
fn quoted(text: &str) -> String {
    // A JSON string is a basic string of TOML, except for DEL.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
