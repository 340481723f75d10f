//! What one connection is charged, and what happens when it is in debt: the relay stops reading it until the debt is
//! paid.
//!
//! Charges accumulate during a turn and are made at its end; EVENTs and queries are charged at once. The bill does none
//! of the work itself, and the only time it keeps is its own hold.

use crate::metrics::Metrics;
use crate::nostr::{ClientMessage, Filter, Reason};
use crate::pipeline::ClientHandle;
use crate::policy::{Act, ContentRule, Quantity, Settings, Standing};
use crate::ws::Work;

/// The longest hold before the debt is checked again, in microseconds. A client whose messages are refused is read once
/// per hold.
const MAX_HOLD_US: u64 = 1_000_000;

/// CPU time that may accumulate over several turns before it is charged, so that short turns skip the charging.
const MAX_GATHERED_NS: u64 = 20_000;

/// The bill of one connection. Times are microseconds of a clock that never goes back.
#[derive(Debug, Default)]
pub struct Bill {
    cpu_ns: u64,
    bytes: u64,
    /// How long it takes to pay the debt made in this turn.
    debt_us: u64,
    /// Why messages are refused in this turn.
    refusal: Option<Reason>,
    /// The client owes so much that its next message closes the connection.
    is_overdrawn: bool,
    hold: Option<Hold>,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    since_us: u64,
    until_us: u64,
}

impl Bill {
    /// Adds the cost of an act.
    pub const fn add(&mut self, act: Act) {
        self.cpu_ns = self.cpu_ns.saturating_add(act.ns());
    }

    /// Adds bytes read from the socket.
    pub fn add_read(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.add(Act::Read(bytes));
    }

    /// Adds the work of turning them into messages.
    pub fn add_work(&mut self, work: Work) {
        self.bytes += work.inflated_bytes as u64;
        self.add(Act::Frames(work.frames));
        if work.blocks > 0 {
            self.add(Act::Inflated { bytes: work.inflated_bytes, blocks: work.blocks });
        }
    }

    /// Adds the cost of a message beyond reading it, and charges the message as an EVENT or a query.
    pub fn add_message(&mut self, message: &ClientMessage, client: &ClientHandle, settings: &Settings, now_us: u64) {
        let quantity = match message {
            ClientMessage::Event(event) => {
                self.add(Act::Event);
                let content = &settings.policy.content;
                if !content.is_empty() {
                    let searches: usize = content.iter().map(ContentRule::searches).sum();
                    self.add(Act::Searched(event.view().content().len().saturating_mul(searches)));
                }
                Quantity::Events
            }
            ClientMessage::Req(_, filters) | ClientMessage::Count(_, filters) => {
                self.add_filters(filters);
                Quantity::Queries
            }
            ClientMessage::NegOpen(_, filter, _) => {
                self.add_filters(std::slice::from_ref(filter));
                Quantity::Queries
            }
            ClientMessage::Auth(_) => return self.add(Act::Auth),
            ClientMessage::Close(_) | ClientMessage::NegMsg(..) | ClientMessage::NegClose(_) => return,
        };
        let debt_us = client.rates.charge(settings, client.identity().tier, quantity, 1, now_us);
        self.debt_us = self.debt_us.max(debt_us);
    }

    fn add_filters(&mut self, filters: &[Filter]) {
        let items = filters.iter().map(Filter::items).sum();
        self.add(Act::Filters { filters: filters.len(), items });
    }

    /// Whether the client ran into debt in this turn, so that it is read no further.
    #[must_use]
    pub const fn is_in_debt(&self) -> bool {
        self.debt_us > 0
    }

    /// Why this turn's messages are refused, if they are.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Reason> {
        self.refusal.as_ref()
    }

    /// Whether the next message closes the connection.
    #[must_use]
    pub const fn is_overdrawn(&self) -> bool {
        self.is_overdrawn
    }

    /// How long the client is to be held from `now_us` on, if it is.
    #[must_use]
    pub fn held_us(&self, now_us: u64) -> Option<u64> {
        self.hold.map(|hold| hold.until_us.saturating_sub(now_us).max(1))
    }

    /// Whether the client may be read now. If not, it is held.
    pub fn may_read(&mut self, client: &ClientHandle, settings: &Settings, metrics: &Metrics, now_us: u64) -> bool {
        if self.hold.is_some_and(|hold| now_us < hold.until_us) {
            return false;
        }
        (self.refusal, self.is_overdrawn) = (None, false);
        match client.rates.standing(settings, client.identity().tier, now_us) {
            Standing::Clear => {}
            Standing::Held { wait_us } => {
                self.hold(wait_us, metrics, now_us);
                return false;
            }
            Standing::Refused(reason) => self.refusal = Some(reason),
            Standing::Closed(reason) => (self.refusal, self.is_overdrawn) = (Some(reason), true),
        }
        self.release(metrics, now_us);
        true
    }

    /// Charges what accumulated during a turn, and holds the client if that puts it in debt.
    pub fn end_turn(&mut self, client: &ClientHandle, settings: &Settings, metrics: &Metrics, now_us: u64) {
        if self.bytes > 0 || self.cpu_ns >= MAX_GATHERED_NS {
            self.charge(client, settings, now_us);
        }
        let debt_us = std::mem::take(&mut self.debt_us);
        if self.refusal.take().is_some() {
            self.hold(MAX_HOLD_US, metrics, now_us);
        } else if debt_us > 0 {
            self.hold(debt_us, metrics, now_us);
        }
    }

    /// Charges what accumulated and ends any hold: the connection is closing.
    pub fn end(&mut self, client: &ClientHandle, settings: &Settings, metrics: &Metrics, now_us: u64) {
        self.charge(client, settings, now_us);
        self.release(metrics, now_us);
    }

    fn charge(&mut self, client: &ClientHandle, settings: &Settings, now_us: u64) {
        let (bytes, cpu_ns) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.cpu_ns));
        client.count_cpu(cpu_ns);
        let tier = client.identity().tier;
        for (quantity, units) in [(Quantity::Bytes, bytes), (Quantity::Cpu, cpu_ns)] {
            self.debt_us = self.debt_us.max(client.rates.charge(settings, tier, quantity, units, now_us));
        }
    }

    fn hold(&mut self, wait_us: u64, metrics: &Metrics, now_us: u64) {
        let until_us = now_us + wait_us.min(MAX_HOLD_US);
        match &mut self.hold {
            Some(hold) => hold.until_us = until_us,
            None => {
                self.hold = Some(Hold { since_us: now_us, until_us });
                metrics.connections_held.inc();
            }
        }
    }

    fn release(&mut self, metrics: &Metrics, now_us: u64) {
        if let Some(hold) = self.hold.take() {
            metrics.connections_held.dec();
            metrics.held_seconds.inc_by(now_us.saturating_sub(hold.since_us) as f64 / 1e6);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use super::*;
    use crate::ledger::{self, Ledger};
    use crate::nostr::Prefix;
    use crate::policy::{Rate, RateLimiter, RateTable};
    use crate::ws::{Budget, OutboxOptions, Writer};

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

    struct Scene {
        settings: Settings,
        metrics: Metrics,
        addresses: RateTable<IpAddr>,
    }

    impl Scene {
        /// Where anonymous clients have 1,000 bytes a second and 1,000 at once, and no other limit.
        fn new() -> Self {
            let mut settings = Settings::default();
            let (tier, address) = (&mut settings.tiers.anonymous, &mut settings.rates);
            for rate in [&mut tier.events, &mut tier.bytes, &mut tier.queries, &mut tier.cpu_us] {
                *rate = Rate::UNLIMITED;
            }
            for rate in [&mut address.events, &mut address.bytes, &mut address.queries, &mut address.cpu_us] {
                *rate = Rate::UNLIMITED;
            }
            tier.bytes = Rate::new(1_000, 1_000);
            Self { settings, metrics: Metrics::new(), addresses: RateTable::new(8) }
        }

        fn client(&self) -> ClientHandle {
            let (outbox, _) = Writer::with_outbox(OutboxOptions::default(), Arc::new(Budget::new(1 << 20)), None);
            let rates = RateLimiter::new(&self.settings, CLIENT, self.addresses.get(CLIENT, 0));
            let memory = Ledger::new(ledger::Options::default()).address(CLIENT);
            ClientHandle::new(outbox, false, rates, (CLIENT, CLIENT), memory)
        }

        fn may_read(&self, bill: &mut Bill, client: &ClientHandle, now_us: u64) -> bool {
            bill.may_read(client, &self.settings, &self.metrics, now_us)
        }

        fn end_turn(&self, bill: &mut Bill, client: &ClientHandle, now_us: u64) -> Option<u64> {
            bill.end_turn(client, &self.settings, &self.metrics, now_us);
            bill.held_us(now_us)
        }
    }

    #[test]
    fn bytes_on_the_wire_and_inflated_ones_are_charged_and_hold_the_client_until_they_are_paid() {
        let scene = Scene::new();
        let (client, mut bill) = (scene.client(), Bill::default());
        assert!(scene.may_read(&mut bill, &client, 0));
        bill.add_read(1_000);
        bill.add_work(Work { frames: 1, inflated_bytes: 0, blocks: 0 });
        assert_eq!(scene.end_turn(&mut bill, &client, 0), None, "a burst");
        bill.add_read(500);
        bill.add_work(Work { frames: 1, inflated_bytes: 2_000, blocks: 1 });
        // 2.5 s, looked at once in a second.
        assert_eq!(scene.end_turn(&mut bill, &client, 0), Some(1_000_000));
        assert_eq!(scene.metrics.connections_held.get(), 1);
        let looks = [999_999, 1_000_000, 2_000_000, 2_499_999, 2_500_000];
        let read = looks.map(|now_us| scene.may_read(&mut bill, &client, now_us));
        assert_eq!(read, [false, false, false, false, true]);
        assert_eq!((scene.metrics.connections_held.get(), scene.metrics.held_seconds.get()), (0, 2.5));
    }

    #[test]
    fn what_one_connection_owes_its_address_holds_the_next_one() {
        let mut scene = Scene::new();
        scene.settings.tiers.anonymous.bytes = Rate::UNLIMITED;
        // A wrong AUTH in a millisecond, and 100 at once.
        let auth_us = (Act::Auth.ns() + Act::Rejected.ns()) / 1_000;
        scene.settings.rates.cpu_us = Rate::new(auth_us as u32 * 1_000, auth_us as u32 * 100);
        for _ in 0..100 {
            let (client, mut bill) = (scene.client(), Bill::default());
            assert!(scene.may_read(&mut bill, &client, 0));
            bill.add(Act::Auth);
            bill.add(Act::Rejected);
            bill.end(&client, &scene.settings, &scene.metrics, 0);
        }
        let (client, mut bill) = (scene.client(), Bill::default());
        bill.add(Act::Auth);
        bill.add(Act::Rejected);
        assert_eq!(scene.end_turn(&mut bill, &client, 0), Some(1_000));
        let (client, mut bill) = (scene.client(), Bill::default());
        assert_eq!([0, 999, 1_000].map(|now_us| scene.may_read(&mut bill, &client, now_us)), [false, false, true]);
    }

    #[test]
    fn a_larger_debt_refuses_what_is_read_once_a_second_and_a_still_larger_one_closes() {
        let scene = Scene::new();
        let (client, mut bill) = (scene.client(), Bill::default());
        bill.add_read(61_000);
        bill.charge(&client, &scene.settings, 0);
        let refused =
            |seconds| Some(Reason::new(Prefix::RateLimited, format!("too many bytes; try again in {seconds} s")));
        assert!(scene.may_read(&mut bill, &client, 0));
        assert_eq!((bill.refusal().cloned(), bill.is_overdrawn()), (refused(60), false));
        bill.add_read(1);
        assert_eq!(scene.end_turn(&mut bill, &client, 0), Some(1_000_000));
        assert!(bill.refusal().is_none());
        assert_eq!(scene.end_turn(&mut bill, &client, 500_000), Some(500_000), "a turn of sending prolongs nothing");
        bill.add_read(2_000);
        bill.charge(&client, &scene.settings, 1_000_000);
        assert!(scene.may_read(&mut bill, &client, 1_000_000));
        assert_eq!((bill.refusal().cloned(), bill.is_overdrawn()), (refused(62), true));
    }
}
