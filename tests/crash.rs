//! What survives when the relay is killed or stopped, or a client leaves, in the middle of a publishing storm.
//!
//! `WEIR_CRASH_ROUNDS=7500 cargo test --test crash` kills 10,000 times and more; `WEIR_CRASH_SEED` repeats a run's
//! choices.

mod support;

#[path = "support/corpus.rs"]
#[allow(dead_code)]
mod corpus;

mod crash {
    mod killed;
    mod left;
    mod stopped;
    mod storm;
}
