//! Wake-ups of many connections for the price of one: how pushers reach the tasks of one io thread.
//!
//! Waking a task of another thread's runtime costs a system call. A fan-out reaches hundreds of connections of one io
//! thread, so pushers leave the tasks' wakers here, and only the first of them makes the system call: it wakes one task
//! on the io thread, which wakes the others without any. Wake-ups that are not urgent may also be deferred until the io
//! thread, which keeps the time, asks for them. This module never touches an outbox and never reads a clock.

use std::convert::Infallible;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// The wake-ups of one io thread. Spawn [`Wakeups::run`] once on that thread's runtime.
#[derive(Debug, Default)]
pub struct Wakeups {
    lists: Mutex<Lists>,
    /// How often the deferred wake-ups have been sent, counted from 1; 0 if none are deferred here.
    round: AtomicU64,
}

#[derive(Debug, Default)]
struct Lists {
    /// Tasks to wake now. Each connection is listed at most once per drain of its outbox, and once more for its close,
    /// so the bound is twice the connections of this io thread.
    urgent: Vec<Waker>,
    /// The task that wakes them: see [`Wakeups::run`].
    runner: Option<Waker>,
    /// The runner was woken and has not run yet.
    is_runner_woken: bool,
    /// Tasks to wake when the round ends: each connection once in a round, or twice if it is listed while the round
    /// ends.
    deferred: Vec<Waker>,
    /// The task that waits for the first of them.
    pacer: Option<Waker>,
}

impl Wakeups {
    /// Wake-ups of which none are deferred.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wake-ups of which some are deferred: call [`Wakeups::wake_deferred`] from time to time.
    #[must_use]
    pub fn deferring() -> Self {
        Self { round: AtomicU64::new(1), ..Self::default() }
    }

    /// The current round, a number that never returns; `None` if no wake-ups are deferred here.
    #[must_use]
    pub fn round(&self) -> Option<u64> {
        Some(self.round.load(Ordering::Acquire)).filter(|round| *round > 0)
    }

    /// Lists `task` to be woken when the round ends.
    pub fn defer(&self, task: Waker) {
        let mut lists = self.lists();
        lists.deferred.push(task);
        let pacer = lists.pacer.take();
        drop(lists);
        if let Some(pacer) = pacer {
            pacer.wake();
        }
    }

    /// Waits until a task is deferred. Only one task may wait.
    pub async fn deferred(&self) {
        poll_fn(|cx| {
            let mut lists = self.lists();
            if lists.deferred.is_empty() {
                lists.pacer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Ends the round and wakes every task that was deferred in it.
    pub fn wake_deferred(&self) {
        let mut lists = self.lists();
        // Before the first of them runs: a task that is found asleep from now on belongs to the new round.
        self.round.fetch_add(1, Ordering::Release);
        let deferred = std::mem::take(&mut lists.deferred);
        drop(lists);
        deferred.into_iter().for_each(Waker::wake);
    }

    /// Wakes `task` soon, by way of the io thread.
    pub fn wake(&self, task: Waker) {
        let mut lists = self.lists();
        lists.urgent.push(task);
        if lists.is_runner_woken {
            return;
        }
        lists.is_runner_woken = true;
        let runner = lists.runner.clone();
        drop(lists);
        if let Some(runner) = runner {
            runner.wake();
        }
    }

    /// Wakes the listed tasks, for ever. The io thread runs this future and drops it.
    pub async fn run(&self) -> Infallible {
        let mut spare = Vec::new();
        poll_fn(|cx| self.poll_run(cx, &mut spare)).await
    }

    fn poll_run(&self, cx: &mut Context<'_>, spare: &mut Vec<Waker>) -> Poll<Infallible> {
        let mut lists = self.lists();
        if !lists.runner.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
            lists.runner = Some(cx.waker().clone());
        }
        lists.is_runner_woken = false;
        std::mem::swap(&mut lists.urgent, spare);
        drop(lists);
        spare.drain(..).for_each(Waker::wake);
        Poll::Pending
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().expect("nothing panics while it holds the lists")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ws::testing::Wakes;

    #[test]
    fn many_wake_ups_wake_the_runner_once_and_then_every_task() {
        let (runner, task) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let wakeups = Wakeups::new();
        let mut spare = Vec::new();
        // Woken before the runner first runs: kept until then.
        wakeups.wake(Waker::from(Arc::clone(&task)));
        let waker = Waker::from(Arc::clone(&runner));
        let mut cx = Context::from_waker(&waker);
        assert!(wakeups.poll_run(&mut cx, &mut spare).is_pending());
        assert_eq!((runner.get(), task.get()), (0, 1));

        for _ in 0..5 {
            wakeups.wake(Waker::from(Arc::clone(&task)));
        }
        assert_eq!((runner.get(), task.get()), (1, 1));
        assert!(wakeups.poll_run(&mut cx, &mut spare).is_pending());
        assert_eq!((runner.get(), task.get()), (1, 6));
    }

    #[test]
    fn deferred_tasks_are_woken_when_their_round_ends_and_the_first_of_them_wakes_the_pacer() {
        let (pacer, task) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        assert_eq!(Wakeups::new().round(), None);
        let wakeups = Wakeups::deferring();
        let waker = Waker::from(Arc::clone(&pacer));
        let mut cx = Context::from_waker(&waker);
        let mut deferred = std::pin::pin!(wakeups.deferred());
        assert!(deferred.as_mut().poll(&mut cx).is_pending());
        let round = wakeups.round();
        for _ in 0..3 {
            wakeups.defer(Waker::from(Arc::clone(&task)));
        }
        assert_eq!((pacer.get(), task.get()), (1, 0));
        assert!(deferred.as_mut().poll(&mut cx).is_ready());
        wakeups.wake_deferred();
        assert_eq!((pacer.get(), task.get()), (1, 3));
        assert_ne!(wakeups.round(), round);
        wakeups.wake_deferred();
        assert_eq!(task.get(), 3, "no task is left");
    }
}
