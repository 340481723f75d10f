//! The agreement with systemd, without one: what it is told (sd_notify(3)) and the sockets that it passes
//! (sd_listen_fds(3)).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::notify_socket::NotifySocket;
use crate::support::relay::{Relay, TIMEOUT};
use crate::support::wire::Key;

#[test]
fn systemd_is_told_of_start_life_reload_and_stop() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("notify");
    let told = NotifySocket::bind(&path);
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "60000").env_remove("WATCHDOG_PID");
    let relay = Relay::start_by(command, dir.path(), "");
    assert_eq!(told.next(), "READY=1");
    told.wait_for_sign_of_life();
    told.wait_for_sign_of_life();

    relay.reload("[limits]\nmax_message_length = 70000\n");
    let reloading = told.next();
    let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("the word and the time");
    assert!(since.parse::<u64>().is_ok(), "{reloading}");
    assert_eq!(told.next(), "READY=1");
    assert_eq!(relay.information()["limitation"]["max_message_length"], json!(70000));

    relay.reload("nonsense");
    assert!(told.next().starts_with("RELOADING=1\n"));
    assert_eq!(told.next(), "READY=1", "a bad file changes nothing, and the relay is as ready as before");

    relay.signal("TERM");
    assert_eq!(told.next(), "STOPPING=1");
    relay.wait_for_exit();
}

/// The relay as systemd starts it with `weir.socket`: descriptor 3 is the listener.
fn activated(listener: &TcpListener) -> Command {
    let listener = listener.as_raw_fd();
    // The process number is known only in the new process; `exec` keeps it.
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_weir")]);
    let pass = move || {
        // SAFETY: dup2 and fcntl may be called between fork and exec; they touch no memory.
        let passed = unsafe { if listener == 3 { libc::fcntl(3, libc::F_SETFD, 0) } else { libc::dup2(listener, 3) } };
        if passed < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: `pass` only makes system calls that are allowed after a fork.
    unsafe { command.pre_exec(pass) };
    command
}

#[test]
fn a_relay_serves_the_socket_that_systemd_passes_and_clients_wait_while_it_restarts() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");

    let early = ask(address);
    let relay = Relay::start_by(activated(&listener), dir.path(), "");
    assert_eq!(relay.address, address, "not the address of --listen");
    assert!(answer(early).starts_with("HTTP/1.1 200"), "who came before the relay was kept waiting, not refused");
    let note = Key::named("alice").note("kept");
    relay.connect().publish(&note);
    relay.signal("TERM");
    let relay = relay.wait_for_exit();

    let between = ask(address);
    drop(relay);
    let relay = Relay::start_by(activated(&listener), dir.path(), "");
    assert!(answer(between).starts_with("HTTP/1.1 200"));
    relay.connect().finds(json!({"kinds": [1]}), &[&note]);
}

#[test]
fn a_socket_meant_for_another_process_is_left_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    let relay = Relay::start_by(command, dir.path(), "");
    assert_eq!(relay.information()["name"], json!("weir"));
}

/// Connects and asks for the information document, without waiting for an answer.
fn ask(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the backlog takes it");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    let request = "GET / HTTP/1.1\r\nHost: relay\r\nAccept: application/nostr+json\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("the request is sent");
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// What systemd calls `@resources` (`systemd-analyze syscall-filter @resources`), which the unit denies. `nice` is left
/// out: the C library makes it a `setpriority`.
const RESOURCE_CALLS: [&str; 12] = [
    "ioprio_set",
    "mbind",
    "migrate_pages",
    "move_pages",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "set_mempolicy",
    "set_mempolicy_home_node",
    "setpriority",
    "setrlimit",
];

/// Every source file below `dir`, in one text.
fn sources(dir: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(dir).expect("the sources") {
        let path = entry.expect("an entry of a directory").path();
        if path.is_dir() {
            all += &sources(&path);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            all += &std::fs::read_to_string(&path).expect("a text file");
        }
    }
    all
}

#[test]
fn the_unit_allows_the_calls_on_resources_that_the_relay_makes() {
    let unit = include_str!("../../systemd/weir.service");
    let lines = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter="));
    let allowed: Vec<&str> = lines.filter(|line| !line.starts_with('~')).flat_map(str::split_whitespace).collect();
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let made: Vec<&str> = RESOURCE_CALLS.into_iter().filter(|call| sources.contains(call)).collect();
    assert_eq!(made, ["sched_setaffinity", "setpriority", "setrlimit"]);
    let denied: Vec<&str> = made.into_iter().filter(|call| !allowed.contains(call)).collect();
    assert_eq!(denied, [""; 0]);
}
