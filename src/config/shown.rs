//! The configuration as the dashboard shows it: every key with its value, and its default where that is another one.
//!
//! Claims of invites are secrets, so are users and passwords in addresses, and no file's content is shown.

use toml::{Table, Value};

use super::cluster::without_password;
use super::sections::Config;
use crate::server::Setting;

/// Keys whose value is not shown.
const SECRET: [&str; 1] = ["membership.claims"];

impl Config {
    /// Every key, in alphabetical order within its section.
    ///
    /// # Panics
    /// Never: every section consists of TOML values.
    #[must_use]
    pub fn shown(&self) -> Vec<Setting> {
        let table = |config: &Self| Table::try_from(config).expect("every section consists of TOML values");
        let mut settings = Vec::new();
        add(&table(self), Some(&table(&Self::default())), "", &mut settings);
        settings
    }
}

fn add(table: &Table, default: Option<&Table>, prefix: &str, settings: &mut Vec<Setting>) {
    for (name, value) in table {
        let (key, default) = (format!("{prefix}{name}"), default.and_then(|default| default.get(name)));
        if let Value::Table(inner) = value {
            add(inner, default.and_then(Value::as_table), &format!("{key}."), settings);
            continue;
        }
        let shown = if SECRET.contains(&&*key) && Some(value) != default { "(not shown)".into() } else { text(value) };
        let default = default.filter(|default| *default != value).map(text);
        settings.push(Setting { key, value: shown, default });
    }
}

/// A value on one line.
fn text(value: &Value) -> String {
    match value {
        // serde writes floats and inline tables of lists as TOML does.
        Value::Array(values) => format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(", ")),
        Value::Table(table) => {
            let pairs: Vec<String> = table.iter().map(|(key, value)| format!("{key} = {}", text(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::String(address) if address.contains("://") => Value::from(without_password(address)).to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_shown_and_what_differs_with_its_default_and_secrets_never() {
        let text = "[limits]\nmax_filters = 7\n[auth]\nurls = [\"wss://a.example\"]\n[storage]\n\
                    retention = [{ kinds = [7], max_age = \"9d\" }]";
        let config = Config::parse("weir.toml", text).expect("a configuration");
        let mut shown = config.shown();
        assert!(shown.len() > 100, "{}", shown.len());
        shown.retain(|setting| setting.default.is_some());
        let of = |key: &str, value: &str, default: &str| Setting {
            key: key.into(),
            value: value.into(),
            default: Some(default.into()),
        };
        assert_eq!(
            shown,
            [
                of("auth.urls", "[\"wss://a.example\"]", "[]"),
                of("limits.max_filters", "7", "100"),
                of("storage.retention", "[{ kinds = [7], max_age = \"9d\" }]", "[]"),
            ]
        );
        assert!(Config::default().shown().iter().all(|setting| setting.default.is_none()));
        let mut secret = Config::default();
        secret.membership.claims = vec!["opensesame".into()];
        secret.cluster.servers = vec!["tls://user:hush@nats.example:4222".into()];
        let told = serde_json::to_string(&secret.shown()).expect("JSON");
        assert!(!told.contains("opensesame") && told.contains("(not shown)"), "{told}");
        assert!(!told.contains("hush") && told.contains("tls://nats.example:4222"), "{told}");
    }
}
