//! Gives memory that nothing uses back to the system.
//!
//! mimalloc keeps what is freed until it is asked (`mi_collect`): after an attack the relay would stay as large as it was
//! made. It never touches memory in use.

use std::time::Duration;

/// How often. What is in use all the time is freed and taken again far more often, so at this interval giving it back
/// costs next to nothing: at most one page fault for each of its pages.
pub const EVERY: Duration = Duration::from_secs(5);

/// Gives back what all threads have freed for at least a second.
pub fn give_back() {
    // SAFETY: it only walks the allocator's own free memory, and may be called at any time and from any thread.
    unsafe { libmimalloc_sys::mi_collect(false) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn giving_back_leaves_what_is_in_use() {
        let kept = vec![7_u8; 1 << 20];
        drop(vec![0_u8; 8 << 20]);
        super::give_back();
        assert!(kept.iter().all(|byte| *byte == 7));
    }
}
