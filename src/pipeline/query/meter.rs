//! What a slice of a query took of its thread.
//!
//! On a busy machine a thread of low priority waits for a processor in the middle of a slice. That is not its client's
//! doing, and is not charged. Waiting for the disk is: meanwhile the thread serves nobody else.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Less is charged as it went by, since asking the system takes a microsecond.
const BRIEF: Duration = Duration::from_micros(50);

/// Since when a slice has been running, and what its thread had used by then.
pub struct Meter {
    began: Instant,
    used: Usage,
}

impl Meter {
    /// Starts measuring this thread.
    #[must_use]
    pub fn start() -> Self {
        Self { began: Instant::now(), used: Usage::of_this_thread() }
    }

    /// What this thread took since then. Call it on the thread that started.
    #[must_use]
    pub fn spent(&self) -> Duration {
        let elapsed = self.began.elapsed();
        if elapsed < BRIEF { elapsed } else { Usage::of_this_thread().since(self.used, elapsed) }
    }
}

/// What a thread has used so far: its clock, and getrusage(2) for the faults. What that tells of processors moves in
/// ticks of several milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Time on a processor.
    pub cpu: Duration,
    /// Page faults that waited for a disk.
    pub major_faults: u64,
}

impl Usage {
    /// What this thread has used.
    #[must_use]
    pub fn of_this_thread() -> Self {
        // SAFETY: an all-zero rusage is valid, and it outlives the call, which only writes to it.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
            usage
        };
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let cpu = Duration::new(cpu.tv_sec.unsigned_abs(), cpu.tv_nsec.unsigned_abs() as u32);
        Self { cpu, major_faults: usage.ru_majflt.unsigned_abs() }
    }

    /// What is charged for the time since `before`, in which `elapsed` went by.
    fn since(self, before: Self, elapsed: Duration) -> Duration {
        if self.major_faults > before.major_faults { elapsed } else { elapsed.min(self.cpu.saturating_sub(before.cpu)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_processor_is_not_charged_and_waiting_for_the_disk_is() {
        let usage = |cpu_ms, major_faults| Usage { cpu: Duration::from_millis(cpu_ms), major_faults };
        let elapsed = Duration::from_millis(9);
        assert_eq!(usage(12, 4).since(usage(10, 4), elapsed), Duration::from_millis(2));
        assert_eq!(usage(12, 5).since(usage(10, 4), elapsed), elapsed);
        assert_eq!(usage(30, 4).since(usage(10, 4), elapsed), elapsed, "two clocks differ a little");
    }

    /// A clock that moves in ticks would charge most of them nothing, and a few for all.
    #[test]
    fn every_short_slice_is_charged_what_it_took() {
        const SLICE: Duration = Duration::from_micros(300);
        for _ in 0..20 {
            let (before, meter) = (Usage::of_this_thread(), Meter::start());
            while Usage::of_this_thread().cpu < before.cpu + SLICE * 2 {
                std::hint::black_box([0_u8; 1 << 10]);
            }
            let spent = meter.spent();
            assert!(spent >= SLICE, "{spent:?}");
        }
    }

    #[test]
    fn a_thread_that_works_uses_a_processor_and_what_it_used_never_shrinks() {
        let (before, meter) = (Usage::of_this_thread(), Meter::start());
        while Usage::of_this_thread().cpu == before.cpu {
            std::hint::black_box([0_u8; 1 << 16]);
        }
        let after = Usage::of_this_thread();
        assert!(after.cpu > before.cpu && after.major_faults >= before.major_faults);
        assert!(meter.spent() > Duration::ZERO);
    }
}
