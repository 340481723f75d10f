//! The commands on the store of a running relay.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use super::home::{Home, lines};
use super::support::event::signed;

/// A running relay, which is stopped at the end of the test.
struct Relay {
    child: Child,
    address: String,
}

impl Relay {
    fn start(home: &Home) -> Self {
        let mut command = home.command(&["serve", "--listen", "127.0.0.1:0"]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the relay starts");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        while !line.contains("listening on ") {
            line.clear();
            assert!(log.read_line(&mut line).expect("a log") > 0, "the relay ended before it listened");
        }
        // The pipe must be drained, or the log would fill it.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let address = line.split("listening on ").nth(1).expect("an address").trim().to_owned();
        Self { child, address }
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the child was not waited for");
        assert_eq!(self.child.wait().expect("the relay ends").code(), Some(0));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It has ended already if the test succeeded.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_imported_while_the_relay_runs_reaches_its_subscribers() {
    let home = Home::new();
    let held = signed(1, 1, 1, &[], "held");
    home.hold(std::slice::from_ref(&held));
    let relay = Relay::start(&home);
    let (mut socket, _) =
        tokio_tungstenite::connect_async(format!("ws://{}", relay.address)).await.expect("the relay takes clients");
    socket.send(Message::text(r#"["REQ","s",{"kinds":[1]}]"#)).await.expect("a REQ");
    let mut next = async || loop {
        let message =
            tokio::time::timeout(TIMEOUT, socket.next()).await.expect("in time").expect("open").expect("good");
        if let Message::Text(text) = message {
            let value: Value = serde_json::from_str(&text).expect("JSON");
            if value[0] != "AUTH" {
                return value;
            }
        }
    };
    assert_eq!(next().await[2]["content"], "held");
    assert_eq!(next().await[0], "EOSE");

    let news: Vec<_> = (2..2000).map(|n| signed(n % 7, 1, n, &[], &n.to_string())).collect();
    let imported = tokio::task::block_in_place(|| home.run_with(&["import"], lines(&news).as_bytes()));
    assert_eq!((imported.code, imported.count("stored")), (Some(0), news.len() as u64), "{imported:?}");
    let mut delivered = BTreeSet::new();
    for _ in &news {
        let event = next().await;
        assert_eq!((&event[0], &event[1]), (&"EVENT".into(), &"s".into()));
        assert!(delivered.insert(event[2]["id"].to_string()), "each once");
    }
    assert_eq!(delivered, news.iter().map(|event| format!("\"{}\"", event.view().id())).collect());

    tokio::task::block_in_place(|| {
        assert_eq!(home.export().len(), news.len() + 1);
        assert_eq!(home.run(&["scan", "--count", r#"{"kinds":[1]}"#]).good(), format!("{}\n", news.len() + 1));
        assert!(home.run(&["delete", "--filter", r#"{"kinds":[1],"until":1000}"#]).good().starts_with("1000 events"));
        home.run(&["info"]).good();
        home.assert_clean();
        relay.stop();
        assert_eq!(home.export().len(), news.len() - 999);
        home.assert_clean();
    });
}
