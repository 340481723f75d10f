//! Values of the command line that replace those of a scenario file.
//!
//! It must never touch a phase that only prepares the relay.

use anyhow::{Context, Result};

use super::check::check;
use super::phase::Phase;

/// Values from the command line that replace those of the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides {
    /// `duration_s` of every phase that has one.
    pub duration_s: Option<f64>,
    /// `count` of every phase that has one.
    pub count: Option<usize>,
    /// `rate` (mixed: both rates in proportion).
    pub rate: Option<f64>,
    /// Connections (fan-out: subscribers).
    pub connections: Option<usize>,
    /// `in_flight` of every phase that has one.
    pub in_flight: Option<usize>,
}

impl Overrides {
    /// Replaces the values of one phase.
    ///
    /// # Errors
    /// If a value is out of range for the phase.
    pub fn apply(&self, phase: &mut Phase) -> Result<()> {
        override_phase(phase, self);
        check(phase).with_context(|| format!("phase {}", phase.name()))
    }
}

fn override_phase(phase: &mut Phase, overrides: &Overrides) {
    fn set<T: Copy>(field: &mut T, value: Option<T>) {
        *field = value.unwrap_or(*field);
    }
    // A count alone ends a phase that the file ends by time, and the other way round.
    let only_count = overrides.count.is_some() && overrides.duration_s.is_none();
    let duration_s = if only_count { Some(0.0) } else { overrides.duration_s };
    let count = if overrides.duration_s.is_some() && overrides.count.is_none() { Some(0) } else { overrides.count };
    match phase {
        Phase::Publish(phase) if phase.report => {
            set(&mut phase.connections, overrides.connections);
            set(&mut phase.in_flight, overrides.in_flight);
            set(&mut phase.rate, overrides.rate);
            set(&mut phase.count, overrides.count);
            set(&mut phase.duration_s, overrides.duration_s);
        }
        Phase::Publish(_) => {}
        Phase::Query(phase) => {
            set(&mut phase.connections, overrides.connections);
            set(&mut phase.in_flight, overrides.in_flight);
            set(&mut phase.rate, overrides.rate);
            set(&mut phase.count, count);
            set(&mut phase.duration_s, duration_s);
        }
        Phase::Fanout(phase) => {
            set(&mut phase.subscribers, overrides.connections);
            set(&mut phase.rate, overrides.rate);
            // A burst has no length: without its number of events it would have none.
            set(&mut phase.count, if phase.rate > 0.0 { count } else { overrides.count });
            set(&mut phase.duration_s, overrides.duration_s);
        }
        Phase::Connect(phase) => set(&mut phase.connections, overrides.connections),
        Phase::Mixed(phase) => {
            set(&mut phase.duration_s, overrides.duration_s);
            if let Some(rate) = overrides.rate {
                let factor = rate / (phase.events_per_s + phase.queries_per_s);
                phase.events_per_s *= factor;
                phase.queries_per_s *= factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::phase::{Fanout, Query};
    use super::*;

    #[test]
    fn a_length_leaves_a_burst_its_number_of_events() {
        let overrides = Overrides { duration_s: Some(1.0), ..Overrides::default() };
        let count = |rate: f64| {
            let mut phase = Phase::Fanout(Fanout { rate, count: 7, ..Fanout::default() });
            overrides.apply(&mut phase).expect("in range");
            if let Phase::Fanout(fanout) = phase { fanout.count } else { 0 }
        };
        assert_eq!((count(0.0), count(100.0)), (7, 0));
        for (name, text) in crate::scenario::BUILTIN {
            let mut scenario = crate::scenario::Scenario::parse(text).expect("built in");
            scenario.apply(&overrides).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        }
    }

    #[test]
    fn overrides_replace_what_the_file_says() {
        let shapes = [(crate::query::shape::Shape::ById, 1)].into();
        let mut phase = Phase::Query(Query { shapes, ..Query::default() });
        let overrides = Overrides { count: Some(7), connections: Some(2), ..Overrides::default() };
        overrides.apply(&mut phase).expect("in range");
        let Phase::Query(query) = &phase else { panic!("a query phase") };
        assert_eq!((query.count, query.duration_s, query.connections), (7, 0.0, 2));
    }
}
