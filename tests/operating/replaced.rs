//! SIGUSR2: a new process takes the listening sockets, no connection is refused, and nothing acknowledged is lost.
//!
//! `WEIR_RESTARTS=20 cargo test --test operating storm` restarts more often.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use super::notify_socket::NotifySocket;
use crate::support::relay::{Relay, TIMEOUT};
use crate::support::wire::{Key, Signed, now};

const CONFIG: &str = "[server]\ndrain_timeout_s = 1\n[metrics]\nlisten = \"127.0.0.1:0\"\n";

/// A relay whose program can be replaced, and the processes that took its place.
struct Scene {
    relay: Relay,
    /// Where the relay finds its program.
    program: PathBuf,
    /// The processes that were started to take over.
    successors: Mutex<Vec<Pid>>,
    dir: tempfile::TempDir,
}

impl Scene {
    fn start() -> Self {
        Self::start_with(|_| {})
    }

    fn start_with(more: impl FnOnce(&mut Command)) -> Self {
        Self::start_by(CONFIG, more)
    }

    fn start_by(config: &str, more: impl FnOnce(&mut Command)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let program = dir.path().join("weir");
        symlink(env!("CARGO_BIN_EXE_weir"), &program).expect("a link to the program");
        let mut command = Command::new(&program);
        more(&mut command);
        let relay = Relay::start_by(command, dir.path(), config);
        Self { relay, program, successors: Mutex::default(), dir }
    }

    fn successors(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.successors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process that serves.
    fn serving(&self) -> Pid {
        self.successors().last().copied().unwrap_or_else(|| pid(self.relay.pid()))
    }

    /// Puts a script in the place of the program. `$0.real` is the program.
    fn replace_program(&self, script: &str) {
        let real = self.program.with_file_name("weir.real");
        let _ = symlink(env!("CARGO_BIN_EXE_weir"), &real);
        std::fs::remove_file(&self.program).expect("the program is there");
        std::fs::write(&self.program, format!("#!/bin/sh\n{script}\n")).expect("a script");
        std::fs::set_permissions(&self.program, PermissionsExt::from_mode(0o755)).expect("it may be run");
    }

    /// Asks for a new process. Returns its number.
    fn ask(&self) -> Pid {
        kill_process(self.serving(), Signal::USR2).expect("the relay runs");
        let line = self.relay.wait_for_log("started a new process");
        let number = line.rsplit("pid=").next().and_then(|number| number.trim().parse().ok());
        let new = pid(number.unwrap_or_else(|| panic!("a number in {line}")));
        self.successors().push(new);
        new
    }

    /// Replaces the process that serves.
    fn restart(&self) {
        self.ask();
        self.relay.wait_for_log("the new process serves");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for successor in self.successors().iter() {
            let _ = kill_process(*successor, Signal::KILL);
        }
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("a process number")).expect("not zero")
}

/// A WebSocket, or why there is none.
fn connect(address: SocketAddr) -> Result<WebSocket<TcpStream>, String> {
    let stream = TcpStream::connect(address).map_err(|error| format!("refused: {error}"))?;
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    let shaken = tokio_tungstenite::tungstenite::client(format!("ws://{address}"), stream);
    shaken.map(|(socket, _)| socket).map_err(|error| format!("no upgrade: {error}"))
}

/// Publishes one event after the other until the connection ends; adds those that were accepted.
fn publish_until_closed(socket: &mut WebSocket<TcpStream>, key: &Key, accepted: &Mutex<Vec<Signed>>) -> Option<u16> {
    for number in 0_usize.. {
        let event = key.event(
            1,
            now(),
            json!([["t", "storm"]]),
            &format!("{number} {}", accepted.lock().expect("no panic").len()),
        );
        if socket.send(Message::text(event.message())).is_err() {
            return close_code(socket);
        }
        match socket.read() {
            Ok(Message::Text(text)) => {
                assert_eq!(text.as_str(), event.ok());
                accepted.lock().expect("no panic").push(event);
            }
            Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
            other => panic!("an OK or a close frame, not {other:?}"),
        }
    }
    unreachable!("numbers do not end")
}

/// The code of the close frame that ends the connection.
fn close_code(socket: &mut WebSocket<TcpStream>) -> Option<u16> {
    loop {
        match socket.read() {
            Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
            Ok(_) => {}
            Err(error) => panic!("a close frame, not {error}"),
        }
    }
}

/// Follows what is published, over as many connections as it takes, until `is_done` with what was seen.
fn follow(address: SocketAddr, since: u64, is_done: impl Fn(&BTreeSet<String>) -> bool, failures: &Mutex<Vec<String>>) {
    let mut seen = BTreeSet::new();
    loop {
        let mut socket = match connect(address) {
            Ok(socket) => socket,
            Err(why) => return failures.lock().expect("no panic").push(why),
        };
        let filter = json!({"#t": ["storm"], "since": since, "limit": 5000});
        if socket.send(Message::text(json!(["REQ", "s", filter]).to_string())).is_err() {
            assert_eq!(close_code(&mut socket), Some(1012));
            continue;
        }
        socket.get_ref().set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        loop {
            if is_done(&seen) {
                return;
            }
            match socket.read() {
                Ok(Message::Text(text)) => {
                    let message: Value = serde_json::from_str(&text).expect("JSON");
                    if message[0] == "EVENT" {
                        seen.insert(message[2]["id"].as_str().expect("an id").to_owned());
                    }
                }
                Ok(Message::Close(frame)) => {
                    assert_eq!(frame.map(|frame| u16::from(frame.code)), Some(1012));
                    break;
                }
                Ok(_) => {}
                Err(tokio_tungstenite::tungstenite::Error::Io(error))
                    if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("frames until a close frame, not {error}"),
            }
        }
    }
}

#[test]
fn a_storm_of_connections_and_events_meets_no_refusal_over_many_restarts() {
    let restarts: usize = std::env::var("WEIR_RESTARTS").map_or(4, |count| count.parse().expect("a number"));
    let scene = Scene::start();
    let (address, since) = (scene.relay.address, now() - 60);
    let (accepted, failures) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let (is_over, connections) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for one in 0..6 {
            let (accepted, failures, is_over, connections) = (&accepted, &failures, &is_over, &connections);
            scope.spawn(move || {
                let key = Key::named(&format!("storm {one}"));
                while !is_over.load(Ordering::Acquire) {
                    connections.fetch_add(1, Ordering::Relaxed);
                    match connect(address) {
                        // Half of them come and go, the others stay until they are closed.
                        Ok(mut socket) if one % 2 == 0 => {
                            socket.close(None).expect("it is open");
                            while socket.read().is_ok() {}
                        }
                        Ok(mut socket) => {
                            let code = publish_until_closed(&mut socket, &key, accepted);
                            assert_eq!(code, Some(1012));
                        }
                        Err(why) => failures.lock().expect("no panic").push(why),
                    }
                }
            });
        }
        for _ in 0..2 {
            let (accepted, failures, is_over) = (&accepted, &failures, &is_over);
            scope.spawn(move || {
                let has_all = |seen: &BTreeSet<String>| {
                    is_over.load(Ordering::Acquire)
                        && accepted.lock().expect("no panic").iter().all(|event: &Signed| seen.contains(&event.id))
                };
                follow(address, since, has_all, failures);
            });
        }
        for _ in 0..restarts {
            let before = accepted.lock().expect("no panic").len();
            scene.relay.until(|| accepted.lock().expect("no panic").len() >= before + 50);
            scene.restart();
        }
        is_over.store(true, Ordering::Release);
        // The publishers that stay are closed once more.
        scene.restart();
    });
    assert_eq!(failures.into_inner().expect("no panic"), [""; 0]);
    let accepted = accepted.into_inner().expect("no panic");
    let mut client = scene.relay.connect();
    for page in accepted.chunks(400) {
        let ids: Vec<&str> = page.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(client.query(&[json!({"ids": ids})]).len(), page.len(), "INV-1");
    }
    println!("{} connections, {} events over {} restarts", connections.into_inner(), accepted.len(), restarts + 1);
}

#[test]
fn the_new_process_is_the_program_that_lies_in_its_place_and_serves_both_addresses() {
    let scene = Scene::start();
    let note = Key::named("alice").note("kept");
    scene.relay.connect().publish(&note);
    scene.replace_program("touch \"$0.ran\"; exec \"$0.real\" \"$@\"");
    let config = scene.dir.path().join("weir.toml");
    std::fs::write(config, format!("{CONFIG}[info]\nname = \"newer\"\n")).expect("the configuration is written");
    let mut idle = scene.relay.connect();
    scene.restart();
    assert!(scene.dir.path().join("weir.ran").exists());
    assert_eq!(idle.closing_code(), 1012);
    assert_eq!(scene.relay.information()["name"], json!("newer"));
    assert_eq!(scene.relay.watch("/readyz"), (200, "ready\n".into()));
    scene.relay.connect().finds(json!({"kinds": [1]}), &[&note]);
}

#[test]
fn a_client_that_asks_for_something_is_sent_on_at_once_and_a_request_that_is_under_way_is_answered() {
    let scene = Scene::start();
    // One socket has sent half of its request, and the other nothing.
    let mut half = TcpStream::connect(scene.relay.address).expect("a connection");
    half.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    half.write_all(b"GET / HTTP/1.1\r\nHost: relay\r\n").expect("half a request");
    let mut upgrading = TcpStream::connect(scene.relay.address).expect("a connection");
    upgrading.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    let mut client = scene.relay.connect();
    scene.restart();
    client.send(json!(["REQ", "s", {"kinds": [1]}]).to_string());
    assert_eq!(client.closing_code(), 1012);
    half.write_all(b"Accept: application/nostr+json\r\n\r\n").expect("the rest");
    let mut answer = String::new();
    half.read_to_string(&mut answer).expect("an answer, then the end");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    upgrading
        .write_all(
            b"GET / HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .expect("the rest");
    let mut answer = Vec::new();
    upgrading.read_to_end(&mut answer).expect("an answer, then the end");
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    // The close frame: its length, 1012, and the reason.
    let close = [&[0x88, 2 + 23, 0x03, 0xf4][..], b"the relay is restarting"].concat();
    assert!(answer.ends_with(&close), "{}", String::from_utf8_lossy(&answer));
}

/// What makes a new process fail, and what the relay says of it.
const FAILURES: [(&str, &str); 5] = [
    ("exit 1", "it ended; its log has the reason"),
    ("exec \"$0.real\" serve --config /nonexistent", "it ended; its log has the reason"),
    ("read sockets; echo nonsense >&0; sleep 100", "it sent \"nonsense\" instead of \"ready\""),
    ("read sockets; echo ready >&0; read take; kill -9 $$", "it ended; its log has the reason"),
    ("read sockets; echo ready >&0; read take; echo no >&0; sleep 100", "it sent \"no\" instead of \"serving\""),
];

#[test]
fn a_new_process_that_fails_at_any_step_changes_nothing() {
    let scene = Scene::start();
    let alice = Key::named("alice");
    for (number, (script, why)) in FAILURES.into_iter().enumerate() {
        let mut client = scene.relay.connect();
        let (rows, _) = client.open("s", &[json!({"kinds": [1], "since": now() + 100 + number as u64})]);
        assert_eq!(rows, [""; 0]);
        scene.replace_program(script);
        scene.ask();
        let line = scene.relay.wait_for_log("the new process does not take over");
        assert!(line.contains(why), "{script}: {line}");
        let gone = scene.successors().pop().expect("one was asked for");
        scene.relay.until(|| test_kill_process(gone).is_err());
        // The connection is the same, and so is what is served.
        let note = alice.event(1, now() + 100 + number as u64, json!([]), script);
        client.send(note.message());
        client.expect_all([note.ok(), note.frame("s")]);
        assert_eq!(scene.relay.watch("/readyz").0, 200);
    }
    scene.replace_program("exec \"$0.real\" \"$@\"");
    scene.restart();
    assert_eq!(scene.relay.connect().query(&[json!({"kinds": [1]})]).len(), FAILURES.len());
}

#[test]
fn a_new_process_serves_when_the_old_one_is_killed_at_any_step() {
    // Before the new process is ready, and as soon as it serves.
    // Once the old one has said that it started it.
    let before = "until [ -e \"$0.said\" ]; do sleep 0.01; done; kill -9 $PPID; exec \"$0.real\" \"$@\"";
    for script in [before, "exec \"$0.real\" \"$@\""] {
        let scene = Scene::start();
        let note = Key::named("alice").note(script);
        scene.relay.connect().publish(&note);
        let old = scene.serving();
        scene.replace_program(script);
        scene.ask();
        std::fs::write(scene.program.with_file_name("weir.said"), "").expect("a file");
        scene.relay.wait_for_log("listening on");
        let _ = kill_process(old, Signal::KILL);
        let mut client = scene.relay.connect();
        client.finds(json!({"ids": [note.id]}), &[&note]);
        client.publish(&Key::named("alice").note("after"));
        assert_eq!(scene.relay.watch("/readyz").0, 200);
    }
}

#[test]
fn queries_and_connections_are_served_while_a_slow_plugin_judges_what_came_before_the_hand_over() {
    let (alice, files) = (Key::named("alice"), tempfile::tempdir().expect("a temporary directory"));
    let asked = files.path().join("asked");
    let plugin = format!("python3 {}/tests/plugins/plugin.py judge {}", env!("CARGO_MANIFEST_DIR"), asked.display());
    let config = format!("{CONFIG}[plugin]\ncommand = {}\ntimeout_ms = 3600000\n", Value::from(plugin));
    let scene = Scene::start_by(&config, |_| {});
    let relay = &scene.relay;
    let mut clients = [(); 3].map(|()| relay.connect());
    let before = alice.note("wait");
    clients[0].send(before.message());
    // The plugin judges it when there is the file `asked.go`.
    relay.until(|| asked.exists());
    scene.ask();
    relay.wait_for_log("new events wait");
    let after = alice.note("after");
    clients[1].send(after.message());
    clients[2].finds(json!({"kinds": [1]}), &[]);
    relay.connect().finds(json!({"kinds": [1]}), &[]);
    std::fs::write(asked.with_extension("go"), "").expect("a file");
    clients[0].expect(&before.ok());
    relay.wait_for_log("the new process serves");
    assert_eq!(clients[1].closing_code(), 1012, "its event was not taken");
    let mut client = relay.connect();
    client.finds(json!({"kinds": [1]}), &[&before]);
    client.publish(&after);
}

#[test]
fn a_relay_that_is_stopped_during_a_hand_over_leaves_no_process() {
    let scene = Scene::start();
    scene.replace_program("read sockets; sleep 100");
    let new = scene.ask();
    scene.relay.signal("TERM");
    scene.relay.wait_for_log("the pipeline is empty");
    scene.relay.until(|| test_kill_process(new).is_err());
}

#[test]
fn systemd_is_told_of_the_new_process_before_that_speaks() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let told = NotifySocket::bind(&dir.path().join("notify"));
    let scene = Scene::start_with(|command| {
        command.env("NOTIFY_SOCKET", dir.path().join("notify")).env("WATCHDOG_USEC", "60000000");
    });
    assert_eq!(told.next(), "READY=1");
    scene.restart();
    let new = scene.serving().as_raw_nonzero();
    assert_eq!([told.next(), told.next()], [format!("MAINPID={new}\nWATCHDOG=1"), "READY=1".into()]);
    scene.relay.wait_for_log("the pipeline is empty");
}
