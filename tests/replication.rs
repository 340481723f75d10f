//! `weir sync` on the built binary: between two relays of weir's, and against peers that misbehave.

mod support;

mod replication {
    mod auth;
    mod ends;
    mod hostile;
    mod levels;
    mod peer;
    mod refused;
    mod scene;
    mod tls;
    mod ways;
}
