//! A relay with lists in files.

use std::path::Path;

use crate::support::relay::Relay;

/// What a client is told whose author is denied.
pub const DENIED: &str = "blocked: the author is not welcome here";

/// A configuration with metrics and these lines.
pub fn config(lines: &str) -> String {
    format!("{lines}\n[metrics]\nlisten = \"127.0.0.1:0\"\n")
}

/// Puts a file in place of another one at once, as an operator should.
pub fn replace(file: &Path, text: impl AsRef<[u8]>) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("written");
    std::fs::rename(&new, file).expect("replaced");
}

/// How many events this rule has refused.
pub fn refused_by(relay: &Relay, rule: &str) -> u64 {
    relay.metric(&format!("weir_refused_events_total{{rule=\"{rule}\"}}"))
}

/// How many events had this outcome.
pub fn outcome(relay: &Relay, outcome: &str) -> u64 {
    relay.metric(&format!("weir_events_total{{outcome=\"{outcome}\"}}"))
}
