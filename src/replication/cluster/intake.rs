//! What this node says about events of other nodes, whichever way they come, and their way to the writer.
//!
//! Signatures are checked by the caller.

use std::time::Duration;

use super::error::ClusterError;
use super::shared::Node;
use crate::metrics::NodeReceived;
use crate::nostr::{EventView, Prefix, Reason, VerifiedEvent};
use crate::pipeline::ingest::nodes::{NodeClient, NotEntered};
use crate::pipeline::now;
use crate::policy::check_from_node;

/// How long to wait for room before looking again.
const LOOK: Duration = Duration::from_millis(20);

/// Whether an event is taken, as far as that is known before its signature is checked.
///
/// # Errors
/// What becomes of it otherwise.
pub fn check(node: &Node, event: EventView<'_>) -> Result<(), NodeReceived> {
    let settings = node.serving.settings.load();
    if !node.wants(event) {
        return Err(NodeReceived::Unwanted);
    }
    let is_kept = settings.retention.check_age(event, now()).is_ok()
        && node.serving.horizons.check(&settings.retention, event, now()).is_ok();
    if is_kept && check_from_node(&settings, event).is_ok() { Ok(()) } else { Err(NodeReceived::Refused) }
}

/// What an OK means for an event of another node.
#[must_use]
pub fn outcome(accepted: bool, reason: Option<&Reason>) -> NodeReceived {
    match reason.map(|reason| reason.prefix) {
        None if accepted => NodeReceived::Stored,
        Some(Prefix::Duplicate) => NodeReceived::Duplicate,
        // The disk is full or fails: it comes again.
        None | Some(Prefix::Error) => NodeReceived::Postponed,
        Some(_) => NodeReceived::Refused,
    }
}

/// Hands events to the writer, as many as there is room for, and returns the others after a while.
///
/// # Errors
/// When the relay is stopping.
pub async fn store(client: &NodeClient, events: Vec<VerifiedEvent>) -> Result<Vec<VerifiedEvent>, ClusterError> {
    let room = client.room();
    match client.store(events) {
        Ok(()) => Ok(Vec::new()),
        Err(NotEntered::Closed) => Err(ClusterError::Stopping),
        Err(NotEntered::Full(left)) => {
            tokio::select! {
                () = room => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            Ok(left)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_disk_did_not_take_comes_again() {
        let said = |prefix| outcome(false, Some(&Reason::new(prefix, "x")));
        assert_eq!(outcome(true, None), NodeReceived::Stored);
        assert_eq!(said(Prefix::Error), NodeReceived::Postponed);
        assert_eq!(said(Prefix::Duplicate), NodeReceived::Duplicate);
        assert_eq!([Prefix::Blocked, Prefix::Invalid].map(said), [NodeReceived::Refused; 2]);
    }
}
