//! `weir dashboard`: prints a link that opens the dashboard of the running relay once.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};

use super::global::Global;
use super::output::stdout;
use crate::management::socket::Client;

/// Arguments of `weir dashboard`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir dashboard --config /etc/weir/weir.toml      a link for a browser on this machine
  ssh -L 9090:127.0.0.1:9090 relay.example.com     reaches metrics.listen = \"127.0.0.1:9090\" from elsewhere

The link is good once, for five minutes. [dashboard] says which address serves the dashboard.")]
pub struct Arguments {}

/// Prints a link for each address that serves the dashboard.
pub fn run(global: &Global, _: &Arguments) -> anyhow::Result<ExitCode> {
    let data = global.config()?.storage.data;
    let mut client = Client::connect(&data)
        .with_context(|| format!("cannot reach the relay on the store in {}", data.display()))?
        .with_context(|| format!("no relay runs on the store in {}", data.display()))?;
    let link = client.call("dashboardlink", json!([]), |_| {}).context("the relay does not answer")?;
    let link = link.map_err(|error| anyhow!(error))?;
    let mut out = stdout();
    for url in link.get("urls").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        writeln!(out, "{url}")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
