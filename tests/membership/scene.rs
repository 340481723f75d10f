//! A relay with members, and what is said to it.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, hex, now};

/// The claim of the configuration.
pub const CLAIM: &str = "open sesame";

/// What somebody who is no member is told.
pub const STRANGER: &str = "restricted: only members may publish here; join with an invite";

/// A relay with members.
pub struct Scene {
    pub relay: Relay,
    dir: tempfile::TempDir,
}

/// The configuration, with these lines in `[membership]`.
pub fn config(lines: &str) -> String {
    format!(
        "[metrics]\nlisten = \"127.0.0.1:0\"\n\
         [membership]\nkey_file = \"relay.key\"\nclaims = [\"{CLAIM}\"]\n{lines}\n"
    )
}

/// The key that the relay signs with.
pub fn own() -> Key {
    Key::named("relay")
}

impl Scene {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// With these lines in `[membership]`.
    pub fn start_with(lines: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let secret = hex(&Sha256::digest("the key of relay"));
        std::fs::write(dir.path().join("relay.key"), secret).expect("a key");
        let relay = Relay::start_in(dir.path(), &config(lines));
        Self { relay, dir }
    }

    /// Kills the relay and starts it again.
    pub fn restart_killed(self, lines: &str) -> Self {
        let Self { relay, dir } = self;
        drop(relay);
        Self { relay: Relay::start_in(dir.path(), &config(lines)), dir }
    }

    /// A client that has proven this key.
    pub fn client(&self, key: &Key) -> Client<'_> {
        let mut client = self.relay.connect();
        client.authenticate(key);
        client
    }

    /// A client that has proven the key of a member, which joined with the claim of the configuration.
    pub fn member(&self, key: &Key) -> Client<'_> {
        let mut client = self.client(key);
        client.accepted(&join(key, CLAIM), "info: welcome to weir");
        client
    }

    /// Runs a command; its exit code, and what it printed and complained about.
    pub fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        let file = |name: &str| Path::new(self.dir.path()).join(name);
        command.arg("--config").arg(file("weir.toml")).arg("--data").arg(file("data"));
        let ran = command.args(arguments).stdin(Stdio::null()).output().expect("the binary runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (ran.status.code(), text(ran.stdout), text(ran.stderr))
    }

    /// The output of a command that must succeed, without the end of its line.
    #[track_caller]
    pub fn good(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {err}");
        out.trim_end().into()
    }

    /// What NIP-11 says.
    pub fn document(&self) -> Value {
        let request = "GET / HTTP/1.1\r\nHost: r\r\nAccept: application/nostr+json\r\nConnection: close\r\n\r\n";
        serde_json::from_str(&self.relay.http(request).1).expect("JSON")
    }
}

/// What a client of these tests does beyond others.
pub trait Asks {
    /// Sends a request that must be accepted with this remark.
    fn accepted(&mut self, request: &Signed, remark: &str);
    /// The stored events that match, newest first.
    fn stored(&mut self, filter: Value) -> Vec<Value>;
}

impl Asks for Client<'_> {
    #[track_caller]
    fn accepted(&mut self, request: &Signed, remark: &str) {
        self.ask(request.message(), &format!(r#"["OK","{}",true,{}]"#, request.id, Value::from(remark)));
    }

    #[track_caller]
    fn stored(&mut self, filter: Value) -> Vec<Value> {
        let (events, _) = self.open("stored", &[filter]);
        self.send(r#"["CLOSE","stored"]"#);
        // The query went live before it was closed.
        self.send(r#"["COUNT","closed",{"kinds":[]}]"#);
        while !self.next().starts_with("[\"COUNT\"") {}
        events.iter().map(|event| serde_json::from_str(event).expect("JSON")).collect()
    }
}

/// A request to join with this claim, made now, protected as the NIP's example is.
pub fn join(key: &Key, claim: &str) -> Signed {
    key.event(28934, now(), json!([["-"], ["claim", claim]]), "")
}

/// A request to leave, made now.
pub fn leave(key: &Key) -> Signed {
    key.event(28936, now(), json!([["-"]]), "")
}

/// The event that the relay must have made with this date, whole.
pub fn made(kind: u64, created_at: u64, tags: Value) -> Value {
    serde_json::from_str(&own().event(kind, created_at, tags, "").text).expect("JSON")
}

/// The list of members that must be stored in the end: these keys with their roles, by their keys.
#[track_caller]
pub fn expect_list(scene: &Scene, members: &[Value]) {
    let mut tags: Vec<Value> = members.to_vec();
    tags.sort_by_key(|tag| tag[1].as_str().map(String::from));
    tags.insert(0, json!(["-"]));
    let mut client = scene.relay.connect();
    let mut last = Value::Null;
    scene.relay.until(|| {
        let stored = client.stored(json!({"kinds": [13534]}));
        assert!(stored.len() <= 1, "{stored:?}");
        last = stored.into_iter().next().unwrap_or_default();
        last["tags"] == json!(tags)
    });
    let created_at = last["created_at"].as_u64().expect("a date");
    assert_eq!(last, made(13534, created_at, json!(tags)));
    assert!(created_at <= now(), "{last}");
}

/// The tag of a member without roles.
pub fn member(key: &Key) -> Value {
    json!(["member", key.hex])
}
