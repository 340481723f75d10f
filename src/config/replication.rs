//! The `[replication]` section: streams of events between this relay and others.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::Fault;
use super::secret_file;
use crate::peer::PeerUrl;
use crate::policy::SecretFile;
use crate::replication::{Direction, MAX_LINKS, Scope, Stream};

/// The longest name of a stream.
const MAX_NAME: usize = 64;

/// The longest time that another relay may be given for an answer.
const MAX_TIMEOUT_S: u64 = 3600;

/// Streams of events between this relay and others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replication {
    /// How many seconds another relay may take for an answer.
    pub timeout_s: u64,
    /// The streams.
    pub streams: Vec<StreamOptions>,
}

impl Default for Replication {
    fn default() -> Self {
        Self { timeout_s: 30, streams: Vec::new() }
    }
}

/// One stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// Its name, in logs and metrics.
    pub name: String,
    /// Which way events go.
    pub dir: Direction,
    /// The other relays.
    pub urls: Vec<String>,
    /// How many seconds before it was last level a comparison begins.
    #[serde(default = "day")]
    pub catch_up_s: u64,
    /// The key to prove to relays that ask (NIP-42).
    #[serde(default)]
    pub key_file: SecretFile,
    /// Further root certificates, in PEM.
    #[serde(default)]
    pub ca_file: PathBuf,
    /// Which events: one filter.
    #[serde(default)]
    pub filter: Map<String, Value>,
}

/// The default of `catch_up_s`.
pub(super) const fn day() -> u64 {
    24 * 3600
}

impl Replication {
    /// Reads the files that it names; paths are relative to `directory`. Returns what is wrong with them.
    pub(super) fn read_files(&mut self, directory: &Path) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (number, stream) in (1..).zip(&mut self.streams) {
            let key = format!("replication.streams[{number}].key_file");
            faults.extend(secret_file::read(&key, &mut stream.key_file, directory));
            if !stream.ca_file.as_os_str().is_empty() {
                stream.ca_file = directory.join(&stream.ca_file);
            }
        }
        faults
    }

    /// What is wrong with it.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let fault = |key: String, text: String| Fault { key: key.into(), text };
        let mut faults = Vec::new();
        if !(1..=MAX_TIMEOUT_S).contains(&self.timeout_s) {
            let text = format!("{} is not between 1 and {MAX_TIMEOUT_S}", self.timeout_s);
            faults.push(fault("replication.timeout_s".into(), text));
        }
        for (number, stream) in (1..).zip(&self.streams) {
            let path = |key: &str| format!("replication.streams[{number}].{key}");
            faults.extend(stream.faults().into_iter().map(|(key, text)| fault(path(key), text)));
            if self.streams[..number - 1].iter().any(|other| other.name == stream.name) {
                faults.push(fault(path("name"), format!("{:?} is the name of another stream", stream.name)));
            }
        }
        let links: usize = self.streams.iter().map(|stream| stream.urls.len()).sum();
        if links > MAX_LINKS {
            let text = format!("the streams have {links} URLs together; {MAX_LINKS} is the most");
            faults.push(fault("replication.streams".into(), text));
        }
        faults
    }
}

impl StreamOptions {
    /// What is wrong with it: keys and texts.
    pub(super) fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if self.name.is_empty() || self.name.len() > MAX_NAME || !self.name.chars().all(is_plain) {
            let text = format!("{:?} is no name: up to {MAX_NAME} letters, digits, _, - and .", self.name);
            faults.push(("name", text));
        }
        let mut known = Vec::new();
        for url in &self.urls {
            match PeerUrl::parse(url) {
                Ok(url) if known.contains(&url) => faults.push(("urls", format!("{url} is there twice"))),
                Ok(url) => known.push(url),
                Err(error) => faults.push(("urls", error.to_string())),
            }
        }
        if self.urls.is_empty() {
            faults.push(("urls", "a stream needs the URL of at least one relay".into()));
        }
        if let Err(error) = self.scope() {
            faults.push(("filter", error));
        }
        faults
    }

    fn scope(&self) -> Result<Scope, String> {
        Scope::parse(&Value::from(self.filter.clone()).to_string())
    }

    /// The stream, whose relays have this long for an answer, without what it takes for TLS; `None` if it has faults.
    #[must_use]
    pub fn stream(&self, timeout: Duration) -> Option<Stream> {
        let urls: Result<_, _> = self.urls.iter().map(|url| PeerUrl::parse(url)).collect();
        Some(Stream {
            name: self.name.clone(),
            direction: self.dir,
            urls: urls.ok()?,
            scope: self.scope().ok()?,
            catch_up_s: self.catch_up_s,
            key: self.key_file.signer.clone(),
            ca: (!self.ca_file.as_os_str().is_empty()).then(|| self.ca_file.clone()),
            tls: None,
            timeout,
        })
    }
}
