//! `weir trust`: shows the web of trust, and by which path a key is in it.

use std::io::Write as _;
use std::process::ExitCode;

use super::global::Global;
use super::output;
use crate::nostr::Pubkey;
use crate::nostr::bech32::{npub, parse_pubkey};
use crate::trust::Web;

/// Arguments of `weir trust`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir trust --config weir.toml                how many keys are at each hop
  weir trust --config weir.toml npub1...       the path to one key

The web begins with the keys in policy.trust.roots and follows the stored follow lists (kind 3), as the relay does. \
Exits with 1 if the key is not in the web.")]
pub struct Arguments {
    /// A key: npub1... or 64 hexadecimal digits
    #[arg(value_name = "KEY", value_parser = parse_pubkey)]
    key: Option<Pubkey>,
}

/// Shows the web, or the path to a key.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (config, store) = global.open()?;
    let options = &config.policy.trust;
    anyhow::ensure!(!options.roots.is_empty(), "policy.trust.roots is empty, so there is no web of trust");
    let web = Web::read(&store, options)?;
    let mut out = output::stdout();
    let mut code = ExitCode::SUCCESS;
    match &arguments.key {
        None => {
            for (hop, keys) in web.sizes().into_iter().enumerate() {
                writeln!(out, "hop {hop}: {keys}")?;
            }
            if web.is_cut {
                writeln!(out, "more keys were left out: policy.trust.max_keys is {}", options.max_keys)?;
            }
        }
        Some(key) => {
            let path = web.path(key);
            for (hop, key) in path.iter().enumerate() {
                writeln!(out, "{hop} {}", npub(key))?;
            }
            if path.is_empty() {
                writeln!(out, "not within {} hops", options.within)?;
                code = ExitCode::FAILURE;
            }
        }
    }
    out.flush()?;
    Ok(code)
}
