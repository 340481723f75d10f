//! The queues between threads, alone.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::explore;
use crate::pipeline::channel::{Receiver, RecvError, SendError, channel};
use crate::pipeline::fair_channel::FairChannel;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::thread;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// Never over: the explorer's clock stands still.
const LONG: Duration = Duration::from_secs(1 << 30);

fn all_of<T>(threads: Vec<thread::JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
}

#[test]
fn a_channel_carries_every_entry_once_and_tells_every_receiver_of_the_end() {
    explore(4_000, || {
        let (tx, rx) = channel(1);
        let send = |sender: u8| {
            let tx = tx.clone();
            thread::spawn(move || [sender, sender + 1].into_iter().for_each(|n| tx.send(n).expect("received")))
        };
        let senders = vec![send(10), send(20)];
        drop(tx);
        let waiting = rx.clone();
        let receivers = vec![
            thread::spawn(move || std::iter::from_fn(|| waiting.recv()).collect::<Vec<u8>>()),
            thread::spawn(move || std::iter::from_fn(|| rx.recv_timeout(LONG).ok()).collect()),
        ];
        all_of(senders);
        let received = all_of(receivers);
        for one in &received {
            assert!([10, 20].iter().all(|of| !one.ends_with(&[of + 1, *of])), "in the order of their sender: {one:?}");
        }
        let mut all = received.concat();
        all.sort_unstable();
        assert_eq!(all, [10, 11, 20, 21]);
    });
}

#[test]
fn who_waits_for_room_is_let_go_when_the_last_receiver_leaves_and_gets_its_entry_back() {
    explore(2_000, || {
        let (tx, rx) = channel(1);
        let other = rx.clone();
        let sender = thread::spawn(move || (0..3).map(|n| tx.send(n)).collect::<Vec<_>>());
        let receiver = thread::spawn(move || other.recv());
        drop(rx);
        let first = receiver.join().expect("no panic");
        let sent = sender.join().expect("no panic");
        assert_eq!((first, &sent[2]), (Some(0), &Err(2)), "the queue holds one");
        assert_eq!(sent[0], Ok(()));
    });
}

#[test]
fn a_queue_is_awaited_only_when_all_that_went_in_before_has_been_dealt_with() {
    explore(4_000, || {
        let (tx, rx): (_, Receiver<u8>) = channel(4);
        let done = Arc::new(AtomicUsize::new(0));
        let dealt = Arc::clone(&done);
        let receiver = thread::spawn(move || {
            while rx.recv().is_some() {
                dealt.fetch_add(1, Ordering::SeqCst);
            }
        });
        for put in 1..=3 {
            tx.send(0).expect("received");
            if tx.is_awaited() {
                assert_eq!(done.load(Ordering::SeqCst), put, "an event would overtake another");
            }
        }
        let weak = tx.downgrade();
        drop(tx);
        receiver.join().expect("no panic");
        assert_eq!(weak.try_send(1), Err(SendError::Closed(1)));
    });
}

#[test]
fn a_receiver_with_a_timeout_is_told_of_the_end() {
    explore(1_000, || {
        let (tx, rx) = channel::<()>(1);
        let receiver = thread::spawn(move || rx.recv_timeout(LONG));
        drop(tx);
        assert_eq!(receiver.join().expect("no panic"), Err(RecvError::Closed));
    });
}

#[test]
fn a_fair_queue_carries_every_job_once_or_gives_it_back_and_tells_every_taker_of_the_end() {
    explore(4_000, || {
        let queue = Arc::new(FairChannel::new(2));
        let take = || {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let jobs = std::iter::from_fn(|| queue.pop(1, || 0));
                jobs.map(|turn| {
                    queue.correct(turn.address, turn.slice_us, 1, 0);
                    turn.job
                })
                .collect::<Vec<u8>>()
            })
        };
        let give = |first: u8| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || [first, first + 1].into_iter().filter_map(|n| queue.push(ADDRESS, n, 0, 0)).collect())
        };
        let (takers, givers) = (vec![take(), take()], vec![give(10), give(20)]);
        let mut all: Vec<u8> = all_of::<Vec<u8>>(givers).concat();
        queue.close();
        all.extend(all_of(takers).concat());
        all.sort_unstable();
        assert_eq!(all, [10, 11, 20, 21]);
        assert!(queue.is_empty());
    });
}
