//! Whether an io thread may read from the store now.
//!
//! A read that finds its page on disk and not in memory waits for the disk, and every client of the thread with it.
//! After one such read the thread leaves the store alone for [`COLD_US`]: the `read` threads run all scans and the
//! writer looks events up. So with a store larger than memory, an io thread waits for the disk once per [`COLD_US`].

use std::cell::Cell;

use crate::pipeline::query::meter::Usage;

/// Microseconds without reads on this thread after one had to wait for the disk.
const COLD_US: u64 = 1_000_000;

/// A disk takes at least 50 µs. Anything faster did not wait for one, so the system is not asked.
const SUSPECT_US: u64 = 50;

/// What an io thread knows of the disk.
#[derive(Default)]
pub struct PageFaults {
    /// Page faults of this thread that had waited for a disk by the last check.
    faults: Cell<u64>,
    until_us: Cell<u64>,
}

impl PageFaults {
    /// Whether this thread may read from the store.
    pub fn may_read(&self, now_us: impl FnOnce() -> u64) -> bool {
        if self.until_us.get() != 0 {
            if now_us() < self.until_us.get() {
                return false;
            }
            self.until_us.set(0);
        }
        true
    }

    /// Checks whether a read that took `spent_us` on this thread waited for the disk.
    pub fn look(&self, spent_us: u64, now_us: impl FnOnce() -> u64) {
        if spent_us >= SUSPECT_US {
            self.saw_faults(Usage::of_this_thread().major_faults, now_us);
        }
    }

    /// Notes the number of faults so far.
    fn saw_faults(&self, faults: u64, now_us: impl FnOnce() -> u64) {
        if self.faults.replace(faults) < faults {
            self.until_us.set(now_us() + COLD_US);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_page_from_disk_every_scan_goes_to_the_readers_for_a_second() {
        let cold = PageFaults::default();
        let fault = 5;
        cold.saw_faults(0, || 0);
        assert!(cold.may_read(|| 0));
        cold.saw_faults(fault, || 7);
        let may = [8, COLD_US + 6, COLD_US + 7, COLD_US + 8].map(|now_us| cold.may_read(|| now_us));
        assert_eq!(may, [false, false, true, true]);
        cold.saw_faults(fault, || 2 * COLD_US);
        assert!(cold.may_read(|| 2 * COLD_US), "those were seen");
    }
}
