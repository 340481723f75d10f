//! The whole configuration: one field for each section of the file, with its default.
//!
//! Plain data: reading, checking and comparing are the business of the files beside it.

use serde::{Deserialize, Serialize};

use super::log::Log;
use super::metrics::Metrics;
use super::storage::Storage;
use crate::ledger;
use crate::pipeline;
use crate::policy::{Access, Auth, Info, Limits, RateOptions, Settings, Tiers};
use crate::schnorr;
use crate::server;

/// A whole configuration: one field for each section of the file.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Sockets and connections.
    pub server: server::Options,
    /// Where events are kept.
    pub storage: Storage,
    /// Limits for everybody.
    pub limits: Limits,
    /// Limits by who asks.
    pub tiers: Tiers,
    /// Limits by network address.
    pub rates: RateOptions,
    /// What needs a proven key (NIP-42).
    pub auth: Auth,
    /// Who and what is let in.
    pub access: Access,
    /// What NIP-11 says about the relay.
    pub info: Info,
    /// Threads, and how long a query may run at a time.
    pub pipeline: pipeline::Options,
    /// How signatures are checked.
    pub verify: schnorr::Options,
    /// Negentropy sync (NIP-77).
    pub negentropy: pipeline::query::reconcile::Options,
    /// What clients may make the relay hold.
    pub memory: ledger::Options,
    /// Bounds of the queues between the threads.
    pub queues: pipeline::Bounds,
    /// Where operators watch.
    pub metrics: Metrics,
    /// What is logged.
    pub log: Log,
}

impl Config {
    /// The same configuration as the text of a file, every key included.
    ///
    /// # Panics
    /// Never: every section is made of numbers, texts, lists and tables.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every section is made of what TOML has")
    }

    /// What policy decides by: the part that is reloaded.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            limits: self.limits.clone(),
            tiers: self.tiers.clone(),
            rates: self.rates.clone(),
            auth: self.auth.clone(),
            access: self.access.clone(),
            info: self.info.clone(),
            retention: self.storage.retention(),
        }
    }

    /// Takes over from `new` what holds without a restart, so that this stays what is in force.
    pub fn take_live(&mut self, new: Self) {
        let Self { limits, tiers, rates, auth, access, info, storage, .. } = new;
        self.storage.take_live(storage);
        *self = Self { limits, tiers, rates, auth, access, info, ..std::mem::take(self) };
    }

    /// This configuration with what `new` has for the keys that hold without a restart.
    #[must_use]
    pub fn with_live_sections_of(&self, new: Self) -> Self {
        let mut taken = self.clone();
        taken.take_live(new);
        taken
    }
}
