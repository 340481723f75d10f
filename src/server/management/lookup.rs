//! What the relay knows of a key, an event, an address or a kind, and how it would answer a filter: for an admin who
//! looks.
//!
//! Reads in slices and stops after a while, so that the thread is not kept; nothing here changes anything.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use serde_json::{Value, json};

use super::service::Service;
use super::view::connection;
use crate::management::{Request, Subject};
use crate::nostr::bech32::npub;
use crate::nostr::json::Parser;
use crate::nostr::{EventId, EventView, Filter, Kind, Pubkey};
use crate::policy::Settings;
use crate::store::{Budget, Flow, Query, QueryLimits, Scan, Seq, Step};

const SLICE: Budget = Budget { rows: 1 << 14, time: Duration::from_millis(10) };

/// How long a look-up may take. What was found until then is told, and that it is not all.
const LONGEST: Duration = Duration::from_secs(3);

/// Kinds that are told of a key, those with the most events.
const MAX_KINDS: usize = 12;

/// Connections that are told.
const MAX_CONNECTIONS: usize = 50;

/// What a scan found.
#[derive(Default)]
struct ScanTotals {
    events: u64,
    bytes: u64,
    kinds: HashMap<Kind, u64>,
    is_whole: bool,
}

impl Service {
    /// Runs a scan, in slices.
    async fn look(&self, scan: &mut Scan, mut take: impl FnMut(EventView<'_>)) -> Result<bool, String> {
        let until = Instant::now() + LONGEST;
        while Instant::now() < until {
            let step = {
                let mut visitor = |_: Seq, event: EventView<'_>| {
                    take(event);
                    Flow::Continue
                };
                let snapshot = self.store().read().map_err(|error| error.to_string())?;
                scan.run(&snapshot, SLICE, &mut visitor).map_err(|error| error.to_string())?
            };
            if step != Step::Paused {
                return Ok(true);
            }
            // Others may have their turn.
            tokio::task::yield_now().await;
        }
        Ok(false)
    }

    async fn count(&self, filter: Filter) -> Result<ScanTotals, String> {
        self.committed().await?;
        let mut scan = Scan::new(Query { filters: [filter].into(), until_seq: Seq::MAX, limits: None });
        let mut found = ScanTotals::default();
        let is_whole = self.look(&mut scan, |event| {
            found.events += 1;
            found.bytes += event.record().len() as u64;
            *found.kinds.entry(event.kind()).or_default() += 1;
        });
        found.is_whole = is_whole.await?;
        Ok(found)
    }

    /// Counts the stored events of a subject, before a purge.
    pub(super) async fn count_events(&self, request: &Request) -> Result<Value, String> {
        let subject = request.subject().map_err(|error| error.to_string())?;
        let filter = subject.filter().ok_or("only events of a key, an event or a kind can be counted")?;
        let ScanTotals { events, bytes, is_whole, .. } = self.count(filter).await?;
        Ok(json!({ "subject": subject, "events": events, "bytes": bytes, "is_whole": is_whole }))
    }

    /// What is known of a subject.
    pub(super) async fn look_up(&self, request: &Request) -> Result<Value, String> {
        let subject = request.subject().map_err(|error| error.to_string())?;
        match subject {
            // Hex digits may name either.
            Subject::Key(key) if self.find(&EventId(key.0)).is_ok_and(|found| found.is_some()) => {
                self.event(EventId(key.0)).await
            }
            Subject::Key(key) => self.key(key).await,
            Subject::Event(id) => self.event(id).await,
            Subject::Address(network) => Ok(self.address(&subject, network)),
            Subject::Kind(kind) => {
                let ScanTotals { events, bytes, is_whole, .. } =
                    self.count(subject.filter().unwrap_or_default()).await?;
                let is_accepted = crate::policy::accepts_kind(&self.serving().settings.load(), kind);
                Ok(json!({ "what": "kind", "subject": subject, "decision": self.decision(&subject),
                    "accepted": is_accepted, "events": events, "bytes": bytes, "is_whole": is_whole }))
            }
            _ => Err("params[0]: is none of a key, an event, a kind and an address".into()),
        }
    }

    fn decision(&self, subject: &Subject) -> Value {
        json!(self.journal.borrow().state().get(subject))
    }

    async fn key(&self, key: Pubkey) -> Result<Value, String> {
        let subject = Subject::Key(key);
        let ScanTotals { events, bytes, kinds, is_whole } = self.count(subject.filter().unwrap_or_default()).await?;
        let mut kinds: Vec<(Kind, u64)> = kinds.into_iter().collect();
        kinds.sort_unstable_by_key(|(kind, count)| (std::cmp::Reverse(*count), kind.0));
        let kinds: Vec<Value> = kinds.iter().take(MAX_KINDS).map(|(kind, count)| json!([kind.0, count])).collect();
        let settings = self.serving().settings.load_full();
        Ok(json!({
            "what": "key", "subject": subject, "pubkey": key.to_string(), "npub": npub(&key),
            "profile": self.profile(key).await?, "decision": self.decision(&subject), "lists": lists(&settings, &key),
            "events": events, "bytes": bytes, "kinds": kinds, "is_whole": is_whole,
            "connections": self.connections(|client| client.identity().keys.contains(&key)),
        }))
    }

    /// The texts of the newest profile (kind 0), as its author wrote them.
    async fn profile(&self, key: Pubkey) -> Result<Value, String> {
        let filter = Filter { authors: Some([key].into()), kinds: Some([Kind(0)].into()), ..Filter::default() };
        let limits = QueryLimits { default_limit: 1, max_limit: 1, hints: false, tie_extension: 0 };
        let mut scan = Scan::new(Query { filters: [filter].into(), until_seq: Seq::MAX, limits: Some(limits) });
        let mut profile = Value::Null;
        self.look(&mut scan, |event| profile = serde_json::from_slice(event.content()).unwrap_or_default()).await?;
        let texts = ["name", "display_name", "about", "nip05"].map(|name| {
            let text: String = profile[name].as_str().unwrap_or_default().chars().take(500).collect();
            (name.to_owned(), Value::from(text))
        });
        Ok(if profile.is_object() { Value::Object(texts.into_iter().collect()) } else { Value::Null })
    }

    fn connections(&self, is_meant: impl Fn(&crate::pipeline::ClientHandle) -> bool) -> Vec<Value> {
        let clients = self.serving().registry.clients().into_iter().filter(|(_, client)| is_meant(client));
        clients.take(MAX_CONNECTIONS).map(|(number, client)| connection(number, &client)).collect()
    }

    async fn event(&self, id: EventId) -> Result<Value, String> {
        self.committed().await?;
        let subject = Subject::Event(id);
        let stored = {
            let snapshot = self.store().read().map_err(|error| error.to_string())?;
            let found = snapshot.by_id(&id).map_err(|error| error.to_string())?;
            found.map(|(_, event)| (event.to_json(), event.record().len()))
        };
        let (json, bytes) = stored.unzip();
        let event: Option<Value> = json.and_then(|text| serde_json::from_str(&text).ok());
        Ok(json!({ "what": "event", "subject": subject, "id": id.to_string(), "stored": event.is_some(),
            "event": event, "bytes": bytes, "decision": self.decision(&subject) }))
    }

    fn address(&self, subject: &Subject, network: crate::policy::Network) -> Value {
        let settings = self.serving().settings.load();
        json!({ "what": "address", "subject": subject, "decision": self.decision(subject),
            "denied": !settings.access.admits(network.address()),
            "blocked": settings.moderation.blocks(network.address()),
            "connections": self.connections(|client| network.contains(client.peer)) })
    }

    /// How a filter is answered: the plan, what it finds and what that takes.
    pub(super) async fn explain(&self, request: &Request) -> Result<Value, String> {
        let filter = request.param(0).ok_or("params[0]: is missing")?;
        let settings = self.serving().settings.load_full();
        let options = settings.parse_options();
        let filter = Filter::parse(&mut Parser::default(), filter.to_string().as_bytes(), options)
            .map_err(|error| format!("params[0]: {error}"))?;
        let max_limit = settings.tiers.anonymous.max_limit;
        let default_limit = settings.limits.default_limit.min(max_limit);
        let limits = QueryLimits { default_limit, max_limit, hints: false, tie_extension: 0 };
        let mut scan = Scan::new(Query { filters: [filter].into(), until_seq: Seq::MAX, limits: Some(limits) });
        self.committed().await?;
        let began = Instant::now();
        let plans = {
            let snapshot = self.store().read().map_err(|error| error.to_string())?;
            scan.explain(&snapshot).map_err(|error| error.to_string())?
        };
        let mut events = 0;
        let is_whole = self.look(&mut scan, |_| events += 1).await?;
        let plans: Vec<String> = plans.iter().map(ToString::to_string).collect();
        Ok(json!({ "plans": plans, "events": events, "rows": scan.spent(), "is_whole": is_whole,
            "milliseconds": began.elapsed().as_secs_f64() * 1e3, "limit": max_limit }))
    }
}

/// The lists that name a key.
fn lists(settings: &Settings, key: &Pubkey) -> Vec<&'static str> {
    let access = &settings.access;
    let lists = [
        (settings.admins.contains(key), "management.admins"),
        (access.allows(key), "access.allow_pubkeys"),
        (access.denies(key), "access.deny_pubkeys"),
        (access.mutes(key), "access.mute_pubkeys"),
        (access.lists(key), "access.listed_pubkeys"),
        (settings.trusted.as_ref().is_some_and(|trusted| trusted.contains(key)), "policy.trust"),
    ];
    lists.into_iter().filter(|(is_named, _)| *is_named).map(|(_, name)| name).collect()
}
