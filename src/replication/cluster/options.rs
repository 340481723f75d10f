//! The `[cluster]` section: which NATS servers join the nodes, what this node is called and what it takes.
//!
//! Holds what the operator chose; `config` checks it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::pipeline::deliver::outward::Outward;

/// Messages that a node asks for at a time. Each may hold 32 events, and a slow disk must have stored them before NATS
/// delivers them again.
pub const TAKEN_AT_ONCE: usize = 64;
/// Events that are published and not acknowledged, and their bytes.
pub const MAX_UNANSWERED: usize = 512;
/// See [`MAX_UNANSWERED`].
pub const MAX_UNANSWERED_BYTES: usize = 4 << 20;

/// Messages that are delivered to a node and not acknowledged by it.
pub const MAX_ACK_PENDING: usize = 1024;

/// Events that are remembered to have come from other nodes, at 40 bytes each.
pub const MAX_RECENT: usize = 1 << 17;

/// Kinds and authors that a node may choose.
pub const MAX_KINDS: usize = 256;
/// See [`MAX_KINDS`].
pub const MAX_AUTHORS: usize = 10_000;

/// What two comparisons hold, one of either side: records, and ids that are missing.
const COMPARED_BYTES: u64 = 2 * 100_000 * (41 + 64);

/// What the nodes make the relay hold, in bytes, beside messages that are being taken: what is published and not
/// acknowledged, twice; ephemeral events; what is remembered to have come from others; the client of NATS; and the last
/// act about each subject.
pub const CLUSTER_BYTES: u64 =
    (2 * MAX_UNANSWERED_BYTES + Outward::BYTES + MAX_RECENT * 40) as u64 + (16 << 20) + (24 << 20) + COMPARED_BYTES;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The servers of NATS, such as `nats://10.0.0.1:4222`; none means that this relay is no node.
    pub servers: Vec<String>,
    /// What this node is called among the others.
    pub node: String,
    /// What the cluster is called; streams and subjects have it in their names.
    pub name: String,
    /// A file of credentials, as `nsc` writes them, or with the seed of an nkey; empty for none.
    pub credentials_file: PathBuf,
    /// Root certificates in PEM that are trusted instead of the system's; empty for those.
    pub ca_file: PathBuf,
    /// This node's certificate in PEM, if the servers ask for one.
    pub cert_file: PathBuf,
    /// The key of that certificate.
    pub cert_key_file: PathBuf,
    /// Copies that NATS keeps of the streams that this node creates.
    pub replicas: usize,
    /// Bytes that NATS keeps of the stream of events, if this node creates it.
    pub max_bytes: u64,
    /// How many seconds NATS keeps an event in the stream, if this node creates it.
    pub max_age_s: u64,
    /// How many seconds pass between two comparisons with another node.
    pub compare_interval_s: u64,
    /// The kinds that this node takes from others; none means all.
    pub kinds: Vec<u16>,
    /// The authors that this node takes events of from others, in hex or as `npub1…`; none means all.
    pub authors: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            node: String::new(),
            name: "main".into(),
            credentials_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            cert_file: PathBuf::new(),
            cert_key_file: PathBuf::new(),
            replicas: 1,
            max_bytes: 10 << 30,
            max_age_s: 3 * 24 * 3600,
            compare_interval_s: 3600,
            kinds: Vec::new(),
            authors: Vec::new(),
        }
    }
}

impl Options {
    /// Whether this relay is a node.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.servers.is_empty()
    }
}
