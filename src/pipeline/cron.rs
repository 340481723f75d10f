//! The `cron` thread: asks for upkeep now and then. It does none itself.

use std::time::Duration;

use super::channel::{Receiver, RecvError, SendError, Sender};
use super::queues::WriteCommand;

/// How often upkeep is asked for. Expired events are never served, so reaping them is not urgent.
const UPKEEP: Duration = Duration::from_secs(5);

/// Runs until `stop` is closed.
pub fn run(write: &Sender<WriteCommand>, stop: &Receiver<()>) {
    loop {
        match stop.recv_timeout(UPKEEP) {
            Err(RecvError::Timeout) => {}
            Ok(()) | Err(RecvError::Closed) => return,
        }
        match write.try_send(WriteCommand::Upkeep) {
            // A full queue has better things to do; the next time will do.
            Ok(()) | Err(SendError::Full(_)) => {}
            Err(SendError::Closed(_)) => return,
        }
    }
}
