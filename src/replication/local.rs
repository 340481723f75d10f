//! Our side of a comparison: which events of a window are stored, and their text when they are sent up.
//!
//! It only reads, a slice at a time, so that a relay on the same store is not kept from reusing pages (INV-9).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::remembered::Remembered;
use super::window::Window;
use crate::negentropy::{Records, RecordsBuilder};
use crate::nostr::{EventId, EventView, Filter, Kind, Timestamp};
use crate::store::{Budget, Flow, Query, Scan, Seq, Snapshot, Step, Store, StoreError, Visitor};

/// The limits of one read transaction.
const SLICE: Budget = Budget { rows: 1 << 16, time: Duration::from_millis(50) };

/// What is stored of a window.
pub struct StoredPart {
    /// The part of the window that was read: all of it, or its newest part when there is too much.
    pub window: Window,
    /// The rest, to be compared next.
    pub rest: Option<Window>,
    /// The events of the part, as they are to be compared.
    pub records: Records,
}

/// How to look at the store.
pub struct LocalSide<'a> {
    /// The store.
    pub store: &'a Store,
    /// The conditions beside the time.
    pub filter: &'a Filter,
    /// Events that are compared at a time. The events of one second are never divided.
    pub max_records: usize,
    /// Whether events are sent up.
    pub sends_up: bool,
    /// The time.
    pub now: Timestamp,
    /// Ends the search early.
    pub stop: &'a AtomicBool,
}

impl LocalSide<'_> {
    /// Finds what is stored of a window, as the other relay should see it: with what was refused, without what the
    /// other relay does not take. `None` when it was interrupted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn find(&self, window: Window, remembered: &Remembered) -> Result<Option<StoredPart>, StoreError> {
        let filter =
            Filter { since: Some(window.since), until: Some(window.until), limit: None, ..self.filter.clone() };
        let mut scan = Scan::new(Query { filters: [filter].into(), until_seq: Seq::MAX, limits: None });
        let records = RecordsBuilder::new(usize::MAX);
        let mut finding = Finding { records, remembered, look: self, last: Timestamp::MAX, rest: None };
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let step = scan.run(&self.store.read()?, SLICE, &mut finding)?;
            if finding.rest.is_some() || step != Step::Paused {
                break;
            }
        }
        let Finding { mut records, rest, .. } = finding;
        let rest = rest.map(|until| Window { until, ..window });
        let window = rest.map_or(window, |rest| Window { since: Timestamp(rest.until.0 + 1), ..window });
        for (id, created_at) in remembered.as_if_held().filter(|(_, created_at)| window.contains(*created_at)) {
            records.push(created_at, id).expect("there is no limit");
        }
        Ok(Some(StoredPart { window, rest, records: records.finish() }))
    }

    /// What the store knows of an id that the other relay names.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn holds(&self, ids: &[EventId]) -> Result<Vec<Option<StoredState>>, StoreError> {
        let snapshot = self.store.read()?;
        let look = |id| {
            let Some((seq, event)) = snapshot.by_id(id)? else { return Ok(None) };
            let is_hidden = snapshot.is_hidden(seq, event)?;
            let (created_at, is_expired) = (event.created_at(), event.is_expired(self.now));
            Ok(Some(StoredState { created_at, is_expired, is_hidden }))
        };
        ids.iter().map(look).collect()
    }

    /// The newer version that is stored of an event, if it is outside of `scope`: there no comparison finds it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn newer_outside(&self, event: EventView<'_>, scope: &Filter) -> Result<Option<EventId>, StoreError> {
        let snapshot = self.store.read()?;
        let held = snapshot.version_of(event)?;
        let newer = held.filter(|(_, held)| held.replaces(event) && !scope.matches(*held));
        Ok(newer.map(|(_, held)| held.id()))
    }

    /// The events with these ids that may be sent up.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn messages(&self, ids: &[EventId]) -> Result<Vec<(EventId, Sending)>, StoreError> {
        let snapshot = self.store.read()?;
        ids.iter().map(|id| Ok((*id, sending(&snapshot, id, self.now)?))).collect()
    }
}

/// What the store knows of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredState {
    /// Its `created_at`.
    pub created_at: Timestamp,
    /// Whether it has expired.
    pub is_expired: bool,
    /// Whether its author has vanished.
    pub is_hidden: bool,
}

/// What becomes of an event that is to be sent up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sending {
    /// Its EVENT message, and its kind.
    Message(String, Kind),
    /// Only its author may send it (NIP-70).
    Protected,
    /// It is not stored any more, or must not be shown.
    Gone,
}

/// What becomes of the event with this id.
///
/// # Errors
/// When the store cannot be read.
pub fn sending(snapshot: &Snapshot<'_>, id: &EventId, now: Timestamp) -> Result<Sending, StoreError> {
    let Some((seq, event)) = snapshot.by_id(id)? else { return Ok(Sending::Gone) };
    Ok(if event.is_expired(now) || snapshot.is_hidden(seq, event)? {
        Sending::Gone
    } else if event.is_protected() {
        Sending::Protected
    } else {
        Sending::Message(message(event), event.kind())
    })
}

/// The EVENT message of an event.
pub fn message(event: EventView<'_>) -> String {
    format!("[\"EVENT\",{}]", event.to_json())
}

struct Finding<'a> {
    records: RecordsBuilder,
    remembered: &'a Remembered,
    look: &'a LocalSide<'a>,
    /// `created_at` of the last event; they come newest first.
    last: Timestamp,
    /// The first second that is left out, once there are enough.
    rest: Option<Timestamp>,
}

impl Visitor for Finding<'_> {
    fn admits(&mut self, event: EventView<'_>) -> bool {
        !event.is_expired(self.look.now)
    }

    fn take(&mut self, _: Seq, event: EventView<'_>) -> Flow {
        let (id, created_at) = (event.id(), event.created_at());
        if self.records.len() >= self.look.max_records && created_at < self.last {
            self.rest = Some(created_at);
            return Flow::Pause;
        }
        self.last = created_at;
        if !self.remembered.is_kept(&id, self.look.sends_up) {
            self.records.push(created_at, id).expect("there is no limit");
        }
        Flow::Continue
    }
}
