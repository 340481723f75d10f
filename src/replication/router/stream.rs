//! What the operator asks for: streams, and the links that they are made of, one for each URL.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::peer::{PeerUrl, Tls};
use crate::replication::report::Direction;
use crate::replication::scope::Scope;
use crate::schnorr::SigningKey;

/// The most links of all streams together. Each has a connection, and some megabytes for what is on its way.
pub const MAX_LINKS: usize = 256;

/// What a link may hold, in bytes: pieces of two connections, events that are not answered, and what the relay has
/// shown lately, 10 MiB; and while it compares, as many ids as a relay may name and as are remembered.
pub const LINK_BYTES: u64 = 112 << 20;

/// A stream of events between this relay and others.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its name, in logs and metrics.
    pub name: String,
    /// Which way events go.
    pub direction: Direction,
    /// The other relays.
    pub urls: Vec<PeerUrl>,
    /// Which events. Its range holds for what is live, too.
    pub scope: Scope,
    /// How many seconds before the time when it was last level a comparison begins.
    pub catch_up_s: u64,
    /// The key to prove to relays that ask (NIP-42).
    pub key: Option<Arc<SigningKey>>,
    /// A file of further root certificates.
    pub ca: Option<PathBuf>,
    /// Whose certificates are trusted; needed for `wss://`.
    pub tls: Option<Tls>,
    /// How long a relay may take for an answer.
    pub timeout: Duration,
}

/// The part of a stream that one relay has.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// The stream. Its other URLs do not matter.
    pub stream: Arc<Stream>,
    /// The relay.
    pub url: PeerUrl,
}

impl LinkOptions {
    /// The links of streams.
    #[must_use]
    pub fn of(streams: Vec<Stream>) -> Vec<Self> {
        let links = |stream: Stream| {
            let stream = Arc::new(stream);
            let urls = stream.urls.clone();
            urls.into_iter().map(move |url| Self { stream: Arc::clone(&stream), url })
        };
        streams.into_iter().flat_map(links).collect()
    }

    /// Whether a link with the one options can go on under the other.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let key = |stream: &Stream| stream.key.as_ref().map(|key| key.public());
        let (one, two) = (&self.stream, &other.stream);
        self.url == other.url
            && one.name == two.name
            && one.direction == two.direction
            && one.scope == two.scope
            && one.catch_up_s == two.catch_up_s
            && one.ca == two.ca
            && one.timeout == two.timeout
            && key(one) == key(two)
    }
}
