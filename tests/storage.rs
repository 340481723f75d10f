//! Limits that hold: each on the built binary, which is filled in the middle of a publishing storm.
//!
//! What was acknowledged is there afterwards or was removed by a rule, refusals say why, deletions are heard, and
//! `weir check` finds nothing.

mod support;

mod storage {
    mod brake;
    mod commands;
    mod full;
    mod killed;
    mod retention;
    mod scene;
}
