//! Whether an io thread may read from the store now.
//!
//! A scan that finds pages of the store on disk and not in memory takes as long as the disk. After one such, all scans
//! go to the readers for [`COLD_US`]: of a store larger than memory, an io thread reads from disk once in that time.

use std::cell::Cell;

/// Microseconds for which nothing is read here after a page came from disk.
const COLD_US: u64 = 1_000_000;

/// A slice that was faster read nothing from a disk, which takes 50 µs at best: most are not asked.
const SUSPECT_US: u64 = 50;

/// What an io thread knows of the disk.
#[derive(Default)]
pub struct Cold {
    /// Page faults of this thread that waited for a disk, when they were looked at last.
    faults: Cell<u64>,
    until_us: Cell<u64>,
}

impl Cold {
    /// Whether a scan may begin on this thread.
    pub fn may_read(&self, now_us: impl FnOnce() -> u64) -> bool {
        if self.until_us.get() != 0 {
            if now_us() < self.until_us.get() {
                return false;
            }
            self.until_us.set(0);
        }
        true
    }

    /// Looks whether a scan that took `spent_us` here waited for the disk.
    pub fn look(&self, spent_us: u64, now_us: impl FnOnce() -> u64) {
        if spent_us >= SUSPECT_US {
            self.saw_faults(major_faults(), now_us);
        }
    }

    /// Notes how many faults there were by now.
    fn saw_faults(&self, faults: u64, now_us: impl FnOnce() -> u64) {
        if self.faults.replace(faults) < faults {
            self.until_us.set(now_us() + COLD_US);
        }
    }
}

/// Page faults of this thread that waited for a disk (getrusage(2)).
fn major_faults() -> u64 {
    // SAFETY: an all-zero rusage is valid, and it outlives the call, which only writes to it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    };
    usage.ru_majflt.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_page_from_disk_every_scan_goes_to_the_readers_for_a_second() {
        let cold = Cold::default();
        let fault = 5;
        cold.saw_faults(0, || 0);
        assert!(cold.may_read(|| 0));
        cold.saw_faults(fault, || 7);
        let may = [8, COLD_US + 6, COLD_US + 7, COLD_US + 8].map(|now_us| cold.may_read(|| now_us));
        assert_eq!(may, [false, false, true, true]);
        cold.saw_faults(fault, || 2 * COLD_US);
        assert!(cold.may_read(|| 2 * COLD_US), "those were seen");
    }

    #[test]
    fn the_system_counts_the_faults_of_a_thread() {
        let before = major_faults();
        assert!(major_faults() >= before);
    }
}
