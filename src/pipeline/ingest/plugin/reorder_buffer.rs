//! Keeps the events of one connection in their order while a plugin judges them out of order.
//!
//! An event is let go once it and all earlier ones of its connection are decided. Pure. Every event that passed the
//! gate has one place at most.

use std::collections::VecDeque;

use hashbrown::HashMap;

/// The place of an event among those of its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OrderPosition {
    connection: usize,
    number: u64,
}

/// The events of one connection that have not been let go, from number `first` on.
struct Line<T> {
    first: u64,
    decided: VecDeque<Option<T>>,
}

/// The events of each connection that wait for earlier ones, with what was decided on them.
pub struct ReorderBuffer<T> {
    lines: HashMap<usize, Line<T>>,
}

impl<T> ReorderBuffer<T> {
    /// Without any event.
    pub fn new() -> Self {
        Self { lines: HashMap::new() }
    }

    /// Whether every event has been let go.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Gives the next event of a connection its place. `connection` names it for as long as it has events here.
    pub fn enter(&mut self, connection: usize) -> OrderPosition {
        let line =
            self.lines.entry(connection).or_insert_with(|| Line { first: 0, decided: VecDeque::with_capacity(1) });
        let number = line.first + line.decided.len() as u64;
        line.decided.push_back(None);
        OrderPosition { connection, number }
    }

    /// Notes what becomes of an event, and lets go all that wait for nothing any more, in their order.
    ///
    /// # Panics
    /// When the event was let go already.
    pub fn decide(&mut self, place: OrderPosition, decided: T, mut let_go: impl FnMut(T)) {
        let line = self.lines.get_mut(&place.connection).expect("an event that is not decided has a line");
        let at = place.number.checked_sub(line.first).and_then(|at| line.decided.get_mut(at as usize));
        *at.expect("an event is decided once") = Some(decided);
        while let Some(Some(_)) = line.decided.front() {
            line.first += 1;
            line.decided.pop_front().flatten().into_iter().for_each(&mut let_go);
        }
        if line.decided.is_empty() {
            self.lines.remove(&place.connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_event_waits_for_earlier_ones_of_its_connection_and_for_no_other() {
        let mut order = ReorderBuffer::new();
        let [a, b] = [order.enter(1), order.enter(1)];
        let other = order.enter(2);
        let gone = |order: &mut ReorderBuffer<char>, place, what| {
            let mut gone = String::new();
            order.decide(place, what, |what| gone.push(what));
            gone
        };
        assert_eq!(gone(&mut order, b, 'b'), "");
        assert_eq!(gone(&mut order, other, 'o'), "o");
        let c = order.enter(1);
        assert_eq!(gone(&mut order, a, 'a'), "ab");
        assert_eq!(gone(&mut order, c, 'c'), "c");
        assert!(order.is_empty());
        let again = order.enter(1);
        assert_eq!(gone(&mut order, again, 'd'), "d");
    }

    proptest! {
        #[test]
        fn every_event_is_let_go_once_and_in_the_order_of_its_connection(
            connections in proptest::collection::vec(0..4_usize, 1..60), seed in any::<u64>()
        ) {
            let mut order = ReorderBuffer::new();
            let mut open: Vec<_> = connections.iter().enumerate().map(|(n, c)| (order.enter(*c), (*c, n))).collect();
            let (mut gone, mut at) = (Vec::new(), seed);
            while !open.is_empty() {
                at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let (place, what) = open.swap_remove((at >> 33) as usize % open.len());
                order.decide(place, what, |what| gone.push(what));
            }
            prop_assert!(order.is_empty());
            prop_assert_eq!(gone.len(), connections.len());
            for connection in 0..4 {
                prop_assert!(gone.iter().filter(|(c, _)| *c == connection).is_sorted());
            }
        }
    }
}
