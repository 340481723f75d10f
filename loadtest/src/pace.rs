//! Wakes at a moment with microsecond precision, for open-loop sending.
//!
//! It must never be replaced by the runtime's timer alone: that one rounds to a millisecond, which would be counted as
//! the relay's latency.

use std::time::{Duration, Instant};

use anyhow::Result;

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
        use std::os::fd::FromRawFd;
        // SAFETY: the call takes no pointers; a non-negative result is a descriptor that nobody else owns.
        let timer = unsafe {
            let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
            if fd < 0 {
                return Err(std::io::Error::last_os_error().into());
            }
            std::os::fd::OwnedFd::from_raw_fd(fd)
        };
        // SAFETY: the descriptor is open, and it stays so as long as the AsyncFd that owns it.
        let timer = unsafe { tokio::io::unix::AsyncFd::register(timer)? };
        Ok(Self { timer })
    }

    /// Returns at `moment`, or at once if it has passed.
    pub async fn until(&self, moment: Instant) {
        use std::os::fd::AsRawFd;
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let value = libc::timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = libc::itimerspec { it_interval: zero, it_value: value };
        let fd = self.timer.as_raw_fd();
        // SAFETY: `setting` outlives the call, and a null pointer for the old setting is allowed (timerfd_settime(2)).
        let armed = unsafe { libc::timerfd_settime(fd, 0, &raw const setting, std::ptr::null_mut()) == 0 };
        if !armed {
            tokio::time::sleep(left).await;
            return;
        }
        while let Ok(mut guard) = self.timer.readable().await {
            let mut count = [0u8; 8];
            // SAFETY: the buffer is as long as the length says.
            let read = unsafe { libc::read(fd, count.as_mut_ptr().cast(), count.len()) };
            if read == 8 {
                guard.clear_ready();
                return;
            }
            guard.clear_ready();
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
