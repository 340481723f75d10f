//! How long a poll ran: without the time in which its thread waited for a processor, which is not its client's doing.
//! On a busy machine that is most of the time, and would make a light client look heavy.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A poll that took less is taken as it is. The first longer one counts as this, since reading the clock of a thread
/// costs 0.4 µs and is spared while the thread has little to do.
const SUSPECT: Duration = Duration::from_micros(100);

/// What an io thread knows of both clocks.
#[derive(Default)]
pub struct PollClock {
    /// The time when it last looked in this tick, and for how long it had run by then.
    looked: Cell<Option<(Instant, Duration)>>,
    /// A poll of this tick took long.
    suspects: Cell<bool>,
}

impl PollClock {
    /// Begins a tick, before which the thread may have slept.
    pub fn begin_tick(&self, now: Instant, is_busy: bool) {
        self.looked.set((self.suspects.take() || is_busy).then(|| (now, ran())));
    }

    /// For how long its thread waited during a poll that began at `began` and ended `now`.
    pub fn waited(&self, began: Instant, now: Instant) -> Duration {
        let took = now.saturating_duration_since(began);
        if took < SUSPECT {
            return Duration::ZERO;
        }
        self.suspects.set(true);
        let look = (now, ran());
        let waited =
            self.looked.replace(Some(look)).map_or(took.saturating_sub(SUSPECT), |before| waited_between(before, look));
        waited.min(took)
    }
}

/// The time between two looks in which the thread did not run.
fn waited_between((before, ran_before): (Instant, Duration), (now, ran): (Instant, Duration)) -> Duration {
    now.saturating_duration_since(before).saturating_sub(ran.saturating_sub(ran_before))
}

/// For how long this thread has run so far.
fn ran() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_did_not_run_between_two_looks_it_waited() {
        let (ms, before) = (Duration::from_millis, Instant::now());
        let waited = [11, 3, 0, 12].map(|ran| waited_between((before, ms(100)), (before + ms(11), ms(100 + ran))));
        assert_eq!(waited, [ms(0), ms(8), ms(11), ms(0)], "clocks differ a little");
    }

    #[test]
    fn a_long_poll_is_taken_as_a_short_one_until_the_thread_looks_at_its_clock() {
        let (running, began) = (PollClock::default(), Instant::now());
        let work = || {
            let before = ran();
            while ran() < before + SUSPECT * 2 {
                std::hint::black_box([0_u8; 1 << 12]);
            }
            Instant::now()
        };
        running.begin_tick(began, false);
        let now = work();
        assert_eq!(running.waited(began, now), now.saturating_duration_since(began).saturating_sub(SUSPECT));
        running.begin_tick(now, false);
        let later = work();
        let ran = later.saturating_duration_since(now).saturating_sub(running.waited(now, later));
        assert!(ran >= SUSPECT * 2, "{ran:?}");
        running.begin_tick(later, false);
        running.begin_tick(later, false);
        assert_eq!(running.looked.get(), None, "nothing took long");
    }
}
