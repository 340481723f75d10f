//! `weir ban`, `unban`, `allow`, `unallow`, `audit` and `manage`: what admins do over HTTP, as commands.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::admin::Admin;
use super::global::Global;
use super::output::stdout;
use super::time;
use crate::management::Subject;
use crate::nostr::Timestamp;

/// Arguments of `weir ban` and `weir allow`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir ban npub1… --reason spam          refuse the key's events from now on; what is stored stays (see weir purge)
  weir ban note1…                        remove the event and keep it out; or event:<64 hex digits>
  weir ban 192.0.2.7 198.51.100.0/24     close connections of these addresses, and refuse new ones
  weir allow npub1…                      accept a key that access.allow_pubkeys does not name; lifts a ban
  weir allow kind:30023                  accept a kind that access.allow_kinds does not name

Without a subject, lists what is banned or allowed. Acts through the relay that runs on this store (admin.sock in its \
directory). If none runs, it changes the files that the next start reads.")]
pub struct Decide {
    /// A key (npub1… or 64 hex digits), an event (note1… or event:<hex>), a kind (kind:1984), an address or a prefix
    subjects: Vec<Subject>,
    /// Why; kept in the audit, and shown in lists
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Arguments of `weir unban` and `weir unallow`.
#[derive(clap::Args)]
pub struct TakeBack {
    /// What `weir ban` or `weir allow` was given
    #[arg(required = true)]
    subjects: Vec<Subject>,
}

/// Arguments of `weir audit`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir audit                 the latest acts: who decided what, when and why
  weir audit --undo 17       undo act 17, unless a later act concerns the same subject")]
pub struct Audit {
    /// How many acts to show
    #[arg(long, value_name = "N", default_value_t = 50)]
    count: u64,
    /// Acts to skip, from the newest
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u64,
    /// Undo an act
    #[arg(long, value_name = "NUMBER")]
    undo: Option<u64>,
    /// Show one JSON object per line
    #[arg(long)]
    json: bool,
}

/// Arguments of `weir manage`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir manage supportedmethods
  weir manage changerelayname 'By the sea'
  weir manage listbannedpubkeys 100 200      the third hundred")]
pub struct Manage {
    /// A method of NIP-86
    method: String,
    /// Its parameters, each as JSON or plain text
    params: Vec<String>,
}

/// Decisions to ask for at a time.
const PAGE: u64 = 10_000;

/// What a command does to its subjects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `weir ban`.
    Ban,
    /// `weir allow`.
    Allow,
    /// `weir unban`.
    Unban,
    /// `weir unallow`.
    Unallow,
}

/// The method for this verb and subject, and its first parameter.
fn method(verb: Verb, subject: &Subject) -> anyhow::Result<(&'static str, Value)> {
    Ok(match (verb, subject) {
        (Verb::Ban, Subject::Key(key)) => ("banpubkey", json!(key.to_string())),
        (Verb::Unban, Subject::Key(key)) => ("unbanpubkey", json!(key.to_string())),
        (Verb::Allow, Subject::Key(key)) => ("allowpubkey", json!(key.to_string())),
        (Verb::Unallow, Subject::Key(key)) => ("unallowpubkey", json!(key.to_string())),
        (Verb::Ban, Subject::Event(id)) => ("banevent", json!(id.to_string())),
        (Verb::Unban, Subject::Event(id)) => ("unbanevent", json!(id.to_string())),
        (Verb::Allow, Subject::Event(id)) => ("allowevent", json!(id.to_string())),
        (Verb::Ban | Verb::Unallow, Subject::Kind(kind)) => ("disallowkind", json!(kind.0)),
        (Verb::Allow | Verb::Unban, Subject::Kind(kind)) => ("allowkind", json!(kind.0)),
        (Verb::Ban, Subject::Address(network)) => ("blockip", json!(network.to_string())),
        (Verb::Unban, Subject::Address(network)) => ("unblockip", json!(network.to_string())),
        _ => anyhow::bail!("this command does not apply to {subject}"),
    })
}

/// Decides about each subject, or lists what was decided.
pub fn decide(global: &Global, verb: Verb, arguments: &Decide) -> anyhow::Result<ExitCode> {
    let mut admin = Admin::find(global)?;
    if arguments.subjects.is_empty() {
        let lists: &[&str] = match verb {
            Verb::Ban => &["listbannedpubkeys", "listbannedevents", "listblockedips", "listdisallowedkinds"],
            _ => &["listallowedpubkeys", "listallowedkinds"],
        };
        return list(&mut admin, lists);
    }
    let calls: Vec<_> =
        arguments.subjects.iter().map(|subject| method(verb, subject)).collect::<anyhow::Result<_>>()?;
    for (method, subject) in calls {
        admin.call(method, json!([subject, arguments.reason]))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes decisions back.
pub fn take_back(global: &Global, verb: Verb, arguments: &TakeBack) -> anyhow::Result<ExitCode> {
    let mut admin = Admin::find(global)?;
    let calls: Vec<_> =
        arguments.subjects.iter().map(|subject| method(verb, subject)).collect::<anyhow::Result<_>>()?;
    for (method, subject) in calls {
        admin.call(method, json!([subject]))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(admin: &mut Admin, lists: &[&str]) -> anyhow::Result<ExitCode> {
    let mut out = stdout();
    for method in lists {
        let mut skip = 0;
        loop {
            let listed = admin.call(method, json!([PAGE, skip]))?;
            let page = listed.as_array().map(Vec::as_slice).unwrap_or_default();
            for entry in page {
                let text = |name: &str| entry.get(name).and_then(Value::as_str);
                let subject = text("pubkey").map(|key| format!("key:{key}"));
                let subject = subject.or_else(|| text("id").map(|id| format!("event:{id}")));
                let subject = subject.or_else(|| text("ip").map(|ip| format!("address:{ip}")));
                let subject = subject.unwrap_or_else(|| format!("kind:{entry}"));
                writeln!(out, "{}", format!("{subject}  {}", shown(text("reason").unwrap_or_default())).trim_end())?;
            }
            skip += page.len();
            // Kinds have no pages.
            if page.is_empty() || method.ends_with("kinds") {
                break;
            }
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// A text that somebody else wrote, without what a terminal obeys.
pub fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_direction(c) { ' ' } else { c }).collect()
}

const fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Shows the audit, or takes an act back.
pub fn audit(global: &Global, arguments: &Audit) -> anyhow::Result<ExitCode> {
    let mut admin = Admin::find(global)?;
    if let Some(number) = arguments.undo {
        admin.call("undo", json!([number]))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = stdout();
    let (mut left, mut skip, mut last) = (arguments.count, arguments.skip, u64::MAX);
    while left > 0 {
        let acts = admin.call("audit", json!([left, skip]))?;
        let page = acts.as_array().map(Vec::as_slice).unwrap_or_default();
        if page.is_empty() {
            break;
        }
        for act in page {
            // A new act moves those after it by one.
            let number = act.get("number").and_then(Value::as_u64).unwrap_or_default();
            if number >= last {
                continue;
            }
            (last, left) = (number, left.saturating_sub(1));
            if arguments.json {
                writeln!(out, "{act}")?;
            } else {
                writeln!(out, "{}", line(act))?;
            }
        }
        skip += page.len() as u64;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// An act on one line: number, time, who, what, and why.
fn line(act: &Value) -> String {
    let text = |name: &str| act.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| act.get(name).and_then(Value::as_u64);
    let mut line = format!(
        "{:>6}  {}  {}  {} {}",
        number("number").unwrap_or_default(),
        time::display(Timestamp(number("at").unwrap_or_default())),
        shown(text("by")),
        text("method"),
        text("subject")
    );
    if let Some(undone) = number("undoes") {
        line += &format!(" (act {undone})");
    }
    if let Some(events) = number("events") {
        line += &format!(" ({events} events)");
    }
    let given = act.pointer("/change/after/text").and_then(Value::as_str).unwrap_or_default();
    let reason = if text("reason").is_empty() { given } else { text("reason") };
    if reason.is_empty() { line } else { format!("{line}: {}", shown(reason)) }
}

/// Calls a method and shows its result as JSON.
pub fn manage(global: &Global, arguments: &Manage) -> anyhow::Result<ExitCode> {
    let mut admin = Admin::find(global)?;
    let param = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    let result = admin.call(&arguments.method, arguments.params.iter().map(param).collect())?;
    let mut out = stdout();
    writeln!(out, "{result}")?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
