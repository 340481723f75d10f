//! `weir invite`: makes, lists and revokes the codes with which keys become members (NIP-43).

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::admin::Admin;
use super::arguments::duration;
use super::global::Global;
use super::manage::shown;
use super::output::stdout;
use super::time;
use crate::nostr::Timestamp;

/// Arguments of `weir invite`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir invite                            print a code with which one key becomes a member
  weir invite --uses 20 --expires 30d    a code for twenty of them, good for a month
  weir invite --list                     the codes that are good: uses left, until when, who made them
  weir invite --revoke 5f0c…             a code that is good no longer; its members stay

Needs membership.key_file. `weir allow` lists the members, and `weir audit` who joined with whose invite.")]
pub struct Arguments {
    /// How many keys may join with the code
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u64,
    /// How long it is good, such as 30d [default: membership.invite_ttl_s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires: Option<u64>,
    /// What it is for; kept in the audit
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// List the codes that are good
    #[arg(long, conflicts_with_all = ["uses", "expires", "reason", "revoke"])]
    list: bool,
    /// Make a code no longer good
    #[arg(long, value_name = "CODE", conflicts_with_all = ["uses", "expires"])]
    revoke: Option<String>,
}

/// Makes an invite, or does what was asked instead.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut admin = Admin::find(global)?;
    let mut out = stdout();
    if arguments.list {
        for invite in admin.call("listinvites", json!([]))?.as_array().into_iter().flatten() {
            let text = |name: &str| shown(invite.get(name).and_then(Value::as_str).unwrap_or_default());
            let number = |name: &str| invite.get(name).and_then(Value::as_u64).unwrap_or_default();
            let until = time::display(Timestamp(number("until")));
            writeln!(out, "{}  {} uses until {until} by {}", text("code"), number("uses"), text("by"))?;
        }
    } else if let Some(code) = &arguments.revoke {
        admin.call("uninvite", json!([code, arguments.reason]))?;
    } else {
        let made = admin.call("invite", json!([arguments.uses, arguments.expires, arguments.reason]))?;
        writeln!(out, "{}", made.get("code").and_then(Value::as_str).unwrap_or_default())?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
