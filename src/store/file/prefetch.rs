//! Tells the CPU which memory will be needed soon. It never reads any.

/// Bytes that a CPU fetches together.
pub(in crate::store) const CACHE_LINE: usize = 64;

/// These bytes will be needed soon.
pub(in crate::store) fn prefetch(bytes: &[u8]) {
    bytes.chunks(CACHE_LINE).for_each(|line| prefetch_line(&line[0]));
}

/// The cache line in which this value begins will be needed soon.
pub(in crate::store) fn prefetch_line<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing and cannot fault; SSE is part of every x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
