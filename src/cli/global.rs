//! The arguments that every command takes, and the configuration and store that they name.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::config::{Config, ConfigError};
use crate::store::Store;

/// What every command takes.
#[derive(clap::Args)]
pub struct Global {
    /// The configuration file; every key has a default, so none is needed
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The directory that holds the events [default: ./weir-data]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Global {
    /// The configuration: defaults, then the file, then the command line.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut config = self.config.as_deref().map_or_else(|| Ok(Config::default()), Config::load)?;
        if let Some(data) = &self.data {
            config.storage.data.clone_from(data);
        }
        Ok(config)
    }

    /// The configuration and the store, which must be there.
    pub fn open(&self) -> anyhow::Result<(Config, Store)> {
        let config = self.config()?;
        let data = &config.storage.data;
        anyhow::ensure!(Store::exists(data), "there is no store in {}; --data names another directory", data.display());
        self.open_or_create()
    }

    /// The configuration and the store, created if need be.
    pub fn open_or_create(&self) -> anyhow::Result<(Config, Store)> {
        let config = self.config()?;
        config.validate()?;
        let data = &config.storage.data;
        let store = Store::open(data, config.storage.options())
            .with_context(|| format!("cannot open the store in {}", data.display()))?;
        Ok((config, store))
    }
}
