//! `docs/replication.md`: the set-up of a cluster from nothing, word for word.

use super::nats::{Nats, free_port};
use super::scene::{joined, settle};
use crate::support::relay::Relay;
use crate::support::wire::Key;

const PAGE: &str = include_str!("../../docs/replication.md");

/// What stands between the first `begin` and the next `end`.
fn block(begin: &str, end: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(begin).unwrap_or_else(|| panic!("no {begin:?} on the page"));
    rest.split(end).next().expect("a first part")
}

#[test]
fn the_set_up_of_the_page_joins_two_nodes() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let nats = block("cat > /etc/nats.conf <<'EOF'\n", "EOF\n").replace("10.0.0.1:4222", &address);
    let Some(mut nats) = Nats::prepare_by(port, |store| nats.replace("/var/lib/nats", store)) else { return };
    nats.run();
    let node = format!("[cluster]\n{}", block("```toml\n[cluster]\n", "```")).replace("10.0.0.1:4222", &address);
    let nodes = ["a", "b"].map(|name| {
        let more = "[metrics]\nlisten = \"127.0.0.1:0\"\n";
        // Test machines have small disks.
        let own = format!("node = \"{name}\"\nmax_bytes = \"16 MiB\"");
        Relay::start(&format!("{}\n{more}", node.replace("node = \"a\"", &own)))
    });
    nodes.iter().for_each(joined);
    let note = Key::named("author").note("hello");
    nodes[0].connect().publish(&note);
    let expected = [note.id].into();
    assert_eq!(settle(&nodes.each_ref(), &expected), expected);
}
