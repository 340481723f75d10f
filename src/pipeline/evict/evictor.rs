//! The `retention` thread: watches how full the store is, and executes the plan of the rules through the writer.
//!
//! Removes nothing itself. Without rules it only watches. Work that is not urgent takes at most a fifth of its time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::error::EvictError;
use super::evicting::Evicting;
use super::former_rules::{self, FormerRules, Verdict};
use super::pending_rules::{PendingRules, nothing_waits};
use crate::metrics::StoreOperation;
use crate::pipeline::channel::{Receiver, RecvError, Sender, channel};
use crate::pipeline::queues::{Eviction, EvictionResult, WriteCommand};
use crate::policy::Retention;
use crate::retention::authors::Authors;
use crate::retention::busy_authors::BusyAuthors;
use crate::retention::cause::Candidate;
use crate::retention::disk::Disk;
use crate::retention::horizons::NEVER;
use crate::retention::marks::{RoomMarks, within_file};
use crate::retention::oldest::held_by_rule;
use crate::retention::parts::Parts;
use crate::retention::plan::{Plan, Scope};
use crate::retention::report::Report;
use crate::retention::slice::{Progress, SLICE_ROWS, Slice};
use crate::retention::{follows, intervals};
use crate::store::{Full, Room, Seq};

/// How often the fill level is checked.
const WATCH: Duration = Duration::from_millis(250);

/// The same while the disk, or the space up to a watermark, may run out within moments.
const WATCH_CLOSELY: Duration = Duration::from_millis(5);

/// Batches queued at the writer: more than it removes in one commit.
const PENDING: usize = 16;

/// How long urgent work goes on before the fill level is checked again.
const TURN: Duration = Duration::from_millis(20);

/// Work that is not urgent takes one part in this many of the thread's time.
const SHARE: u32 = 5;

/// How long an idle store has to be full before that is reported.
const FULL_FOR: Duration = Duration::from_secs(1);

/// Runs until `stop` is closed.
pub fn run(evicting: &Evicting, write: &Sender<WriteCommand>, stop: &Receiver<()>) {
    let mut evictor = Evictor::new(evicting, write);
    loop {
        let pause = match evictor.turn() {
            Ok(pause) => pause,
            Err(EvictError::Closed) => return,
            Err(EvictError::Store(error)) => {
                // The next turn tries again.
                evicting.health.failed(StoreOperation::Retention, &error);
                Duration::from_secs(1)
            }
        };
        if stop.recv_timeout(pause) != Err(RecvError::Timeout) {
            evictor.report.tell(true);
            return;
        }
    }
}

/// How far the rules in force have been executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Their first complete execution is under way.
    First,
    /// They were executed once. Events that came meanwhile still take too much.
    CatchingUp,
    /// They hold.
    Steady,
}

struct Evictor<'a> {
    evicting: &'a Evicting,
    write: &'a Sender<WriteCommand>,
    /// The writer's answers. Only evictions hold senders, so the channel closes when the writer dies.
    done: Receiver<EvictionResult>,
    /// What the writer has been asked to remove and has not answered yet.
    pending: VecDeque<Parts>,
    /// The rules in force, with their follow lists.
    rules: Retention,
    stage: Stage,
    /// The rules that are to come into force, if any.
    pending_rules: Option<PendingRules>,
    /// The rules from before the start, while new ones wait and no others are in force.
    former: Option<FormerRules>,
    /// The rules that were asked for last, with their follow lists.
    newest: Retention,
    /// The follow lists that were read for them.
    lists: Vec<Option<Seq>>,
    /// The reload whose settings have the rules that clients are answered by.
    reload: Option<u64>,
    plan: Option<Plan>,
    disk: Disk,
    is_disk_low: bool,
    /// At the last check.
    used_bytes: u64,
    /// Since when the store has been full.
    full_since: Option<Instant>,
    /// Since when no rule can make room.
    exhausted: Option<Instant>,
    ages_due: Instant,
    totals_due: Instant,
    authors_due: Instant,
    busy_authors: BusyAuthors,
    /// How far ages by arrival were executed, per rule.
    arrived: Vec<Seq>,
    report: Report,
}

impl<'a> Evictor<'a> {
    fn new(evicting: &'a Evicting, write: &'a Sender<WriteCommand>) -> Self {
        let now = Instant::now();
        Self {
            evicting,
            write,
            done: channel(PENDING).1,
            pending: VecDeque::new(),
            rules: Retention::default(),
            stage: Stage::Steady,
            pending_rules: None,
            former: None,
            newest: Retention::default(),
            lists: Vec::new(),
            reload: None,
            plan: None,
            disk: Disk::default(),
            is_disk_low: false,
            used_bytes: 0,
            full_since: None,
            exhausted: None,
            ages_due: now,
            totals_due: now,
            authors_due: now,
            busy_authors: BusyAuthors::new(Seq(0)),
            arrived: Vec::new(),
            report: Report::default(),
        }
    }

    /// Checks the fill level and does some of the work that is due; returns how long to rest.
    fn turn(&mut self) -> Result<Duration, EvictError> {
        self.take_rules()?;
        let room = self.evicting.store.room()?;
        let watch = self.watch(room);
        let pause = if self.rules.is_empty() { watch } else { self.work(room, watch)? };
        let Some(pending) = &mut self.pending_rules else { return Ok(pause) };
        if pending.step(self.evicting, self.write, Instant::now() + TURN)? {
            self.come_into_force()?;
        }
        let is_counting = self.pending_rules.as_ref().is_some_and(PendingRules::is_counting);
        if !is_counting {
            self.count_former()?;
        }
        Ok(if is_counting || self.former.is_some() { pause.min(TURN) } else { pause })
    }

    /// Continues to count the rules from before the start, and puts them into force if they remove little.
    fn count_former(&mut self) -> Result<(), EvictError> {
        let Some(former) = &mut self.former else { return Ok(()) };
        let verdict = former.step(self.evicting, Instant::now() + TURN)?;
        self.former = self.former.take().filter(|_| matches!(verdict, Verdict::Counting));
        if let Verdict::Holds(rules) = verdict {
            self.execute(rules)?;
            tracing::info!("the rules from before the start stay in force until the new ones are accepted");
        }
        Ok(())
    }

    /// Executes the rules in force for a while; returns how long to rest.
    fn work(&mut self, room: Room, watch: Duration) -> Result<Duration, EvictError> {
        let marks = self.marks(room);
        if marks.is_relaxed(room) && self.evicting.horizons.relax_total() {
            self.save_horizons()?;
        }
        let is_short = marks.excess(room) > 0;
        self.exhausted = self.exhausted.filter(|_| is_short);
        if self.stage == Stage::CatchingUp && !is_short {
            self.stage = Stage::Steady;
        }
        if self.plan.is_none() {
            self.plan = match self.stage {
                Stage::First => Some(Plan::new(Scope::ALL)),
                Stage::CatchingUp | Stage::Steady => self.due_plan(is_short)?,
            };
        }
        let until = Instant::now() + if is_short { TURN } else { Duration::ZERO };
        let mut worked = Duration::ZERO;
        while self.plan.is_some() {
            worked += self.step()?;
            if Instant::now() >= until {
                break;
            }
        }
        self.report.tell(false);
        Ok(match (&self.plan, is_short) {
            (None, _) => watch,
            (Some(_), true) => Duration::ZERO,
            (Some(_), false) => watch.min(worked * (SHARE - 1)),
        })
    }

    /// The rules whose limits apply: those in force or, if there are none, those that are to come into force.
    fn ruling(&self) -> &Retention {
        match &self.pending_rules {
            Some(pending) if self.rules.is_empty() => &pending.rules,
            _ => &self.rules,
        }
    }

    fn marks(&self, room: Room) -> RoomMarks {
        RoomMarks::new(self.ruling(), room, self.is_disk_low)
    }

    /// Checks for new rules, from a reload or a new follow list. They are counted before they come into force; until
    /// then the former rules apply, to clients too.
    fn take_rules(&mut self) -> Result<(), EvictError> {
        let settings = self.evicting.settings.load_full();
        let is_reload = self.reload != Some(settings.reload);
        let unresolved = if is_reload { &settings.retention } else { &self.newest };
        let lists = follows::lists(unresolved, &self.evicting.store)?;
        if !is_reload && lists == self.lists {
            return Ok(());
        }
        let rules = follows::resolve(unresolved.clone(), &self.evicting.store)?;
        let is_other = rules != self.newest;
        if !is_reload && is_other && follows::lost_much(&self.newest, &rules) {
            self.lists = lists;
            return Ok(());
        }
        let mut former = None;
        if is_other {
            nothing_waits(self.evicting, self.write)?;
            if self.rules.is_empty() {
                former = FormerRules::load(self.evicting, &rules)?;
            }
        }
        (self.lists, self.newest) = (lists, rules.clone());
        if is_other {
            let is_in_force = rules == self.rules;
            self.pending_rules = (!is_in_force).then(|| PendingRules::new(rules.clone(), !self.rules.is_empty()));
            self.former = former;
        }
        if self.pending_rules.is_some() && rules.is_empty() {
            return self.come_into_force();
        }
        self.publish(settings.reload);
        if is_other && self.rules.is_empty() {
            self.evicting.horizons.begin(&rules);
        }
        Ok(())
    }

    /// Puts the rules that apply into the settings of this reload.
    fn publish(&mut self, reload: u64) {
        self.reload = self.evicting.put_rules(reload, self.ruling()).then_some(reload);
    }

    /// Puts the new rules into force.
    fn come_into_force(&mut self) -> Result<(), EvictError> {
        nothing_waits(self.evicting, self.write)?;
        let Some(rules) = self.pending_rules.as_ref().map(|pending| pending.rules.clone()) else { return Ok(()) };
        self.execute(rules)?;
        (self.pending_rules, self.former) = (None, None);
        Ok(())
    }

    /// Executes these rules from now on.
    fn execute(&mut self, rules: Retention) -> Result<(), EvictError> {
        let last_seq = self.evicting.store.read()?.last_seq()?;
        self.await_writer(0)?;
        self.evicting.horizons.resume(&rules, &self.evicting.store)?;
        self.report.tell(true);
        self.rules = rules;
        if let Some(reload) = self.reload {
            self.publish(reload);
        }
        former_rules::forget_without(&self.rules, self.evicting, self.write)?;
        follows::tell(&self.rules);
        self.stage = Stage::First;
        (self.plan, self.exhausted, self.arrived) = (None, None, Vec::new());
        self.busy_authors = BusyAuthors::new(last_seq);
        (self.ages_due, self.totals_due) = (Instant::now(), Instant::now());
        self.authors_due = Instant::now() + intervals::authors(&self.rules);
        Ok(())
    }

    /// Updates from where on the store counts as full, and reports whether it is. Returns when to check again.
    fn watch(&mut self, room: Room) -> Duration {
        let (limits, mut watch) = (self.ruling().limits(), WATCH);
        match self.evicting.store.disk_space() {
            Ok(space) => {
                self.is_disk_low = self.disk.watch(&self.evicting.store, space, room, limits.min_free_disk_bytes);
                if Disk::is_near(space, limits.min_free_disk_bytes) {
                    watch = WATCH_CLOSELY;
                }
            }
            Err(error) => tracing::debug!(%error, "the room on the file system is not known"),
        }
        let (marks, before) = (self.marks(room), std::mem::replace(&mut self.used_bytes, room.used_bytes));
        if (room.used_bytes > before && !marks.is_relaxed(room)) || marks.excess(room) > 0 {
            watch = WATCH_CLOSELY;
        }
        self.evicting.writable.set_room_made(!self.rules.is_empty() && self.exhausted.is_none());
        self.evicting.store.set_full(self.full(room, marks));
        self.tell_full();
        watch
    }

    /// From where on the store counts as full.
    fn full(&self, room: Room, marks: RoomMarks) -> Full {
        let max_bytes = self.ruling().limits().max_bytes;
        let used_bytes = if max_bytes == 0 { u64::MAX } else { max_bytes };
        let page_bytes = if self.is_disk_low { room.map_bytes.min(within_file(room)) } else { room.map_bytes };
        let mut full = Full { used_bytes, page_bytes };
        let is_above = self.stage != Stage::Steady && room.used_bytes > marks.used.start;
        if self.rules.is_empty() && self.pending_rules.is_some() {
            // The operator has to decide what goes; until then clients are not refused.
            full.used_bytes = u64::MAX;
        } else if !self.rules.is_empty() && is_above {
            // Eviction frees pages of the file, and events may use them.
            full = Full { used_bytes: u64::MAX, page_bytes: full.page_bytes.min(within_file(room)) };
        }
        if self.exhausted.is_some() {
            full.used_bytes = full.used_bytes.min(marks.used.start);
            full.page_bytes = full.page_bytes.min(marks.pages.start);
        }
        full
    }

    /// Reports whether events are refused. The writer reports it when it refuses an event; this covers an idle store.
    fn tell_full(&mut self) {
        let Ok(room) = self.evicting.store.room() else { return };
        if !room.is_full() {
            self.full_since = None;
            // After refusals, there is room again only when a batch fits.
            let gap = if self.evicting.writable.get() { 0 } else { (room.full_bytes() / 256).min(1 << 20) };
            if !room.full.is_reached(room.used_bytes + gap, room.page_bytes + gap) {
                self.evicting.writable.set(true);
            }
        } else if self.full_since.get_or_insert_with(Instant::now).elapsed() > FULL_FOR {
            self.evicting.writable.set(false);
        }
    }

    /// A plan for whatever is due, if anything is.
    fn due_plan(&mut self, is_short: bool) -> Result<Option<Plan>, EvictError> {
        let now = Instant::now();
        if self.rules.counts_authors() {
            while self.busy_authors.count(&self.evicting.store)? {}
        }
        let is_short = is_short && self.exhausted.is_none_or(|at| at.elapsed() > intervals::TRY_AGAIN);
        let ages = now >= self.ages_due && self.rules.has_ages();
        let totals = now >= self.totals_due && self.rules.limits_rules();
        let all = now >= self.authors_due && self.rules.counts_authors();
        if !(is_short || ages || totals || all || self.busy_authors.is_due()) {
            return Ok(None);
        }
        let authors = if all { Authors::All } else { Authors::These(self.busy_authors.take()) };
        let (ages, totals, arrived) = (ages || is_short || totals, totals || is_short, self.arrived.clone());
        Ok(Some(Plan::new(Scope { ages, arrived, authors, totals })))
    }

    /// Runs one step of the plan and sends what it found to the writer. Returns how long that took, without waiting.
    fn step(&mut self) -> Result<Duration, EvictError> {
        let Some(mut plan) = self.plan.take() else { return Ok(Duration::ZERO) };
        let (evicting, began) = (self.evicting, Instant::now());
        let room = evicting.store.room()?;
        let excess = self.marks(room).excess(room);
        let snapshot = evicting.store.read()?;
        let mut slice = Slice::new(&self.rules, &snapshot, evicting.clock.now(), SLICE_ROWS)?;
        let progress = plan.step(&mut slice, excess)?;
        let (found, walked) = (slice.found, plan.take_walked());
        drop(snapshot);
        // Before the events are removed, so that clients cannot publish them again in between.
        evicting.horizons.went(&found);
        for walk in &walked {
            evicting.horizons.note(walk);
            self.busy_authors.walked(walk, &self.rules);
        }
        let emptied = plan.take_emptied();
        for &rule in &emptied {
            evicting.horizons.set(rule, |horizon| horizon.total = NEVER);
        }
        let worked = began.elapsed();
        self.remove(&found)?;
        if found.is_empty() && !emptied.is_empty() {
            self.save_horizons()?;
        }
        match progress {
            Progress::More => self.plan = Some(plan),
            Progress::AwaitRemoval => {
                self.await_writer(0)?;
                self.plan = Some(plan);
            }
            Progress::Done => {
                self.await_writer(0)?;
                self.complete(&mut plan, began)?;
            }
        }
        Ok(worked)
    }

    /// Notes that the plan was executed completely.
    fn complete(&mut self, plan: &mut Plan, began: Instant) -> Result<(), EvictError> {
        self.arrived = plan.take_arrived();
        let (scope, now) = (plan.scope(), Instant::now());
        if scope.ages {
            self.ages_due = now + intervals::ages(&self.rules).max(began.elapsed() * 10);
        }
        if scope.totals {
            self.totals_due = now + intervals::TOTALS;
            self.relax_rules()?;
        }
        if scope.authors == Authors::All {
            self.authors_due = now + intervals::authors(&self.rules).max(began.elapsed() * 10);
            self.evicting.horizons.know_authors();
        }
        if self.stage == Stage::First {
            self.stage = Stage::CatchingUp;
            self.report.tell(true);
            former_rules::remember(self.evicting, self.write, &self.rules)?;
        }
        self.evicting.heartbeat.plan();
        if plan.missing() == 0 {
            self.exhausted = None;
            return Ok(());
        }
        // The store is full from here on, for every rule alike.
        if self.evicting.horizons.relax_total() {
            self.save_horizons()?;
        }
        if self.exhausted.replace(now).is_none() {
            tracing::warn!(
                missing_bytes = plan.missing(),
                max_bytes = self.rules.limits().max_bytes,
                "{}: nothing is left that the retention rules would remove for room: events that are kept forever take \
                 too much",
                self.rules.max_bytes_origin()
            );
        }
        Ok(())
    }

    /// Lets rules that are below their limits accept older events again.
    fn relax_rules(&mut self) -> Result<(), EvictError> {
        let held = held_by_rule(&self.rules, &self.evicting.store.read()?)?;
        let has_spare = |limit: u64, held: u64| limit == 0 || held < limit - limit / 16;
        let spare = self.rules.rules().iter().zip(held).enumerate().filter(|(_, (rule, held))| {
            has_spare(rule.bounds.max_events, held.events) && has_spare(rule.bounds.max_bytes, held.bytes)
        });
        let horizons = &self.evicting.horizons;
        let relaxed = spare.filter(|(place, _)| horizons.set(*place, |horizon| horizon.own.0 = 0)).count();
        if relaxed > 0 { self.save_horizons() } else { Ok(()) }
    }

    fn remove(&mut self, found: &[Candidate]) -> Result<(), EvictError> {
        if found.is_empty() {
            return Ok(());
        }
        let mut parts = Parts::default();
        found.iter().for_each(|one| parts.add(one));
        self.send(found.iter().map(|one| one.seq).collect(), parts)
    }

    /// Saves the horizons although nothing is removed.
    fn save_horizons(&mut self) -> Result<(), EvictError> {
        self.send(Vec::new(), Parts::default())
    }

    fn send(&mut self, seqs: Vec<Seq>, parts: Parts) -> Result<(), EvictError> {
        self.await_writer(PENDING - 1)?;
        self.pending.push_back(parts);
        let eviction = Eviction { seqs, done: self.done.sender() };
        self.write.send(WriteCommand::Evict(eviction)).map_err(|_| EvictError::Closed)
    }

    /// Waits until the writer has at most `pending` batches left.
    fn await_writer(&mut self, pending: usize) -> Result<(), EvictError> {
        while self.pending.len() > pending {
            let removed = self.done.recv().ok_or(EvictError::Closed)?;
            let parts = self.pending.pop_front().unwrap_or_default();
            if removed? > 0 {
                self.report.removed(&parts, &self.evicting.metrics);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
