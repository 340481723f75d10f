//! `weir sync` on the built binary: between two relays of weir's, and against peers that misbehave; and the feed of
//! changes.

mod support;

mod replication {
    mod auth;
    mod changes;
    mod ends;
    mod hostile;
    mod levels;
    mod lost;
    mod peer;
    mod refused;
    mod router;
    mod scene;
    mod tls;
    mod ways;
}
