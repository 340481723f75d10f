//! The `cron` thread: asks for upkeep now and then. It does none itself.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};

use super::queues::WriteCommand;

/// How often upkeep is asked for. Expired events are never served, so reaping them is not urgent.
const UPKEEP: Duration = Duration::from_secs(5);

/// Runs until `stop` is closed.
pub fn run(write: &Sender<WriteCommand>, stop: &Receiver<()>) {
    loop {
        match stop.recv_timeout(UPKEEP) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
        match write.try_send(WriteCommand::Upkeep) {
            // A full queue has better things to do; the next time will do.
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => return,
        }
    }
}
