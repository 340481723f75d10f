//! Wakes at a moment with microsecond precision, for open-loop sending; and says durations.
//!
//! It must never be replaced by the runtime's timer alone: that one rounds to a millisecond, which would be counted as
//! the relay's latency.

use std::time::{Duration, Instant};

use anyhow::Result;
#[cfg(target_os = "linux")]
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A wake-up clock.
pub struct Pacer {
    #[cfg(target_os = "linux")]
    timer: tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>,
}

#[cfg(target_os = "linux")]
impl Pacer {
    /// Creates a timer (timerfd_create(2)); call it inside the runtime.
    ///
    /// # Errors
    /// If the system gives no timer.
    pub fn new() -> Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // SAFETY: the descriptor is open, and it stays so as long as the AsyncFd that owns it.
        let timer = unsafe { tokio::io::unix::AsyncFd::register(timer)? };
        Ok(Self { timer })
    }

    /// Returns at `moment`, or at once if it has passed.
    pub async fn until(&self, moment: Instant) {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let value = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let setting = Itimerspec { it_interval: Timespec::default(), it_value: value };
        if timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &setting).is_err() {
            tokio::time::sleep(left).await;
            return;
        }
        while let Ok(mut guard) = self.timer.readable().await {
            let read = rustix::io::read(self.timer.get_ref(), &mut [0; 8]);
            guard.clear_ready();
            if read == Ok(8) {
                return;
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Pacer {
    /// Falls back to the runtime's timer.
    ///
    /// # Errors
    /// Never.
    pub fn new() -> Result<Self> {
        Ok(Self {})
    }

    /// Returns at `moment`, up to a millisecond late.
    pub async fn until(&self, moment: Instant) {
        tokio::time::sleep_until(moment.into()).await;
    }
}

/// When each of a series of sends is meant to happen.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The first one.
    pub start: Instant,
    /// Sends per second; must be above 0.
    pub rate: f64,
}

impl Schedule {
    /// The moment of send `number`, counted from 0.
    pub fn moment(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number as f64 / self.rate)
    }
}

/// A duration in words.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_pacer_never_wakes_early() {
        let pacer = Pacer::new().expect("a timer");
        for micros in [0, 200, 1500] {
            let moment = Instant::now() + Duration::from_micros(micros);
            pacer.until(moment).await;
            assert!(Instant::now() >= moment);
        }
    }

    #[test]
    fn a_schedule_does_not_drift() {
        let start = Instant::now();
        let schedule = Schedule { start, rate: 3.0 };
        assert_eq!(schedule.moment(3_000_000) - start, Duration::from_secs(1_000_000));
    }
}
