//! What all programs of this folder have in common.

pub use libfuzzer_sys::fuzz_target;

/// The program of the target with this name. It writes the target's seeds to its corpus first.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        $crate::fuzz_target!(
            init: weir::fuzz::write_seeds($name, concat!(env!("CARGO_MANIFEST_DIR"), "/corpus")),
            |bytes: &[u8]| weir::fuzz::check($name, bytes)
        );
    };
}
