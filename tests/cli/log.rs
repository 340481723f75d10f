//! Logs and messages that nobody reads, or that do not fit.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{ptsname, unlockpt};

use super::home::{Home, lines};
use super::support::event::signed;

const TIMEOUT: Duration = Duration::from_secs(60);

/// A running relay, and the addresses of its listeners for clients and metrics.
struct Relay {
    child: Child,
    clients: SocketAddr,
    metrics: SocketAddr,
}

impl Relay {
    /// Starts the relay and waits until it serves, without reading its log.
    fn start(home: &Home, stderr: impl Fn() -> Stdio) -> Self {
        for _ in 0..5 {
            let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
            let [clients, metrics] = free.map(|socket| socket.local_addr().expect("an address"));
            home.write("weir.toml", format!("[metrics]\nlisten = \"{metrics}\"\n"));
            let mut command = home.command(&["serve", "--listen", &clients.to_string(), "--config"]);
            let child = command.arg(home.path("weir.toml")).stderr(stderr()).spawn().expect("the relay starts");
            let mut relay = Self { child, clients, metrics };
            while relay.child.try_wait().expect("the child can be asked").is_none() {
                if TcpStream::connect(relay.metrics).is_ok() && TcpStream::connect(relay.clients).is_ok() {
                    return relay;
                }
            }
            // Another process may have taken one of the ports meanwhile.
        }
        panic!("the relay does not start");
    }

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("the relay serves");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer, then the end");
        answer
    }

    fn metric(&self, name: &str) -> u64 {
        let text = Self::get(self.metrics, "/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the child was not waited for");
    }

    /// Reloads the configuration, which logs one line.
    fn reload(&self, result: &str) {
        let name = format!("weir_config_reloads_total{{result=\"{result}\"}}");
        let before = self.metric(&name);
        self.signal(Signal::HUP);
        let started = Instant::now();
        while self.metric(&name) == before {
            assert!(started.elapsed() < TIMEOUT, "no reload");
        }
    }

    fn await_lost(&self, lines: u64) {
        let started = Instant::now();
        while self.metric("weir_log_lines_lost_total") < lines {
            assert!(started.elapsed() < TIMEOUT, "the lost lines are not counted");
        }
    }

    /// The exit code of the relay, which is stopping.
    fn end(&mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                return status.code();
            }
            assert!(started.elapsed() < TIMEOUT, "the relay does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Checks that the relay serves, reloads, counts the lines that it could not write, and stops in order.
    fn does_without_its_log(mut self) {
        let before = self.metric("weir_log_lines_lost_total");
        for _ in 0..3 {
            self.reload("applied");
        }
        self.await_lost(before + 3);
        assert!(Self::get(self.clients, "/").starts_with("HTTP/1.1 200 "));
        self.signal(Signal::TERM);
        assert_eq!(self.end(), Some(0));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It has ended already if the test succeeded.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_relay_serves_on_when_the_reader_of_its_log_has_gone() {
    let home = Home::new();
    let mut relay = Relay::start(&home, Stdio::piped);
    drop(relay.child.stderr.take().expect("a pipe"));
    relay.does_without_its_log();
}

#[test]
fn a_relay_serves_on_when_its_terminal_is_closed() {
    let home = Home::new();
    let main = File::options().read(true).write(true).open("/dev/ptmx").expect("there are terminals");
    unlockpt(&main).expect("the terminal can be opened");
    let name = ptsname(&main, Vec::new()).expect("a name").into_string().expect("a plain name");
    let terminal = File::options().write(true).custom_flags(libc::O_NOCTTY).open(name).expect("the terminal");
    let relay = Relay::start(&home, || terminal.try_clone().expect("a descriptor").into());
    drop(main);
    relay.does_without_its_log();
}

#[test]
fn a_relay_serves_on_when_its_log_has_no_room() {
    let home = Home::new();
    let full = || File::options().write(true).open("/dev/full").expect("Linux has /dev/full").into();
    Relay::start(&home, full).does_without_its_log();
}

#[test]
fn a_reader_of_the_log_that_stops_stops_nothing_and_is_told_what_it_missed() {
    let home = Home::new();
    let mut relay = Relay::start(&home, Stdio::piped);
    let log = relay.child.stderr.take().expect("a pipe");
    fcntl_setpipe_size(&log, 4096).expect("a smaller pipe");
    // Each failed reload logs a line with this word: more than the pipe and the queue hold.
    let word = "x".repeat(300 << 10);
    let good = std::fs::read_to_string(home.path("weir.toml")).expect("the configuration");
    home.write("weir.toml", format!("[log]\nformat = \"{word}\"\n"));
    let mut failed = 0;
    while relay.metric("weir_log_lines_lost_total") < 3 {
        relay.reload("failed");
        failed += 1;
        assert!(failed < 30, "the queue of the log has no bound");
    }
    assert!(Relay::get(relay.clients, "/").starts_with("HTTP/1.1 200 "));
    home.write("weir.toml", good);
    let lost = relay.metric("weir_log_lines_lost_total");
    let mut log = BufReader::new(log);
    let mut line = String::new();
    while !line.contains("log lines were lost") {
        line.clear();
        assert!(log.read_line(&mut line).expect("a log") > 0, "the log ends and does not tell what is missing");
    }
    assert!(line.ends_with(&format!(" WARN weir::cli::log: {lost} log lines were lost\n")), "{line}");
    relay.signal(Signal::TERM);
    let mut rest = String::new();
    log.read_to_string(&mut rest).expect("the rest of the log");
    assert_eq!(rest.matches("log lines were lost").count(), 0, "each loss is reported once");
    let last = rest.lines().last().map(|line| line.chars().take(200).collect::<String>());
    assert!(
        last.as_ref().is_some_and(|last| last.contains("the pipeline is empty")),
        "the last line is written, not {last:?}"
    );
    assert_eq!(relay.end(), Some(0));
}

#[test]
fn a_relay_ends_although_nobody_reads_its_last_lines() {
    let home = Home::new();
    let mut relay = Relay::start(&home, Stdio::piped);
    let log = relay.child.stderr.take().expect("a pipe");
    fcntl_setpipe_size(&log, 4096).expect("a smaller pipe");
    home.write("weir.toml", format!("[log]\nformat = \"{}\"\n", "x".repeat(8 << 10)));
    relay.reload("failed");
    relay.signal(Signal::TERM);
    assert_eq!(relay.end(), Some(0));
    drop(log);
}

#[test]
fn a_stream_of_events_whose_reader_has_gone_ends_without_a_word() {
    let home = Home::new();
    home.hold(&(0..20).map(|n| signed(n, 1, n, &[], "unread")).collect::<Vec<_>>());
    for arguments in [&["export"][..], &["scan", "{}"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended = home.command(arguments).stdout(writer).output().expect("the binary runs");
        assert_eq!(
            (ended.status.code(), String::from_utf8_lossy(&ended.stderr)),
            (Some(0), "".into()),
            "{arguments:?}"
        );
    }
}

#[test]
fn commands_end_by_their_result_and_without_a_panic_when_nobody_reads_them() {
    let home = Home::new();
    let good: Vec<_> = (0..20).map(|n| signed(n, 1, n, &[], "good")).collect();
    let mixed: String = good.iter().map(|event| lines(std::slice::from_ref(event)) + "not JSON\n").collect();
    let file = home.write("mixed.jsonl", mixed);
    let wrong = home.write("wrong.toml", "[limits]\nmax_fliters = 3\n");
    home.hold(&[super::support::event::event(super::support::event::author(1), 1, 1, &[], "unsigned")]);
    let full = || Stdio::from(File::options().write(true).open("/dev/full").expect("Linux has /dev/full"));
    let commands: [(&[&str], i32); 9] = [
        (&["import", "--show-refused", &file], 0),
        (&["import", "/nowhere"], 1),
        (&["export"], 0),
        (&["scan", "{}"], 0),
        (&["info"], 0),
        (&["check"], 1),
        (&["config", "check", "--config", &wrong], 1),
        (&["delete", "--filter", "{}"], 2),
        (&["--help"], 0),
    ];
    for (arguments, code) in commands {
        let run = |stdout: Stdio, stderr: Stdio| {
            let mut child = home.command(arguments).stdout(stdout).stderr(stderr).spawn().expect("the binary runs");
            // Neither pipe has a reader from here on.
            drop((child.stdout.take(), child.stderr.take()));
            child.wait().expect("the command ends").code()
        };
        assert_eq!(run(Stdio::piped(), Stdio::piped()), Some(code), "{arguments:?}, nobody reads");
        assert_eq!(run(Stdio::null(), full()), Some(code), "{arguments:?}, no room for messages");
    }
    assert_eq!(home.export().len(), 21, "the import went on to its end");
}
