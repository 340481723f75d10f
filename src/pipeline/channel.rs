//! The bounded queue between two threads: a mutex, a ring and two condition variables.
//!
//! crossbeam's receivers yield the CPU many times before they sleep. On a machine with few cores that takes time from
//! threads that have work: 14 % of the relay's CPU with one event at a time. Here a receiver sleeps at once, and a
//! sender wakes one only if it sleeps.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::allocator;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard};

/// A queue of at most `bound` entries; any number of senders and receivers.
///
/// # Panics
/// When `bound` is 0.
#[must_use]
pub fn channel<T>(bound: usize) -> (Sender<T>, Receiver<T>) {
    assert!(bound > 0, "a queue that holds nothing can carry nothing");
    let state = State { queue: VecDeque::new(), senders: 1, receivers: 1, sleeping: 0, blocked: 0 };
    let inner = Arc::new(Inner { bound, state: Mutex::new(state), filled: Condvar::new(), emptied: Condvar::new() });
    (Sender(Arc::clone(&inner)), Receiver(inner))
}

struct Inner<T> {
    bound: usize,
    state: Mutex<State<T>>,
    /// An entry was put in, or the last sender was dropped.
    filled: Condvar,
    /// An entry was taken out, or the last receiver was dropped.
    emptied: Condvar,
}

struct State<T> {
    queue: VecDeque<T>,
    senders: usize,
    receivers: usize,
    /// Receivers that sleep until `filled`.
    sleeping: usize,
    /// Senders that sleep until `emptied`.
    blocked: usize,
}

impl<T> Inner<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("nothing panics while it holds a queue")
    }

    fn put(&self, mut state: MutexGuard<'_, State<T>>, value: T) {
        state.queue.push_back(value);
        let wake = state.sleeping > 0;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }

    fn take(&self, mut state: MutexGuard<'_, State<T>>) -> Option<T> {
        let value = state.queue.pop_front()?;
        let wake = state.blocked > 0;
        drop(state);
        if wake {
            self.emptied.notify_one();
        }
        Some(value)
    }
}

/// Puts entries in. The queue closes when the last one is dropped.
pub struct Sender<T>(Arc<Inner<T>>);

/// Takes entries out. Sending fails once the last one is dropped.
pub struct Receiver<T>(Arc<Inner<T>>);

/// Tells how many entries wait. It counts as neither a sender nor a receiver.
pub struct Depth<T>(Arc<Inner<T>>);

impl<T> Clone for Depth<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Puts entries in without keeping the queue open.
pub struct WeakSender<T>(Arc<Inner<T>>);

impl<T> WeakSender<T> {
    /// As [`Sender::try_send`]; a queue that no other sender keeps open is closed.
    ///
    /// # Errors
    /// The value, when the queue is full or closed.
    pub fn try_send(&self, value: T) -> Result<(), SendError<T>> {
        let state = self.0.state();
        if state.senders == 0 || state.receivers == 0 {
            return Err(SendError::Closed(value));
        }
        if state.queue.len() >= self.0.bound {
            return Err(SendError::Full(value));
        }
        self.0.put(state, value);
        Ok(())
    }
}

impl<T> Depth<T> {
    /// Entries that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.state().queue.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why an entry was not put in; it comes back.
#[derive(Debug, PartialEq, Eq)]
pub enum SendError<T> {
    /// The queue is full.
    Full(T),
    /// Nobody receives any more.
    Closed(T),
}

/// Why nothing was taken out.
#[derive(Debug, PartialEq, Eq)]
pub enum RecvError {
    /// Nothing came in time.
    Timeout,
    /// Nothing is left and nobody sends any more.
    Closed,
}

impl<T> Sender<T> {
    /// Puts `value` in, waiting while the queue is full.
    ///
    /// # Errors
    /// The value, when nobody receives any more.
    pub fn send(&self, value: T) -> Result<(), T> {
        let mut state = self.0.state();
        while state.receivers > 0 && state.queue.len() >= self.0.bound {
            state.blocked += 1;
            state = self.0.emptied.wait(state).expect("nothing panics while it holds a queue");
            state.blocked -= 1;
        }
        if state.receivers == 0 {
            return Err(value);
        }
        self.0.put(state, value);
        Ok(())
    }

    /// Puts `value` in if there is room; never waits.
    ///
    /// # Errors
    /// The value, when the queue is full or nobody receives any more.
    pub fn try_send(&self, value: T) -> Result<(), SendError<T>> {
        let state = self.0.state();
        if state.receivers == 0 {
            return Err(SendError::Closed(value));
        }
        if state.queue.len() >= self.0.bound {
            return Err(SendError::Full(value));
        }
        self.0.put(state, value);
        Ok(())
    }

    /// Whether a receiver sleeps because nothing waits: every earlier entry has been taken and dealt with.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let state = self.0.state();
        state.sleeping > 0 && state.queue.is_empty()
    }

    /// A sender that does not keep the queue open.
    #[must_use]
    pub fn downgrade(&self) -> WeakSender<T> {
        WeakSender(Arc::clone(&self.0))
    }

    /// How many entries wait, for metrics.
    #[must_use]
    pub fn depth(&self) -> Depth<T> {
        Depth(Arc::clone(&self.0))
    }
}

impl<T> Receiver<T> {
    /// A new sender. A receiver that hands out all senders learns when the last of them is dropped.
    #[must_use]
    pub fn sender(&self) -> Sender<T> {
        self.0.state().senders += 1;
        Sender(Arc::clone(&self.0))
    }

    /// Takes the oldest entry, waiting for one; `None` when none is left and nobody sends any more.
    #[must_use]
    pub fn recv(&self) -> Option<T> {
        allocator::collect_if_due();
        let mut state = self.0.state();
        while state.queue.is_empty() && state.senders > 0 {
            state.sleeping += 1;
            state = allocator::wait(&self.0.filled, &self.0.state, state);
            state.sleeping -= 1;
        }
        self.0.take(state)
    }

    /// Takes the oldest entry, waiting for one no longer than `timeout`.
    ///
    /// # Errors
    /// When nothing came, or can come any more.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        let deadline = Instant::now() + timeout;
        allocator::collect_if_due();
        let mut state = self.0.state();
        while state.queue.is_empty() && state.senders > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(RecvError::Timeout);
            }
            state.sleeping += 1;
            state = self.0.filled.wait_timeout(state, left).expect("nothing panics while it holds a queue").0;
            state.sleeping -= 1;
        }
        self.0.take(state).ok_or(RecvError::Closed)
    }

    /// Takes the oldest entry if there is one; never waits.
    #[must_use]
    pub fn try_recv(&self) -> Option<T> {
        self.0.take(self.0.state())
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.state().queue.is_empty()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state().senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.state().receivers += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.senders -= 1;
        if state.senders == 0 {
            drop(state);
            self.0.filled.notify_all();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.receivers -= 1;
        if state.receivers == 0 {
            // Entries that nobody will take are dropped outside of the lock: they may hold senders of this queue.
            let left = std::mem::take(&mut state.queue);
            drop(state);
            drop(left);
            self.0.emptied.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_gives_the_entry_back_and_takes_it_once_there_is_room() {
        let (tx, rx) = channel(2);
        assert_eq!((tx.try_send(1), tx.try_send(2), tx.try_send(3)), (Ok(()), Ok(()), Err(SendError::Full(3))));
        assert_eq!(rx.try_recv(), Some(1));
        assert_eq!((tx.try_send(3), tx.depth().len()), (Ok(()), 2));
        assert_eq!([rx.try_recv(), rx.try_recv(), rx.try_recv()], [Some(2), Some(3), None]);
    }

    #[test]
    fn a_closed_queue_is_emptied_first_and_then_says_so() {
        let (tx, rx) = channel(2);
        let second = tx.clone();
        assert_eq!(tx.send(1), Ok(()));
        drop(tx);
        assert_eq!(second.send(2), Ok(()));
        let depth = second.depth();
        drop(second);
        assert_eq!([rx.recv(), rx.recv(), rx.recv()], [Some(1), Some(2), None]);
        assert_eq!(rx.recv_timeout(Duration::from_secs(60)), Err(RecvError::Closed));
        assert!(depth.is_empty());

        let (tx, rx) = channel(1);
        drop(rx);
        assert_eq!((tx.send(1), tx.try_send(2)), (Err(1), Err(SendError::Closed(2))));
    }

    #[test]
    fn a_queue_is_awaited_while_its_receiver_sleeps_and_no_longer_once_something_is_put_in() {
        let (tx, rx) = channel(2);
        assert!(!tx.is_awaited(), "nobody has asked yet");
        let receiver = std::thread::spawn(move || rx.recv());
        while !tx.is_awaited() {
            std::thread::yield_now();
        }
        tx.send(1).expect("received");
        assert!(!tx.is_awaited());
        assert_eq!(receiver.join().expect("no panic"), Some(1));
    }

    #[test]
    fn nothing_in_time_is_a_timeout() {
        let (_tx, rx) = channel::<u8>(1);
        assert_eq!(rx.recv_timeout(Duration::ZERO), Err(RecvError::Timeout));
    }

    #[test]
    fn a_receiver_that_hands_out_senders_learns_when_they_are_gone() {
        let (_, rx) = channel(1);
        assert_eq!(rx.recv(), None::<u8>);
        let tx = rx.sender();
        assert_eq!((tx.send(1), rx.recv()), (Ok(()), Some(1)));
        drop(tx);
        assert_eq!(rx.recv(), None);
    }

    #[test]
    fn a_weak_sender_keeps_no_queue_open() {
        let (tx, rx) = channel(1);
        let weak = tx.downgrade();
        assert_eq!((weak.try_send(1), weak.try_send(2)), (Ok(()), Err(SendError::Full(2))));
        assert_eq!(rx.recv(), Some(1));
        drop(tx);
        assert_eq!((weak.try_send(3), rx.recv()), (Err(SendError::Closed(3)), None));
    }

    #[test]
    fn many_senders_and_receivers_carry_every_entry_exactly_once() {
        const EACH: usize = 10_000;
        let (tx, rx) = channel(3);
        let senders: Vec<_> = (0..4)
            .map(|sender| {
                let tx = tx.clone();
                std::thread::spawn(move || (0..EACH).for_each(|n| tx.send(sender * EACH + n).expect("received")))
            })
            .collect();
        drop(tx);
        let receivers: Vec<_> = (0..3)
            .map(|_| {
                let rx = rx.clone();
                std::thread::spawn(move || std::iter::from_fn(|| rx.recv()).collect::<Vec<_>>())
            })
            .collect();
        drop(rx);
        senders.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let mut all: Vec<usize> = receivers.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..4 * EACH));
    }

    #[test]
    fn a_sender_that_waits_for_room_is_let_go_when_the_receiver_leaves() {
        let (tx, rx) = channel(1);
        tx.send(1).expect("received");
        let waiting = std::thread::spawn(move || tx.send(2));
        drop(rx);
        assert_eq!(waiting.join().expect("no panic"), Err(2));
    }
}
