//! The `[cluster]` section: what may be wrong with it, and where its files are.
//!
//! The options themselves are those of `replication`.

use std::path::Path;

use url::Url;

use super::error::Fault;
use crate::nostr::bech32::parse_pubkey;
use crate::replication::{ClusterOptions, MAX_NODE_AUTHORS as MAX_AUTHORS, MAX_NODE_KINDS as MAX_KINDS, cluster_login};

/// The longest name of a cluster or a node.
const MAX_NAME: usize = 32;

/// The most that NATS may be asked to keep of a stream, in copies.
const MAX_REPLICAS: usize = 5;

/// Seconds between two comparisons at least: each reads everything that is stored.
const MIN_INTERVAL_S: u64 = 60;

/// The most servers.
const MAX_SERVERS: usize = 64;

/// Makes paths absolute that are relative to the directory of the file.
pub fn resolve(options: &mut ClusterOptions, directory: &Path) {
    let files =
        [&mut options.credentials_file, &mut options.ca_file, &mut options.cert_file, &mut options.cert_key_file];
    for file in files.into_iter().filter(|file| is_set(file)) {
        *file = directory.join(&*file);
    }
}

fn is_set(file: &Path) -> bool {
    !file.as_os_str().is_empty()
}

/// What is wrong with the section.
#[must_use]
pub fn faults(options: &ClusterOptions) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |key: &'static str, text: String| faults.push(Fault { key: key.into(), text });
    for server in &options.servers {
        if let Err(text) = check_server(server) {
            fault("cluster.servers", text);
        }
    }
    if let Err(text) = cluster_login(&options.servers) {
        fault("cluster.servers", text.into());
    }
    if options.servers.len() > MAX_SERVERS {
        fault("cluster.servers", format!("{} servers; {MAX_SERVERS} is the most", options.servers.len()));
    }
    if !is_name(&options.name) {
        fault("cluster.name", not_a_name(&options.name));
    }
    if options.is_on() && !is_name(&options.node) {
        fault("cluster.node", not_a_name(&options.node));
    }
    if !(1..=MAX_REPLICAS).contains(&options.replicas) {
        fault("cluster.replicas", format!("{} is not between 1 and {MAX_REPLICAS}", options.replicas));
    }
    if options.max_age_s == 0 {
        fault("cluster.max_age_s", "0 would keep nothing".into());
    }
    if options.compare_interval_s < MIN_INTERVAL_S {
        fault("cluster.compare_interval_s", format!("{} is below {MIN_INTERVAL_S}", options.compare_interval_s));
    }
    if options.max_bytes < 1 << 20 {
        fault("cluster.max_bytes", format!("{} bytes are too few: at least 1 MiB", options.max_bytes));
    }
    if options.kinds.len() > MAX_KINDS {
        fault("cluster.kinds", format!("{} kinds; {MAX_KINDS} is the most", options.kinds.len()));
    }
    if options.authors.len() > MAX_AUTHORS {
        fault("cluster.authors", format!("{} authors; {MAX_AUTHORS} is the most", options.authors.len()));
    }
    if let Some(author) = options.authors.iter().find(|author| parse_pubkey(author).is_err()) {
        fault("cluster.authors", format!("{author:?} is not a public key: npub1… or 64 hex digits"));
    }
    if is_set(&options.cert_file) != is_set(&options.cert_key_file) {
        fault("cluster.cert_file", "cert_file and cert_key_file go together".into());
    }
    faults
}

fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(is_plain)
}

fn not_a_name(name: &str) -> String {
    format!("{name:?} is no name: up to {MAX_NAME} letters, digits, _ and -")
}

fn check_server(server: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("{:?} is no server of NATS: {why}", without_password(server)));
    let Ok(url) = Url::parse(server) else { return bad("expected a URL such as nats://10.0.0.1:4222") };
    if !["nats", "tls"].contains(&url.scheme()) {
        return bad("expected nats:// or tls://");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return bad("it names no host");
    }
    Ok(())
}

/// The address without the user and password in it.
pub(super) fn without_password(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let authority = rest.find('/').map_or(rest, |end| &rest[..end]);
    let host = authority.rfind('@').map_or(rest, |at| &rest[at + 1..]);
    if scheme.is_empty() { host.into() } else { format!("{scheme}://{host}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_named_by_its_key_and_no_password_is_shown() {
        let good = ClusterOptions {
            servers: vec!["nats://10.0.0.1".into(), "tls://user:secret@nats.example:4222".into()],
            node: "a".into(),
            ..ClusterOptions::default()
        };
        let said = |options| -> Vec<String> {
            faults(&options).iter().map(|fault| format!("{}: {}", fault.key, fault.text)).collect()
        };
        assert_eq!(said(good.clone()), [""; 0]);
        assert_eq!(said(ClusterOptions::default()), [""; 0], "no node");
        let bad = ClusterOptions {
            servers: vec!["http://user:secret@host".into(), "host".into()],
            node: "a.b".into(),
            name: String::new(),
            replicas: 6,
            max_age_s: 0,
            max_bytes: 5,
            authors: vec!["me".into()],
            cert_file: "cert.pem".into(),
            ..good
        };
        let expected = [
            "cluster.servers: \"http://host\" is no server of NATS: expected nats:// or tls://",
            "cluster.servers: \"host\" is no server of NATS: expected a URL such as nats://10.0.0.1:4222",
            "cluster.name: \"\" is no name: up to 32 letters, digits, _ and -",
            "cluster.node: \"a.b\" is no name: up to 32 letters, digits, _ and -",
            "cluster.replicas: 6 is not between 1 and 5",
            "cluster.max_age_s: 0 would keep nothing",
            "cluster.max_bytes: 5 bytes are too few: at least 1 MiB",
            "cluster.authors: \"me\" is not a public key: npub1… or 64 hex digits",
            "cluster.cert_file: cert_file and cert_key_file go together",
        ];
        assert_eq!(said(bad), expected);
    }
}
