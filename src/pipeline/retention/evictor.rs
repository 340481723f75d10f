//! The `retention` thread: watches the room, finds what must go, and hands it to the writer in small batches.
//!
//! It removes nothing itself. Without rules it only watches. What is not urgent it does at a fifth of its time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::disk::Disk;
use super::horizons::NEVER;
use super::oldest::{OldestFirst, bytes_by_rule};
use super::sweep::{AgeSweep, AuthorSweep, AuthorWalk, BATCH_BYTES, Candidate, Cause, Slice};
use super::thin::{BUSY, Thin};
use super::{Marks, SLICE_ROWS, limit};
use crate::metrics::StoreOperation;
use crate::nostr::{Pubkey, Timestamp};
use crate::pipeline::channel::{Receiver, RecvError, Sender, channel};
use crate::pipeline::queues::WriteCommand;
use crate::pipeline::run::Shared;
use crate::policy::Retention;
use crate::store::{Removed, Room, Run, Seq, StoreError};

/// What the writer is to do, in as many steps as it likes.
pub struct Eviction {
    /// What.
    pub chore: Chore,
    /// Where it tells what it removed in all.
    pub done: Sender<Done>,
}

/// What makes room.
pub enum Chore {
    /// Remove these events, and put the horizons, which are told before.
    Remove(Vec<Seq>),
    /// Pack these records.
    Pack(Run),
}

/// How an eviction ended.
pub type Done = Result<Removed, StoreError>;

/// How often the room is looked at.
const WATCH: Duration = Duration::from_millis(250);

/// The same, when the disk or the room that is left for a mark may be used up within moments.
const WATCH_CLOSELY: Duration = Duration::from_millis(20);

/// Batches that the writer has at a time: more than it removes for a full batch of events.
const PENDING: usize = 6;

/// How long urgent work goes on before the room is looked at again.
const TURN: Duration = Duration::from_millis(20);

/// What is not urgent takes one part of this many of the thread's time.
const SHARE: u32 = 5;

/// How often the bytes of the rules are looked at.
const BYTES: Duration = Duration::from_secs(10);

/// How often every author is looked at, although arrivals tell who needs it.
const AUTHORS: Duration = Duration::from_secs(24 * 60 * 60);

/// Authors that are remembered to have room left.
const MARGINS: usize = 65_536;

/// Runs until `stop` is closed.
pub fn run(shared: &Arc<Shared>, write: &Sender<WriteCommand>, stop: &Receiver<()>) {
    let mut evictor = Evictor::new(shared, write);
    loop {
        let pause = match evictor.turn() {
            Ok(pause) => pause,
            Err(Trouble::Closed) => return,
            Err(Trouble::Store(error)) => {
                // It is tried again soon.
                shared.health.failed(StoreOperation::Retention, &error);
                Duration::from_secs(1)
            }
        };
        if stop.recv_timeout(pause) != Err(RecvError::Timeout) {
            return;
        }
    }
}

/// Why a turn ended early.
enum Trouble {
    /// The writer has ended.
    Closed,
    Store(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What is being done that is not urgent.
enum Job {
    Age(AgeSweep, Instant),
    Authors(AuthorSweep),
    /// Authors that wrote, and the one being looked at.
    Writers(Vec<Pubkey>, Option<AuthorWalk>),
    /// A rule, and the bytes it has too many.
    Bytes(usize, OldestFirst, u64),
}

struct Evictor<'a> {
    shared: &'a Shared,
    write: &'a Sender<WriteCommand>,
    /// What the writer tells. Only what it was given holds senders: when it dies, so do they.
    done: Receiver<Done>,
    pending: usize,
    rules: Retention,
    disk: Disk,
    /// When it was last looked at.
    used_bytes: u64,
    /// The rule whose oldest go for want of room.
    pressure: Option<OldestFirst>,
    /// Nothing is left that could go; looked at again then.
    exhausted: Option<Instant>,
    job: Option<Job>,
    thin: Thin,
    age_due: Instant,
    bytes_due: Instant,
    authors_due: Instant,
    /// Up to here arrivals were counted.
    counted: Seq,
    /// How many more events of an author could reach a limit.
    margins: HashMap<Pubkey, u64>,
}

impl<'a> Evictor<'a> {
    fn new(shared: &'a Shared, write: &'a Sender<WriteCommand>) -> Self {
        let now = Instant::now();
        Self {
            shared,
            write,
            done: channel(PENDING).1,
            pending: 0,
            rules: Retention::default(),
            disk: Disk::default(),
            used_bytes: 0,
            pressure: None,
            exhausted: None,
            job: None,
            thin: Thin::default(),
            age_due: now,
            bytes_due: now,
            authors_due: now,
            counted: Seq(0),
            margins: HashMap::new(),
        }
    }

    /// Looks at the room and does some of what is to be done; returns how long to rest.
    fn turn(&mut self) -> Result<Duration, Trouble> {
        self.take_rules()?;
        let room = self.shared.store.room()?;
        let marks = Marks::new(limit(&self.rules, room));
        let watch = self.watch(room, marks);
        if self.rules.is_empty() {
            return Ok(watch);
        }
        if room.used_bytes < marks.relax && self.shared.horizons.relax_total() {
            self.remember()?;
        }
        let is_waiting = self.exhausted.is_some_and(|at| at.elapsed() < Duration::from_secs(1));
        if (self.pressure.is_some() || room.used_bytes > marks.start) && !is_waiting {
            self.relieve(marks)?;
            self.pack(BUSY)?;
            return Ok(if self.pressure.is_some() { Duration::ZERO } else { watch });
        }
        let started = Instant::now();
        let is_idle = !(self.work()? || self.pack(0)?);
        Ok(if is_idle { watch } else { watch.min(started.elapsed() * (SHARE - 1)) })
    }

    /// Begins anew when there are other rules.
    fn take_rules(&mut self) -> Result<(), Trouble> {
        let settings = self.shared.settings.load();
        if settings.retention == self.rules {
            return Ok(());
        }
        self.rules = settings.retention.clone();
        self.shared.horizons.begin(&self.rules);
        (self.pressure, self.exhausted, self.job) = (None, None, None);
        self.margins.clear();
        self.counted = self.shared.store.read()?.last_seq()?;
        let now = Instant::now();
        (self.age_due, self.bytes_due, self.authors_due) = (now, now, now);
        Ok(())
    }

    /// Sets from where on the store is full, and says whether it is. Returns when to look again.
    fn watch(&mut self, room: Room, marks: Marks) -> Duration {
        let min_free = self.rules.limits().min_free_disk_bytes;
        let mut full = limit(&self.rules, room);
        let mut watch = WATCH;
        match self.shared.store.disk_space() {
            Ok(space) => {
                if self.disk.watch(&self.shared.store, space, room, min_free) {
                    // What is free in the file can be used again, but for what deletions need.
                    let kept = (room.file_bytes / 16).clamp(1 << 20, 64 << 20);
                    full = full.min(room.file_bytes.saturating_sub(kept));
                }
                if Disk::is_near(space, min_free) {
                    watch = WATCH_CLOSELY;
                }
            }
            Err(error) => tracing::debug!(%error, "the room on the file system is not known"),
        }
        if self.exhausted.is_some() && !self.rules.is_empty() {
            full = full.min(marks.start);
        }
        let before = std::mem::replace(&mut self.used_bytes, room.used_bytes);
        if room.used_bytes > before && room.used_bytes > marks.relax {
            watch = WATCH_CLOSELY;
        }
        self.shared.store.set_full_bytes(full);
        let gap = if self.shared.is_writable() { 0 } else { (full / 256).min(1 << 20) };
        self.shared.storage_writable(room.used_bytes + gap < full);
        watch
    }

    /// Removes the least valuable until the lower mark is reached, for a turn.
    fn relieve(&mut self, marks: Marks) -> Result<(), Trouble> {
        let until = Instant::now() + TURN;
        while Instant::now() < until {
            // What the writer has not removed yet is not to be counted twice: no more of it than half of the way.
            let ahead = (marks.start - marks.stop) / 2 / BATCH_BYTES;
            let is_near = self.shared.store.room()?.used_bytes <= marks.start;
            self.settle(if is_near { 0 } else { (ahead as usize).min(PENDING - 1) })?;
            if self.shared.store.room()?.used_bytes <= marks.stop {
                (self.pressure, self.exhausted) = (None, None);
                return Ok(());
            }
            let last = self.rules.rules().len() - 1;
            let mut oldest = self.pressure.take().unwrap_or_else(|| OldestFirst::new(last));
            let rule = oldest.rule();
            let is_forever = self.rules.rules()[rule].is_forever();
            let is_done = is_forever || self.slice(|slice| oldest.step(slice, Cause::Total(rule), None, |_| false))?;
            self.pressure = match (is_done, rule.checked_sub(1)) {
                (false, _) => Some(oldest),
                (true, Some(before)) => {
                    self.shared.horizons.set(rule, |horizon| horizon.total = NEVER);
                    Some(OldestFirst::new(before))
                }
                (true, None) => {
                    self.settle(0)?;
                    return self.exhaust(marks);
                }
            };
        }
        Ok(())
    }

    /// Nothing is left that could go: the store is full from here on, for every rule alike.
    fn exhaust(&mut self, marks: Marks) -> Result<(), Trouble> {
        if self.shared.horizons.relax_total() {
            self.remember()?;
        }
        let is_full = self.shared.store.room()?.used_bytes > marks.start;
        if is_full && self.exhausted.is_none() {
            tracing::warn!("nothing is left that the retention rules would remove for room");
        }
        self.exhausted = is_full.then(Instant::now);
        Ok(())
    }

    /// One slice: what it finds is passed to the writer. True when the walk is complete.
    fn slice(&mut self, step: impl FnOnce(&mut Slice<'_>) -> Result<bool, StoreError>) -> Result<bool, Trouble> {
        let snapshot = self.shared.store.read()?;
        let mut slice = Slice::new(&self.rules, &snapshot, self.shared.now(), SLICE_ROWS);
        let is_done = step(&mut slice)?;
        let mut found = slice.found;
        drop(snapshot);
        // They go in several steps.
        found.sort_unstable_by_key(|one| one.created_at);
        // Told before the events are gone, so that none slips in again.
        self.shared.horizons.went(&found);
        self.remove(&found)?;
        Ok(is_done)
    }

    fn remove(&mut self, found: &[Candidate]) -> Result<(), Trouble> {
        if found.is_empty() {
            return Ok(());
        }
        self.settle(PENDING - 1)?;
        let seqs: Vec<Seq> = found.iter().map(|one| one.seq).collect();
        self.thin.note(seqs.iter().copied());
        self.give(Chore::Remove(seqs))
    }

    /// Has the horizons put although nothing is removed: older events are welcome again.
    fn remember(&mut self) -> Result<(), Trouble> {
        self.settle(PENDING - 1)?;
        self.give(Chore::Remove(Vec::new()))
    }

    fn give(&mut self, chore: Chore) -> Result<(), Trouble> {
        self.pending += 1;
        let eviction = Eviction { chore, done: self.done.sender() };
        self.write.send(WriteCommand::Evict(eviction)).map_err(|_| Trouble::Closed)
    }

    /// Has some thin pages packed, but for the latest `busy` regions; false when there are none.
    fn pack(&mut self, busy: usize) -> Result<bool, Trouble> {
        for packed in 0..PENDING {
            // What is to be packed must be seen as it is after the removals, which the writer was given before.
            self.settle(packed)?;
            let Some(run) = self.thin.next(&self.shared.store, busy)? else { return Ok(packed > 0) };
            self.give(Chore::Pack(run))?;
        }
        Ok(true)
    }

    /// Waits until the writer has no more than `pending` batches.
    fn settle(&mut self, pending: usize) -> Result<(), Trouble> {
        while self.pending > pending {
            let removed = self.done.recv().ok_or(Trouble::Closed)?;
            self.pending -= 1;
            let removed = removed?;
            self.shared.metrics.evicted_events.inc_by(removed.events);
            self.shared.metrics.evicted_bytes.inc_by(removed.bytes);
        }
        Ok(())
    }

    /// A slice of what is not urgent; false when there is nothing to do.
    fn work(&mut self) -> Result<bool, Trouble> {
        let Some(job) = self.job.take().map_or_else(|| self.choose(), |job| Ok(Some(job)))? else { return Ok(false) };
        self.job = match job {
            Job::Age(mut sweep, began) => {
                let is_done = self.slice(|slice| sweep.step(slice))?;
                if is_done {
                    self.age_due = Instant::now() + self.age_interval().max(began.elapsed() * 10);
                }
                (!is_done).then_some(Job::Age(sweep, began))
            }
            Job::Authors(mut sweep) => {
                let (horizons, margins) = (&self.shared.horizons, &mut Vec::new());
                let step = |slice: &mut Slice<'_>| {
                    sweep.step(slice, |walk| {
                        horizons.note(walk.author, &walk.floors);
                        margins.push((walk.author, margin(walk)));
                    })
                };
                let is_done = self.slice(step)?;
                margins.drain(..).for_each(|(author, margin)| self.set_margin(author, margin));
                if is_done {
                    horizons.know_authors();
                }
                (!is_done).then_some(Job::Authors(sweep))
            }
            Job::Writers(queue, walk) => self.look_at_writers(queue, walk)?,
            Job::Bytes(rule, mut oldest, mut excess) => {
                let step = |slice: &mut Slice<'_>| {
                    oldest.step(slice, Cause::RuleBytes(rule), None, |bytes| {
                        excess = excess.saturating_sub(bytes);
                        excess == 0
                    })
                };
                let is_done = self.slice(step)?;
                (!is_done && excess > 0).then_some(Job::Bytes(rule, oldest, excess))
            }
        };
        Ok(true)
    }

    /// What is due, if anything is.
    fn choose(&mut self) -> Result<Option<Job>, Trouble> {
        let now = Instant::now();
        if now >= self.age_due && self.rules.rules().iter().any(|rule| rule.bounds.max_age.is_some()) {
            return Ok(Some(Job::Age(AgeSweep::default(), now)));
        }
        if self.rules.counts_authors() {
            if now >= self.authors_due {
                self.authors_due = now + AUTHORS;
                return Ok(Some(Job::Authors(AuthorSweep::default())));
            }
            let writers = self.writers()?;
            if !writers.is_empty() {
                return Ok(Some(Job::Writers(writers, None)));
            }
        }
        if now >= self.bytes_due && self.rules.rules().iter().any(|rule| rule.bounds.max_bytes > 0) {
            return self.largest_excess();
        }
        Ok(None)
    }

    /// Often enough for the shortest age, but no more than once a second.
    fn age_interval(&self) -> Duration {
        let ages = self.rules.rules().iter().filter_map(|rule| rule.bounds.max_age);
        let shortest = ages.map(|age| age.seconds).min().unwrap_or(u64::MAX);
        Duration::from_secs((shortest / 64).clamp(1, 60))
    }

    /// Authors that wrote so much since they were last looked at that a limit may be reached.
    fn writers(&mut self) -> Result<Vec<Pubkey>, Trouble> {
        let mut arrivals: HashMap<Pubkey, u64> = HashMap::new();
        let snapshot = self.shared.store.read()?;
        let mut last = self.counted;
        for row in snapshot.after(self.counted)?.take(SLICE_ROWS as usize) {
            let (seq, event) = row?;
            *arrivals.entry(event.pubkey()).or_default() += 1;
            last = seq;
        }
        drop(snapshot);
        self.counted = last;
        let mut due = Vec::new();
        for (author, count) in arrivals {
            match self.margins.get_mut(&author) {
                Some(margin) if *margin >= count => *margin -= count,
                _ => due.push(author),
            }
        }
        Ok(due)
    }

    fn look_at_writers(&mut self, mut queue: Vec<Pubkey>, walk: Option<AuthorWalk>) -> Result<Option<Job>, Trouble> {
        let mut walk = walk;
        let mut walked = Vec::new();
        let is_done = self.slice(|slice| {
            while !slice.is_over() {
                let Some(mut current) = walk.take().or_else(|| queue.pop().map(AuthorWalk::new)) else {
                    return Ok(true);
                };
                if current.step(slice)? { walked.push(current) } else { walk = Some(current) }
            }
            Ok(false)
        })?;
        for walk in walked {
            self.shared.horizons.note(walk.author, &walk.floors);
            self.set_margin(walk.author, margin(&walk));
        }
        Ok((!is_done).then_some(Job::Writers(queue, walk)))
    }

    fn set_margin(&mut self, author: Pubkey, margin: u64) {
        if self.margins.len() >= MARGINS {
            // Everybody is looked at once more, at about a microsecond each.
            self.margins.clear();
        }
        self.margins.insert(author, margin);
    }

    /// A rule that has too many bytes; those that have some to spare take old events again.
    fn largest_excess(&mut self) -> Result<Option<Job>, Trouble> {
        self.settle(0)?;
        let bytes = bytes_by_rule(&self.rules, &self.shared.store.read()?)?;
        let mut is_relaxed = false;
        for (place, rule) in self.rules.rules().iter().enumerate().filter(|(_, rule)| rule.bounds.max_bytes > 0) {
            if bytes[place] > rule.bounds.max_bytes {
                return Ok(Some(Job::Bytes(place, OldestFirst::new(place), bytes[place] - rule.bounds.max_bytes)));
            }
            if bytes[place] < rule.bounds.max_bytes - rule.bounds.max_bytes / 16 {
                is_relaxed |= self.shared.horizons.set(place, |horizon| horizon.own = Timestamp(0));
            }
        }
        if is_relaxed {
            self.remember()?;
        }
        self.bytes_due = Instant::now() + BYTES;
        Ok(None)
    }
}

/// After how many arrivals an author is looked at again: when a limit can be reached, and at a limit once in 16 rows, so
/// that an arrival costs a few microseconds of walking however many events its author has.
fn margin(walk: &AuthorWalk) -> u64 {
    walk.margin.max(walk.rows / 16)
}

#[cfg(test)]
mod tests;
