//! Ctrl-C: the first ends the phase in order, the second ends it at once.
//!
//! It must never end the process: the phases that are finished have a report to come.

use super::progress::Stop;

/// Sets `stop` at the first interrupt and returns at the second.
pub async fn second(stop: &Stop) {
    loop {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler the system ends the process; there is nothing to wait for here.
            std::future::pending::<()>().await;
        }
        if stop.is_set() {
            return;
        }
        eprintln!("ending the phase; press Ctrl-C again to end at once");
        stop.set();
    }
}
