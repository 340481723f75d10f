//! What nodes prove to NATS, and what NATS proves to them: passwords, tokens, keys, credentials and certificates.

use std::process::Command;

use super::nats::{Nats, free_port};
use super::scene::{config, joined, settle};
use crate::support::relay::Relay;
use crate::support::wire::Key;

/// A file of these tests.
fn file(name: &str) -> String {
    format!("{}/tests/cluster/files/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A file of the tests of TLS between relays.
fn tls_file(name: &str) -> String {
    format!("{}/tests/replication/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).expect("a file")
}

/// Two nodes with this server and these keys share what is published.
fn assert_joined(server: &str, keys: &str) {
    let [a, b] = ["a", "b"].map(|name| Relay::start(&config(&[server.into()], name, keys)));
    [&a, &b].iter().for_each(|node| joined(node));
    // Another one each time: NATS drops a second message with the id of a first one.
    let note = Key::named("author").note(server);
    a.connect().publish(&note);
    let expected = [note.id].into();
    assert_eq!(settle(&[&a, &b], &expected), expected);
    assert_eq!(status(&a).0, Some(0));
}

/// What `weir cluster status` exits with and says as an error.
fn status(relay: &Relay) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["cluster", "status", "--config"]).arg(relay.data().with_file_name("weir.toml"));
    let output = command.output().expect("it runs");
    (output.status.code(), String::from_utf8(output.stderr).expect("text"))
}

/// A node with this server and these keys is refused; the log and the command say why.
fn assert_refused(server: &str, keys: &str, why: &str) {
    let relay = Relay::start(&config(&[server.into()], "a", keys));
    let line = relay.wait_for_log("not joined with the other nodes");
    let (code, told) = status(&relay);
    for said in [line, told] {
        assert!(said.contains(why) && !said.contains("secret"), "{why:?} in {said}");
    }
    assert_eq!(code, Some(1));
    // It serves all the same.
    relay.connect().publish(&Key::named("author").note("alone"));
}

#[test]
fn a_node_proves_the_user_and_password_of_the_address() {
    let port = free_port();
    let users = "authorization { user: weir, password: \"a long secret/text\" }";
    let Some(_nats) = Nats::start_with(port, users) else { return };
    assert_joined(&format!("nats://weir:a%20long%20secret%2Ftext@127.0.0.1:{port}"), "");
    assert_refused(&format!("nats://weir:secret@127.0.0.1:{port}"), "", "cannot connect: authorization violation");
    assert_refused(&format!("nats://127.0.0.1:{port}"), "", "cannot connect: authorization violation");
}

#[test]
fn a_node_proves_the_token_of_the_address() {
    let port = free_port();
    let Some(_nats) = Nats::start_with(port, "authorization { token: \"secret%token\" }") else { return };
    assert_joined(&format!("nats://secret%25token@127.0.0.1:{port}"), "");
    assert_refused(&format!("nats://secret@127.0.0.1:{port}"), "", "cannot connect: authorization violation");
}

#[test]
fn a_node_proves_the_key_or_the_credentials_in_a_file() {
    let port = free_port();
    let with = |name: &str| format!("credentials_file = {:?}", file(name));
    let server = format!("nats://127.0.0.1:{port}");
    for (nats, good) in [("operator.conf", "node.creds"), ("nkey.conf", "node.nk")] {
        let Some(_nats) = Nats::start_with(port, &text(nats)) else { return };
        assert_joined(&server, &with(good));
        assert_refused(&server, &with("stranger.creds"), "cannot connect: authorization violation");
        let neither = "it holds neither the credentials of a user nor the seed of a user's nkey";
        assert_refused(&server, &with("nkey.conf"), &format!("nkey.conf: {neither}"));
        assert_refused(&server, &with("nothing"), "nothing: there is no such file");
    }
}

#[test]
fn a_node_checks_the_certificate_of_the_server_and_shows_its_own() {
    let port = free_port();
    let tls = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        tls_file("localhost.pem"),
        tls_file("localhost.key"),
        file("nodes-ca.pem")
    );
    let Some(_nats) = Nats::start_with(port, &tls) else { return };
    let trusted = format!("ca_file = {:?}", tls_file("ca.pem"));
    let own = format!("cert_file = {:?}\ncert_key_file = {:?}", file("node.pem"), file("node.key"));
    for scheme in ["tls", "nats"] {
        assert_joined(&format!("{scheme}://localhost:{port}"), &format!("{trusted}\n{own}"));
    }
    let server = format!("tls://localhost:{port}");
    assert_refused(&server, &trusted, "cannot connect: IO error: received fatal alert: CertificateRequired");
    assert_refused(&server, &own, "cannot connect: IO error: invalid peer certificate: UnknownIssuer");
    let other = format!("ca_file = {:?}\n{own}", file("nodes-ca.pem"));
    assert_refused(&server, &other, "cannot connect: IO error: invalid peer certificate: UnknownIssuer");
    assert_refused(&server, &format!("ca_file = {:?}\n{own}", file("nothing")), "cannot connect: ");
}
