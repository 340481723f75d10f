//! Ctrl-C: the first ends the phase in order, the second ends it at once.
//!
//! It must never end the process: the phases that are finished have a report to come. And it must never miss one: it
//! listens from the first phase to the last.

use std::rc::Rc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::progress::Stop;

/// Sets `stop` at the first interrupt and notifies at the second; call it inside the runtime, once per run.
pub fn watch(stop: &Rc<Stop>) -> Rc<Notify> {
    let (stop, second) = (stop.clone(), Rc::new(Notify::new()));
    let notify = second.clone();
    // Without a handler the system ends the process, and there is nothing to wait for.
    if let Ok(mut interrupts) = signal(SignalKind::interrupt()) {
        tokio::task::spawn_local(async move {
            while interrupts.recv().await.is_some() {
                if stop.is_set() {
                    return notify.notify_one();
                }
                eprintln!("ending the phase; press Ctrl-C again to end at once");
                stop.set();
            }
        });
    }
    second
}
