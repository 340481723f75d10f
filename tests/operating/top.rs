//! `weir top`: what scripts and terminals get, and what a hostile client of the local socket does not.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use crate::support::relay::{Relay, TIMEOUT};
use crate::support::wire::Key;

fn top(relay: &Relay, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["top", "--data"]).arg(relay.data()).args(arguments).output().expect("the binary runs")
}

/// A conversation on the local socket.
struct Local(BufReader<UnixStream>);

impl Local {
    fn connect(relay: &Relay) -> Self {
        let stream = UnixStream::connect(relay.data().join("admin.sock")).expect("the socket is there");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        Self(BufReader::new(stream))
    }

    fn ask(&mut self, request: &str) -> Value {
        self.0.get_mut().write_all(format!("{request}\n").as_bytes()).expect("it is sent");
        let mut answer = String::new();
        self.0.read_line(&mut answer).expect("an answer");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }
}

#[test]
fn scripts_get_figures_of_what_the_relay_does() {
    let relay = Relay::start("[pipeline]\ncommit_interval_ms = 0\n");
    let alice = Key::named("alice");
    let mut client = relay.connect();
    client.open("s", &[json!({"kinds": [1]})]);
    let before = top(&relay, &["--once", "--json"]);
    assert!(before.status.success(), "{}", String::from_utf8_lossy(&before.stderr));
    let figures: Value = std::thread::scope(|scope| {
        let looking = scope.spawn(|| top(&relay, &["--once", "--json", "--interval", "2"]));
        let notes: Vec<_> = (0..40).map(|number| alice.note(&number.to_string())).collect();
        let mut publisher = relay.connect();
        let mut sent = notes.iter();
        while !looking.is_finished() {
            match sent.next() {
                Some(note) => publisher.publish(note),
                None => std::thread::yield_now(),
            }
        }
        serde_json::from_slice(&looking.join().expect("it ends").stdout).expect("JSON")
    });
    let names: Vec<&str> = figures.as_object().expect("an object").keys().map(String::as_str).collect();
    let expected = [
        "connections",
        "interval_s",
        "latencies",
        "now",
        "pid",
        "queues",
        "rates",
        "refusals",
        "slow_queries",
        "version",
    ];
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    assert_eq!(figures["pid"], json!(relay.pid()));
    assert_eq!((&figures["now"]["connections"], &figures["now"]["subscriptions"]), (&json!(2.0), &json!(1.0)));
    let connections = figures["connections"].as_array().expect("a list");
    assert_eq!(
        connections.iter().map(|one| one["address"].clone()).collect::<Vec<_>>(),
        [json!("127.0.0.1"), json!("127.0.0.1")]
    );
    let queues =
        figures["queues"].as_array().expect("a list").iter().map(|one| one["queue"].clone()).collect::<Vec<_>>();
    assert_eq!(queues, ["ingest", "live", "plugin", "scans", "verify", "write"]);
    let printed = String::from_utf8(top(&relay, &["--once"]).stdout).expect("text");
    assert!(printed.starts_with(&format!("weir {}  process {}", env!("CARGO_PKG_VERSION"), relay.pid())), "{printed}");
    assert!(!printed.contains('\u{1b}'), "a picture for scripts has no escapes");
}

#[test]
fn a_connection_is_closed_by_its_number_and_by_nothing_else() {
    let relay = Relay::start("");
    let (mut first, mut second) = (relay.connect(), relay.connect());
    let mut local = Local::connect(&relay);
    let view = local.ask(r#"{"method":"view","params":[]}"#);
    let mut ids: Vec<u64> = (view["result"]["connections"].as_array().expect("a list").iter())
        .map(|one| one["id"].as_u64().expect("a number"))
        .collect();
    ids.sort_unstable();
    assert_eq!(ids.len(), 2);
    for params in ["[]", "[\"1\"]", "[-1]", "[null]", "[18446744073709551615]", "[1e3]"] {
        let answer = local.ask(&format!(r#"{{"method":"closeconnection","params":{params}}}"#));
        assert!(answer["error"].is_string(), "{params}: {answer}");
    }
    first.is_silent();
    second.is_silent();
    assert_eq!(
        local.ask(&json!({"method": "closeconnection", "params": [ids[0], "spam"]}).to_string()),
        json!({"result": true})
    );
    assert_eq!(first.closing_code(), 1008);
    second.is_silent();
    relay.wait_for_log("the operator closed a connection");
}

#[test]
fn a_hostile_client_of_the_local_socket_gets_errors_and_stops_nobody() {
    let relay = Relay::start("");
    let mut client = relay.connect();
    let mut local = Local::connect(&relay);
    for request in
        ["", "{}", "[]", "nonsense", r#"{"method":"view","params":["x"]}"#, r#"{"method":"view","params":{}}"#, "\u{0}"]
    {
        assert!(local.ask(request)["error"].is_string(), "{request:?}");
    }
    let many = local.ask(r#"{"method":"view","params":[18446744073709551615]}"#);
    assert_eq!(many["result"]["connections"].as_array().map(Vec::len), Some(1));
    // One sends without an end, and one asks and never reads.
    let mut endless = Local::connect(&relay).0.into_inner();
    let _ = endless.write_all(&vec![b'x'; 1 << 20]);
    let mut deaf = Local::connect(&relay).0.into_inner();
    deaf.set_write_timeout(Some(std::time::Duration::from_millis(200))).expect("a timeout");
    for _ in 0..10_000 {
        if deaf.write_all(b"{\"method\":\"view\",\"params\":[]}\n").is_err() {
            break;
        }
    }
    assert!(local.ask(r#"{"method":"view"}"#)["result"].is_object());
    client.publish(&Key::named("alice").note("still served"));
    // Who asks too much is told so.
    let crowd: Vec<UnixStream> =
        (0..40).filter_map(|_| UnixStream::connect(relay.data().join("admin.sock")).ok()).collect();
    client.publish(&Key::named("alice").note("and still"));
    drop(crowd);
}

#[test]
fn without_a_relay_or_a_terminal_it_says_so() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output =
        Command::new(env!("CARGO_BIN_EXE_weir")).args(["top", "--data"]).arg(dir.path()).output().expect("it runs");
    let expected = format!("weir: no relay runs on the store in {}\n", dir.path().display());
    assert_eq!((String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code()), (expected, Some(1)));
    let relay = Relay::start("");
    let output = top(&relay, &[]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "weir: standard output is not a terminal; use --once\n");
}

/// `weir top` on its own terminal.
struct OnTerminal {
    child: Child,
    terminal: std::fs::File,
    shown: Vec<u8>,
}

impl OnTerminal {
    fn start(relay: &Relay) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("it may be opened");
        let name = ptsname(&terminal, Vec::new()).expect("it has a name").into_string().expect("text");
        let size = libc::winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is open, and TIOCSWINSZ only reads the structure.
        let set = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        let open = || Stdio::from(std::fs::File::options().read(true).write(true).open(&name).expect("it opens"));
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["top", "--data"])
            .arg(relay.data())
            .env("TERM", "xterm")
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .spawn()
            .expect("the binary runs");
        Self { child, terminal: terminal.into(), shown: Vec::new() }
    }

    /// Reads what is shown until it has this text.
    fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + TIMEOUT;
        while !self.shown.windows(text.len()).any(|part| part == text.as_bytes()) {
            assert!(Instant::now() < end, "no {text:?} in {}", String::from_utf8_lossy(&self.shown));
            let mut buffer = [0; 4096];
            // The terminal is gone once the command has ended.
            let count = self.terminal.read(&mut buffer).unwrap_or_default();
            self.shown.extend_from_slice(&buffer[..count]);
        }
    }
}

#[test]
fn the_terminal_is_restored_after_a_key_and_after_a_signal() {
    const ENTERED: &str = "\u{1b}[?1049h";
    const LEFT: &str = "\u{1b}[?1049l";
    let relay = Relay::start("");
    for by_signal in [false, true] {
        let mut on_terminal = OnTerminal::start(&relay);
        on_terminal.wait_for(ENTERED);
        on_terminal.wait_for("queues");
        if by_signal {
            kill_process(Pid::from_child(&on_terminal.child), Signal::TERM).expect("it runs");
        } else {
            on_terminal.terminal.write_all(b"q").expect("a key");
        }
        on_terminal.wait_for(LEFT);
        let status = on_terminal.child.wait().expect("it ends");
        assert_eq!((status.code(), status.signal()), (Some(0), None), "by signal: {by_signal}");
    }
}
