//! Clients that leave without waiting for an answer: what reached the machine is stored.

use std::collections::BTreeSet;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use super::storm::connect;
use crate::support::relay::{Relay, TIMEOUT};
use crate::support::wire::{Key, Signed, now};

/// Far more than the relay takes from one connection before it answers some.
const EVENTS: u64 = 3000;

/// Sends many events at once and has `leave` end the connection, without reading a byte; what it
/// gives back is kept until the end. All must be stored.
fn all_are_stored<Kept>(name: &str, leave: impl FnOnce(WebSocket<TcpStream>) -> Kept) {
    let relay = Relay::start("");
    let key = Key::named(name);
    let at = now();
    let events: Vec<Signed> = (0..EVENTS).map(|n| key.event(1, at - n, json!([]), &format!("{name} {n}"))).collect();
    let mut watcher = relay.connect();
    let (stored, _) = watcher.open("watch", &[json!({"authors": [key.hex], "limit": 0})]);
    assert_eq!(stored, Vec::<String>::new());

    let mut socket = connect(relay.address);
    for event in &events {
        socket.write(Message::text(event.message())).expect("the message is written");
    }
    socket.flush().expect("the messages are sent");
    let _kept = leave(socket);

    let mut missing: BTreeSet<String> = events.iter().map(|event| event.frame("watch")).collect();
    while !missing.is_empty() {
        let frame = watcher.next();
        assert!(missing.remove(&frame), "each once: {frame}");
    }
    watcher.counts(json!({"authors": [key.hex]}), EVENTS);
}

/// Waits until the other side's kernel has everything; what is still on this side when a socket is closed with unread
/// input is lost to TCP, not to the relay.
fn wait_until_sent(socket: &TcpStream) {
    let end = Instant::now() + TIMEOUT;
    loop {
        let mut unsent: libc::c_int = 0;
        // SAFETY: the descriptor is open as long as `socket` lives, and TIOCOUTQ writes one int.
        let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unsent) };
        assert_eq!(asked, 0, "{}", std::io::Error::last_os_error());
        if unsent == 0 {
            return;
        }
        assert!(Instant::now() < end, "{unsent} bytes are not taken");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn events_before_a_close_frame_are_stored() {
    all_are_stored("closes", |mut socket| {
        socket.close(None).expect("the close frame is sent");
        wait_until_sent(socket.get_ref());
    });
}

#[test]
fn events_before_the_end_of_a_half_closed_connection_are_stored() {
    all_are_stored("half-closes", |socket| {
        socket.get_ref().shutdown(Shutdown::Write).expect("the end is sent");
        socket
    });
}

#[test]
fn events_before_a_reset_are_stored() {
    all_are_stored("is gone", |socket| wait_until_sent(socket.get_ref()));
}
