//! Compares two configurations: which changes apply at a reload, and which need a restart.

use toml::{Table, Value};

use super::sections::Config;

/// The sections that a reload applies from the next message on, and the keys of other sections that it applies.
/// Everything else is read once, at startup.
const LIVE: [&str; 18] = [
    "limits",
    "tiers",
    "rates",
    "auth",
    "access",
    "policy",
    "plugin",
    "membership",
    "management.admins",
    "info",
    "replication",
    "storage.max_bytes",
    "storage.min_free_disk_bytes",
    "storage.confirm_removal_percent",
    "storage.max_events_per_author",
    "storage.max_bytes_per_author",
    "storage.retention",
    "storage.default_keep",
];

/// The keys that differ, such as `limits.max_filters`, in alphabetical order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Keys that apply at once.
    pub live: Vec<String>,
    /// Keys that apply after a restart.
    pub restart: Vec<String>,
}

impl Changes {
    /// Whether nothing differs.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.live.is_empty() && self.restart.is_empty()
    }
}

/// The differences between two configurations.
pub fn compare(old: &Config, new: &Config) -> Changes {
    let mut keys = Vec::new();
    differences(&table(old), &table(new), "", &mut keys);
    // What the files hold that these refer to has changed.
    for (section, is_other) in [
        ("storage.retention", old.storage.retention != new.storage.retention),
        ("access", old.access != new.access),
        ("membership", old.membership != new.membership),
        ("replication", old.replication != new.replication),
        ("info", old.info != new.info),
    ] {
        if is_other && !keys.iter().any(|key| key.starts_with(section)) {
            keys.push(section.into());
        }
    }
    let (live, restart) =
        keys.into_iter().partition(|key: &String| LIVE.contains(&section(key)) || LIVE.contains(&&**key));
    Changes { live, restart }
}

fn section(key: &str) -> &str {
    key.split('.').next().unwrap_or(key)
}

fn table(config: &Config) -> Table {
    Table::try_from(config).expect("every section consists of TOML values")
}

fn differences(old: &Table, new: &Table, prefix: &str, keys: &mut Vec<String>) {
    let added = new.keys().filter(|name| !old.contains_key(*name));
    for name in old.keys().chain(added) {
        let path = format!("{prefix}{name}");
        match (old.get(name), new.get(name)) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => differences(old, new, &format!("{path}."), keys),
            (old, new) if old != new => keys.push(path),
            _ => {}
        }
    }
}
