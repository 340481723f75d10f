//! One wake-up for many connections: what pushers ring to reach the tasks of one io thread.
//!
//! Waking a task of another thread's runtime costs a system call each. A fan-out reaches
//! hundreds of connections of one io thread, so pushers leave the tasks' wakers here and only
//! the first of them makes the system call; a task on the io thread then wakes the rest, which
//! costs no system call there. A bell may be gathering: then who need not be woken at once is
//! listed until somebody on the io thread, who keeps the time, says that it is time. It never
//! touches an outbox and never reads a clock.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// The bell of one io thread. Spawn [`Doorbell::answer`] once on that thread's runtime.
#[derive(Debug, Default)]
pub struct Doorbell {
    bell: Mutex<Bell>,
    /// How often those who were gathered have been woken; from 1 on if the bell gathers.
    round: AtomicU64,
}

#[derive(Debug, Default)]
struct Bell {
    /// Tasks to wake. Each connection is in here at most once per drain of its outbox, and once
    /// more for its close, so the bound is twice the connections of this io thread.
    waiting: Vec<Waker>,
    /// The task that answers.
    answerer: Option<Waker>,
    /// Somebody rang and nobody answered yet.
    rung: bool,
    /// Tasks to wake when it is time: each connection once in a round, or twice if it is listed while
    /// the round ends.
    gathered: Vec<Waker>,
    /// The task that waits for the first of them.
    pacer: Option<Waker>,
}

impl Doorbell {
    /// A bell that nobody answers yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A bell that also gathers: call [`Doorbell::wake_gathered`] from time to time.
    #[must_use]
    pub fn gathering() -> Self {
        Self { round: AtomicU64::new(1), ..Self::default() }
    }

    /// The round that gathers now, never the same again; `None` if this bell does not gather.
    #[must_use]
    pub fn round(&self) -> Option<u64> {
        Some(self.round.load(Ordering::Acquire)).filter(|round| *round > 0)
    }

    /// Lists `task` to be woken when the round ends.
    pub fn gather(&self, task: Waker) {
        let mut bell = self.bell();
        bell.gathered.push(task);
        let pacer = bell.pacer.take();
        drop(bell);
        if let Some(pacer) = pacer {
            pacer.wake();
        }
    }

    /// Waits until a task is listed; for one caller.
    pub async fn gathered(&self) {
        poll_fn(|cx| {
            let mut bell = self.bell();
            if bell.gathered.is_empty() {
                bell.pacer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Ends the round and wakes all who were listed in it.
    pub fn wake_gathered(&self) {
        let mut bell = self.bell();
        // Before the first of them runs: whoever is then found asleep is listed in the new round.
        self.round.fetch_add(1, Ordering::Release);
        let gathered = std::mem::take(&mut bell.gathered);
        drop(bell);
        gathered.into_iter().for_each(Waker::wake);
    }

    /// Wakes `task` soon, by way of the io thread.
    pub fn ring(&self, task: Waker) {
        let mut bell = self.bell();
        bell.waiting.push(task);
        if bell.rung {
            return;
        }
        bell.rung = true;
        let answerer = bell.answerer.clone();
        drop(bell);
        if let Some(answerer) = answerer {
            answerer.wake();
        }
    }

    /// Answers the bell for ever; the future is the io thread's to run and to drop.
    pub async fn answer(&self) -> Infallible {
        let mut spare = Vec::new();
        poll_fn(|cx| self.poll_answer(cx, &mut spare)).await
    }

    fn poll_answer(&self, cx: &mut Context<'_>, spare: &mut Vec<Waker>) -> Poll<Infallible> {
        let mut bell = self.bell();
        if !bell.answerer.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
            bell.answerer = Some(cx.waker().clone());
        }
        bell.rung = false;
        std::mem::swap(&mut bell.waiting, spare);
        drop(bell);
        spare.drain(..).for_each(Waker::wake);
        Poll::Pending
    }

    fn bell(&self) -> MutexGuard<'_, Bell> {
        self.bell.lock().expect("nothing panics while it holds the bell")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Count {
        fn get(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn many_rings_wake_the_answerer_once_and_then_every_task() {
        let (answerer, task) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let doorbell = Doorbell::new();
        let mut spare = Vec::new();
        // Rung before anybody answers: kept until the first answer.
        doorbell.ring(Waker::from(Arc::clone(&task)));
        let waker = Waker::from(Arc::clone(&answerer));
        let mut cx = Context::from_waker(&waker);
        assert!(doorbell.poll_answer(&mut cx, &mut spare).is_pending());
        assert_eq!((answerer.get(), task.get()), (0, 1));

        for _ in 0..5 {
            doorbell.ring(Waker::from(Arc::clone(&task)));
        }
        assert_eq!((answerer.get(), task.get()), (1, 1));
        assert!(doorbell.poll_answer(&mut cx, &mut spare).is_pending());
        assert_eq!((answerer.get(), task.get()), (1, 6));
    }

    #[test]
    fn the_gathered_are_woken_when_their_round_ends_and_the_first_of_them_wakes_the_pacer() {
        let (pacer, task) = (Arc::new(Count::default()), Arc::new(Count::default()));
        assert_eq!(Doorbell::new().round(), None);
        let doorbell = Doorbell::gathering();
        let waker = Waker::from(Arc::clone(&pacer));
        let mut cx = Context::from_waker(&waker);
        let mut gathered = std::pin::pin!(doorbell.gathered());
        assert!(gathered.as_mut().poll(&mut cx).is_pending());
        let round = doorbell.round();
        for _ in 0..3 {
            doorbell.gather(Waker::from(Arc::clone(&task)));
        }
        assert_eq!((pacer.get(), task.get()), (1, 0));
        assert!(gathered.as_mut().poll(&mut cx).is_ready());
        doorbell.wake_gathered();
        assert_eq!((pacer.get(), task.get()), (1, 3));
        assert_ne!(doorbell.round(), round);
        doorbell.wake_gathered();
        assert_eq!(task.get(), 3, "nobody is left");
    }
}
