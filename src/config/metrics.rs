//! The `[metrics]` section.

use std::net::SocketAddr;

use serde::de::{self, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

/// The listener for monitoring.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// The address that serves `/metrics`, `/healthz` and `/readyz`; never the one that clients use. An empty string
    /// disables it.
    #[serde(serialize_with = "write", deserialize_with = "read")]
    pub listen: Option<SocketAddr>,
    /// Whether `/metrics` also has the three metrics of strfry's that sidecars read, under strfry's names.
    pub strfry_names: bool,
}

fn write<S: Serializer>(address: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&address.map_or_else(String::new, |address| address.to_string()))
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || de::Error::custom(format!("{text:?} is not ADDRESS:PORT"));
    text.parse().map(Some).map_err(|_| wrong())
}
