//! How commands reach decisions: through the local socket of the relay that runs, or in the files themselves when none
//! does.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};

use super::global::Global;
use crate::config::Config;
use crate::management::socket::{self, Client};
use crate::management::{self, Actor, Configured, Journal, Request};
use crate::pipeline::now;

/// The way to the decisions of a relay.
pub enum Admin {
    /// To one that runs.
    Running(Box<Client>),
    /// To one that does not: it finds what was decided when it starts.
    Stopped(Box<Journal>, Box<Config>),
}

impl Admin {
    /// Connects to the relay on this store, or opens its decisions.
    pub fn find(global: &Global) -> anyhow::Result<Self> {
        let config = global.config()?;
        config.validate()?;
        let data = &config.storage.data;
        let path: PathBuf = data.join(socket::NAME);
        let client = Client::connect(data).with_context(|| format!("cannot reach the relay at {}", path.display()))?;
        Ok(match client {
            Some(client) => Self::Running(Box::new(client)),
            None => {
                let journal = Journal::open(&config.management.directory(data))?;
                Self::Stopped(Box::new(journal), Box::new(config))
            }
        })
    }

    /// Calls a method.
    pub fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.call_telling(method, params, |_| {})
    }

    /// Calls a method. `progress` is told what comes before the result.
    pub fn call_telling(&mut self, method: &str, params: Value, progress: impl FnMut(&Value)) -> anyhow::Result<Value> {
        match self {
            Self::Running(client) => {
                let answer = client.call(method, params, progress).context("the relay did not answer")?;
                answer.map_err(|error| anyhow!(error))
            }
            Self::Stopped(journal, config) => {
                let request = Request::parse(json!({ "method": method, "params": params }).to_string().as_bytes())?;
                let configured = Configured { access: &config.access, membership: &config.membership };
                Ok(management::call(journal, configured, &request, (&me(), now()))?.result)
            }
        }
    }
}

/// Who runs this command, for the audit.
pub fn me() -> Actor {
    Actor { by: format!("uid:{}", rustix::process::getuid().as_raw()), auth: None }
}
