//! The arguments that all commands share, and the configuration and store that they refer to.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::config::{Config, ConfigError};
use crate::store::Store;

/// The arguments that all commands share.
#[derive(clap::Args)]
pub struct Global {
    /// The configuration file; optional, since every key has a default
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The directory of the store; overrides storage.data [default: ./weir-data]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Global {
    /// The same as arguments, for a command line that is built from another.
    pub fn to_arguments(&self) -> Vec<OsString> {
        let named = [("--config", &self.config), ("--data", &self.data)];
        let given = named.into_iter().filter_map(|(name, path)| Some([name.into(), path.clone()?.into_os_string()]));
        given.flatten().collect()
    }

    /// The configuration: defaults, overridden by the file, overridden by the command line.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut config = self.config.as_deref().map_or_else(|| Ok(Config::default()), Config::load)?;
        if let Some(data) = &self.data {
            config.storage.data.clone_from(data);
        }
        Ok(config)
    }

    /// The configuration and the store, which must exist.
    pub fn open(&self) -> anyhow::Result<(Config, Store)> {
        let config = self.config()?;
        let data = &config.storage.data;
        anyhow::ensure!(
            Store::exists(data),
            "there is no store in {}; use --data for another directory",
            data.display()
        );
        self.open_or_create()
    }

    /// The configuration and the store, which is created if missing.
    pub fn open_or_create(&self) -> anyhow::Result<(Config, Store)> {
        let config = self.config()?;
        config.validate()?;
        let data = &config.storage.data;
        let store = Store::open(data, config.storage.options())
            .with_context(|| format!("cannot open the store in {}", data.display()))?;
        Ok((config, store))
    }
}
