//! The configuration as data: one field per section of the file, with its defaults.
//!
//! Reading, checking and comparing it is left to the other files of this folder.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::lists::ListFiles;
use super::log::Log;
use super::metrics::Metrics;
use super::replication::Replication;
use super::storage::Storage;
use crate::ledger;
use crate::management;
use crate::pipeline;
use crate::policy::{
    Access, Auth, Info, Limits, Membership, PluginOptions, PolicyOptions, RateOptions, Settings, Tiers,
};
use crate::replication::ClusterOptions;
use crate::schnorr;
use crate::server;

/// The whole configuration: one field per section of the file.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Listener, sockets and connections.
    pub server: server::Options,
    /// Where events are kept.
    pub storage: Storage,
    /// Limits for every client.
    pub limits: Limits,
    /// Limits by the client's tier.
    pub tiers: Tiers,
    /// Limits by network address.
    pub rates: RateOptions,
    /// What requires authentication (NIP-42).
    pub auth: Auth,
    /// Allow and deny lists.
    pub access: Access,
    /// Rules about events.
    pub policy: PolicyOptions,
    /// The program that judges events.
    pub plugin: PluginOptions,
    /// Whether only members publish, and how they become members (NIP-43).
    pub membership: Membership,
    /// Who manages the running relay, and where their decisions are kept.
    pub management: management::Options,
    /// The operator's part of the NIP-11 document.
    pub info: Info,
    /// Threads, and how long a query may run at a time.
    pub pipeline: pipeline::Options,
    /// Signature verification.
    pub verify: schnorr::Options,
    /// Streams of events between this relay and others.
    pub replication: Replication,
    /// Other nodes of the same relay.
    pub cluster: ClusterOptions,
    /// Negentropy sync (NIP-77).
    pub negentropy: pipeline::query::sessions::Options,
    /// Bounds on the memory that clients can make the relay hold.
    pub memory: ledger::Options,
    /// Bounds of the queues between threads.
    pub queues: pipeline::Bounds,
    /// The listener for monitoring.
    pub metrics: Metrics,
    /// The feed of changes.
    pub changes: server::ChangesOptions,
    /// The page on which admins see what the relay does and manage it.
    pub dashboard: server::DashboardOptions,
    /// Logging.
    pub log: Log,
    /// The list files that were read.
    #[serde(skip)]
    pub(super) list_files: ListFiles,
}

impl Config {
    /// The configuration as TOML, with every key.
    ///
    /// # Panics
    /// Never: every section consists of numbers, strings, lists and tables.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every section consists of TOML values")
    }

    /// The reloadable part: the settings that policy decides by.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            reload: 0,
            limits: self.limits.clone(),
            tiers: self.tiers.clone(),
            rates: self.rates.clone(),
            auth: self.auth.clone(),
            access: self.access.clone(),
            policy: self.policy.clone(),
            trusted: None,
            plugin: self.plugin.clone(),
            membership: self.membership.clone(),
            admins: self.management.admins.clone(),
            moderation: Arc::default(),
            info: self.info.clone(),
            retention: self.storage.retention(),
        }
    }

    /// This configuration with the values of `new` that apply without a restart: what is in force after a reload.
    #[must_use]
    pub fn with_live_sections_of(&self, new: Self) -> Self {
        let Self { limits, tiers, rates, auth, access, policy, plugin, membership, management, .. } = new;
        let Self { info, storage, replication, list_files, .. } = new;
        let former = self.clone();
        let mut taken =
            Self { limits, tiers, rates, auth, access, policy, plugin, membership, info, list_files, ..former };
        taken.replication = replication;
        taken.management.admins = management.admins;
        taken.storage.take_live(storage);
        taken
    }
}
