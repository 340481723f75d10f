//! Live subscriptions: their filters, and which of them each event must reach.
//!
//! It must never leave that to the relay's answer: the expectation is fixed before the first event is sent.

use std::cell::RefCell;
use std::rc::Rc;

use faster_hex::hex_string;

use super::context::{Actor, Context};
use super::prepare::Fresh;
use super::progress::Progress;
use super::subscriber::{Rules, Subscriber, Tally, Timeline};
use crate::account::{Account, Deliveries, Finding, Replay};
use crate::corpus::library::Library;
use crate::random::Random;

/// Kernel receive buffer of a client that stops reading: small, so that the backlog stays in the relay.
const SLOW_RECEIVE_BYTES: u32 = 4096;

/// The subscriptions of a phase.
pub struct Plan {
    /// One filter per subscription, as JSON.
    pub filters: Vec<String>,
    /// The events that each subscription must receive.
    pub deliveries: Deliveries,
}

/// The time of the oldest event: a subscription with this `since` has no stored rows to send first.
fn since(library: &Library, fresh: Fresh) -> u64 {
    let times = (fresh.first..fresh.first + fresh.count).map(|number| library.meta(number).created_at);
    times.min().unwrap_or(0)
}

/// Every subscription matches every event.
pub fn match_all(library: &Library, fresh: Fresh, subscriptions: usize) -> Plan {
    let since = since(library, fresh);
    let filter = format!("{{\"kinds\":[1],\"since\":{since},\"limit\":1}}");
    let mut deliveries = Deliveries::new(subscriptions, fresh.count as usize);
    for sub in 0..subscriptions {
        (0..fresh.count as usize).for_each(|event| deliveries.expect(sub, event));
    }
    Plan { filters: vec![filter; subscriptions], deliveries }
}

/// Follow feeds of `authors` keys each: an event reaches `matches` subscriptions on average, the other keys are those
/// of people who do not write.
pub fn follow(library: &Library, fresh: Fresh, subscriptions: usize, authors: usize, matches: f64, seed: u64) -> Plan {
    let mut random = Random::new(seed ^ 0x00F0_1102_FEED);
    let numbers = fresh.first..fresh.first + fresh.count;
    let mut writers: Vec<u32> = numbers.clone().map(|number| library.meta(number).author).collect();
    writers.sort_unstable();
    writers.dedup();
    let mut lists: Vec<Vec<String>> = vec![Vec::new(); subscriptions];
    let mut followers = std::collections::HashMap::<u32, Vec<usize>>::new();
    for &writer in &writers {
        let extra = usize::from(random.below(1_000_000) < ((matches % 1.0) * 1e6) as usize);
        let list = followers.entry(writer).or_default();
        for _ in 0..matches as usize + extra {
            let sub = random.below(subscriptions);
            if !list.contains(&sub) && lists[sub].len() < authors {
                lists[sub].push(library.authors()[writer as usize].clone());
                list.push(sub);
            }
        }
    }
    let mut deliveries = Deliveries::new(subscriptions, fresh.count as usize);
    for (event, number) in numbers.enumerate() {
        followers[&library.meta(number).author].iter().for_each(|&sub| deliveries.expect(sub, event));
    }
    let since = since(library, fresh);
    let filters = lists.into_iter().map(|list| feed_filter(list, authors, since, &mut random)).collect();
    Plan { filters, deliveries }
}

fn feed_filter(mut list: Vec<String>, authors: usize, since: u64, random: &mut Random) -> String {
    while list.len() < authors {
        list.push(stranger(random));
    }
    list.sort_unstable();
    format!("{{\"authors\":[\"{}\"],\"kinds\":[1,6],\"since\":{since},\"limit\":1}}", list.join("\",\""))
}

/// 64 hex digits that nobody signs with.
pub fn stranger(random: &mut Random) -> String {
    let mut key = [0u8; 32];
    random.fill(&mut key);
    faster_hex::hex_string(&key)
}

/// Open subscriptions with their accounts.
pub struct Feeds {
    /// One per connection.
    pub actors: Vec<Actor<Subscriber>>,
    /// Their counters.
    pub tally: Rc<Tally>,
    /// The events that each subscription must receive, and those that it has received.
    pub deliveries: Rc<RefCell<Deliveries>>,
    /// When events were due.
    pub timeline: Rc<Timeline>,
    /// Number of the first event.
    first: u32,
    events: usize,
}

/// How the subscriptions are spread over connections.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Connections.
    pub connections: usize,
    /// Subscriptions on each.
    pub subscriptions: usize,
    /// How many of the connections are slow readers; they are the last ones.
    pub slow: usize,
}

/// Opens every subscription and waits for its EOSE.
pub async fn open(
    context: &Context,
    plan: Plan,
    fresh: Fresh,
    layout: Layout,
    account: &Rc<Account>,
    progress: &Rc<Progress>,
) -> Feeds {
    let opened = Progress::new(layout.connections);
    let events = fresh.count as usize;
    let timeline = Timeline::new(fresh.first, events);
    let rules = Rules {
        filters: Rc::new(plan.filters),
        ..Rules::new(context, account, plan.deliveries, timeline, &opened, progress)
    };
    let mut actors = Vec::new();
    for (number, filters) in rules.filters.chunks(layout.subscriptions).enumerate() {
        let base = number * layout.subscriptions;
        let slow = number >= layout.connections - layout.slow;
        let expected = (base..base + filters.len()).map(|sub| rules.deliveries.borrow().expected(sub, events)).sum();
        let state = Subscriber::new(rules.clone(), base, filters.len(), expected, slow);
        let state = Rc::new(RefCell::new(state));
        match context.open(state.clone(), slow.then_some(SLOW_RECEIVE_BYTES)).await {
            Ok(link) => {
                for (local, filter) in filters.iter().enumerate() {
                    link.send_text(format!("[\"REQ\",\"s{local}\",{filter}]").as_bytes());
                }
                actors.push(Actor { link, state });
            }
            Err(error) => {
                account.note(Finding::FailedConnection, || format!("{error:#}"));
                opened.finish();
                if !slow {
                    progress.finish();
                }
            }
        }
    }
    opened.wait(context.stall).await;
    let wanted: u64 = actors.iter().map(|actor| actor.state.borrow().subscriptions().len() as u64).sum();
    let missing = wanted.saturating_sub(rules.tally.open.get());
    account.note_many(Finding::MissingEose, missing, || format!("{missing} live subscriptions without EOSE"));
    let Rules { tally, deliveries, timeline, .. } = rules;
    Feeds { actors, tally, deliveries, timeline, first: fresh.first, events }
}

impl Feeds {
    /// From now on deliveries count; slow readers stop reading.
    pub fn begin(&self) {
        for actor in &self.actors {
            let slow = actor.state.borrow().is_slow();
            actor.link.pause(slow);
            actor.state.borrow_mut().begin();
        }
    }

    /// Only the first `events` events were sent; the readers wait for no others.
    pub fn truncate(&mut self, events: usize) {
        self.events = events;
        for actor in &self.actors {
            let deliveries = self.deliveries.borrow();
            let subs = actor.state.borrow().subscriptions();
            let missing: usize = subs.map(|sub| deliveries.missing(sub, events, |_| true).len()).sum();
            drop(deliveries);
            actor.state.borrow_mut().expect_less(missing as u64);
        }
    }

    /// Counts the missing deliveries of events that the relay accepted, except those to slow readers that the relay
    /// closed; returns the number of these readers.
    pub fn count_missing(&self, context: &Context, account: &Account) -> usize {
        let deliveries = self.deliveries.borrow();
        let accepted = |event: usize| context.holdings.holds(self.first + event as u32);
        let mut closed = 0;
        for actor in &self.actors {
            let state = actor.state.borrow();
            if state.is_gone() {
                // The lost connection is a finding already.
                closed += usize::from(state.is_slow());
                continue;
            }
            for sub in state.subscriptions() {
                let missing = deliveries.missing(sub, self.events, accepted);
                let Some(&first) = missing.first() else { continue };
                let number = |event: usize| self.first + event as u32;
                account.keep_replay(Finding::LostDelivery, || Replay {
                    missing: missing.iter().map(|&event| hex_string(context.library.id(number(event)))).collect(),
                    ..state.replay(sub, std::iter::once(context.library.json(number(first))))
                });
                let count = missing.len() as u64;
                account.note_many(Finding::LostDelivery, count, || format!("{count} on subscription {sub}"));
            }
        }
        closed
    }

    /// Closes every connection.
    pub fn close(&self) {
        self.actors.iter().for_each(|actor| actor.link.close());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_expected_exactly_where_its_author_is_followed() {
        let mut library = Library::default();
        let options = crate::corpus::Options {
            authors: 10,
            mix: crate::corpus::plan::Mix::Notes,
            ..crate::corpus::Options::social(3, 50)
        };
        crate::corpus::generate(&options, |line| library.add(line).map(|_| ())).expect("events");
        let fresh = Fresh { first: 0, count: 50 };
        let plan = follow(&library, fresh, 20, 30, 2.5, 1);
        for (sub, filter) in plan.filters.iter().enumerate() {
            let filter: serde_json::Value = serde_json::from_str(filter).expect("JSON");
            let followed: Vec<&str> =
                filter["authors"].as_array().expect("a list").iter().flat_map(|a| a.as_str()).collect();
            assert_eq!(followed.len(), 30);
            let matching = library.metas().iter();
            let matching = matching.filter(|meta| followed.contains(&library.authors()[meta.author as usize].as_str()));
            assert_eq!(plan.deliveries.expected(sub, 50), matching.count() as u64);
        }
    }
}
