//! The `trust` thread: keeps the web of trust in the settings as follow lists arrive and are removed.
//!
//! It only reads, at a low priority, and nobody waits for it. Events are judged by the last web that it has made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::channel::{Receiver, RecvError};
use super::health::Health;
use super::threads;
use crate::metrics::{Metrics, StoreOperation};
use crate::policy::{KeySet, Settings, TrustOptions};
use crate::store::{Seq, Snapshot, Store, StoreError};
use crate::trust::{Web, are_held, has_changed};

/// How often it looks for new lists and other settings.
const LOOK: Duration = Duration::from_secs(1);

/// Events looked at at a time. What arrives faster is looked at later.
const EVENTS: usize = 20_000;

/// Lists of the web that are looked for at a time, in turn: a millisecond. So a removed one is noticed within a second
/// where a thousand lists make the web, and within minutes where it is hundreds of thousands.
const LISTS: usize = 1_000;

/// Making webs takes at most one part of this many of a core.
const SHARE: u32 = 10;

/// What the thread uses.
pub struct Trusting {
    /// The store.
    pub store: Store,
    /// The settings, which get the web.
    pub settings: Arc<ArcSwap<Settings>>,
    /// Where failures are noted.
    pub health: Arc<Health>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// The web in force.
struct Current {
    options: TrustOptions,
    listers: KeySet,
    /// Up to where events have been looked at.
    seen: Seq,
    lists: Vec<Seq>,
    /// The first of the lists to be looked for next.
    next_list: usize,
    /// Before this it is not made again.
    rests_until: Instant,
    is_stale: bool,
}

/// Runs until `stop` is closed.
pub fn run(trusting: &Trusting, stop: &Receiver<()>) {
    threads::yield_to_others();
    let mut current = None;
    loop {
        if let Err(error) = trusting.look(&mut current) {
            trusting.health.failed(StoreOperation::Read, &error);
        }
        match stop.recv_timeout(LOOK) {
            Err(RecvError::Timeout) => {}
            Ok(()) | Err(RecvError::Closed) => return,
        }
    }
}

impl Trusting {
    fn look(&self, current: &mut Option<Current>) -> Result<(), StoreError> {
        let options = self.settings.load().policy.trust.clone();
        if options.roots.is_empty() {
            if current.take().is_some() {
                self.publish(&options, None);
            }
            return Ok(());
        }
        if let Some(known) = current.as_mut().filter(|known| known.options == options) {
            let snapshot = self.store.read()?;
            let (is_changed, seen) = has_changed(&snapshot, &known.listers, known.seen, EVENTS)?;
            known.seen = seen;
            known.is_stale |= is_changed || known.has_lost(&snapshot)?;
            if !known.is_stale || Instant::now() < known.rests_until {
                return Ok(());
            }
        }
        *current = Some(self.make(options)?);
        Ok(())
    }

    /// Makes the web and puts it into the settings.
    fn make(&self, options: TrustOptions) -> Result<Current, StoreError> {
        // Before the lists are read: those that arrive meanwhile are looked at again.
        let seen = self.store.read()?.last_seq()?;
        let began = Instant::now();
        let web = Web::read(&self.store, &options)?;
        let took = began.elapsed();
        tell(&web, took);
        self.publish(&options, Some(web.keys()));
        let (listers, rests_until) = (web.listers(), Instant::now() + took * SHARE);
        Ok(Current { options, listers, seen, lists: web.lists, next_list: 0, rests_until, is_stale: false })
    }

    /// Puts the keys into settings that ask for this web.
    fn publish(&self, options: &TrustOptions, trusted: Option<KeySet>) {
        self.metrics.trusted_keys.set(trusted.as_ref().map_or(0, KeySet::len) as i64);
        self.settings.rcu(|settings| {
            let is_asked_for = settings.policy.trust == *options;
            let trusted = if is_asked_for { trusted.clone() } else { settings.trusted.clone() };
            Settings { trusted, ..Settings::clone(settings) }
        });
    }
}

impl Current {
    /// Whether one of the lists whose turn it is has been removed.
    fn has_lost(&mut self, snapshot: &Snapshot<'_>) -> Result<bool, StoreError> {
        let end = self.lists.len().min(self.next_list + LISTS);
        let begin = std::mem::replace(&mut self.next_list, if end < self.lists.len() { end } else { 0 });
        Ok(!are_held(snapshot, &self.lists[begin..end])?)
    }
}

fn tell(web: &Web, took: Duration) {
    let (hops, took_ms) = (web.sizes(), took.as_millis() as u64);
    tracing::debug!(?hops, took_ms, "the web of trust was made");
    if web.is_cut {
        tracing::warn!(?hops, "the web of trust has more keys than policy.trust.max_keys: the farthest are left out");
    }
    if hops.get(1) == Some(&0) {
        tracing::warn!("no follow list of a key in policy.trust.roots is stored: only these keys are trusted");
    }
}
