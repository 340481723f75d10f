//! Warns about settings that are valid but rarely intended. Warnings never keep the relay from starting.

use std::net::IpAddr;

use rustix::fs::{Access, access};

use super::replication::StreamOptions;
use super::sections::Config;
use crate::policy::Audience;

/// Everything in `config` that an operator should look at.
pub fn warnings(config: &Config) -> Vec<String> {
    let why = if !config.auth.urls.is_empty() {
        None
    } else if requires_authentication(config) {
        Some("[auth] requires authentication")
    } else if is_public(config.server.listen.ip()) {
        Some("server.listen is a public address")
    } else if !config.server.trusted_proxies.is_empty() {
        Some("clients connect through a proxy")
    } else {
        None
    };
    let text = |why| {
        format!(
            "auth.urls is empty although {why}: AUTH (NIP-42) and vanish requests (NIP-62) are accepted only if they name \
             localhost, 127.0.0.1 or [::1]; set it to the URL that clients use, such as [\"wss://relay.example.com\"]"
        )
    };
    let proxy = is_behind_unknown_proxy(config).then(|| {
        "server.trusted_proxies does not name this machine, although auth.urls has a wss:// URL and server.listen is a \
         loopback address: if a proxy on this machine adds TLS, all clients share its address and escape all rates by \
         rates.exempt_addresses; set it to [\"127.0.0.0/8\", \"::1/128\"]"
            .to_string()
    });
    let key =
        config.membership.key_file.is_open_to_others.then(|| {
            "membership.key_file: others than its owner may read the relay's secret key: chmod 600".to_string()
        });
    let token = config
        .changes
        .token_file
        .is_open_to_others
        .then(|| "changes.token_file: others than its owner may read the token: chmod 600".to_string());
    why.map(text)
        .into_iter()
        .chain(proxy)
        .chain(plugin(config))
        .chain(key)
        .chain(token)
        .chain(streams(config))
        .collect()
}

/// Streams whose key others may read.
fn streams(config: &Config) -> impl Iterator<Item = String> {
    let is_open = |stream: &&StreamOptions| stream.key_file.is_open_to_others;
    config.replication.streams.iter().filter(is_open).map(|stream| {
        let (name, file) = (&stream.name, &stream.key_file.path);
        format!("replication.streams: others than its owner may read the key of {name}: chmod 600 {file}")
    })
}

/// Whether clients seem to come through a proxy on this machine that is not trusted: weir speaks no TLS.
fn is_behind_unknown_proxy(config: &Config) -> bool {
    let server = &config.server;
    let own = server.listen.ip();
    own.to_canonical().is_loopback()
        && !server.trusted_proxies.contains(own)
        && config.auth.urls.iter().any(|url| url.is_secure() && !url.is_loopback())
}

/// Why the plugin cannot be run, as far as its file tells. It may be there when it is needed, so this is no mistake.
fn plugin(config: &Config) -> Option<String> {
    let plugin = &config.plugin;
    let file = plugin.file()?;
    let why = match file.metadata() {
        Err(error) => error.to_string(),
        Ok(metadata) if !metadata.is_file() => "it is not a file".into(),
        Ok(_) => access(file, Access::EXEC_OK).err()?.to_string(),
    };
    let key = plugin.command_origin.as_ref().map_or("plugin.command".into(), ToString::to_string);
    Some(format!("{key}: {}: {why}; until it can be run, plugin.on_failure decides about events", file.display()))
}

/// Whether the operator requires authentication for something. Kinds of direct messages do so by default.
fn requires_authentication(config: &Config) -> bool {
    let auth = &config.auth;
    auth.read != Audience::Anyone
        || auth.write != Audience::Anyone
        || [&auth.read_kinds, &auth.write_kinds, &auth.author_only_kinds].iter().any(|kinds| !kinds.is_empty())
}

/// Whether strangers can reach a socket that listens on `address`. The unspecified address includes public ones.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !(address.is_loopback() || address.is_private() || address.is_link_local()),
        IpAddr::V6(address) => !(address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(text: &str) -> Option<String> {
        let warnings = Config::parse("weir.toml", text).expect("a configuration").warnings();
        assert!(warnings.len() <= 1, "{warnings:?}");
        warnings.into_iter().next()
    }

    #[test]
    fn a_relay_that_requires_authentication_or_is_public_needs_its_urls() {
        for (text, why) in [
            ("auth.read = \"authenticated\"", "[auth] requires authentication"),
            ("auth.write = \"authenticated\"", "[auth] requires authentication"),
            ("auth.read_kinds = [7]", "[auth] requires authentication"),
            ("auth.write_kinds = [7]", "[auth] requires authentication"),
            ("auth.author_only_kinds = [31234]", "[auth] requires authentication"),
            ("server.listen = \"0.0.0.0:7777\"", "server.listen is a public address"),
            ("server.listen = \"[::]:7777\"", "server.listen is a public address"),
            ("server.listen = \"203.0.113.7:7777\"", "server.listen is a public address"),
            ("server.listen = \"[::ffff:203.0.113.7]:7777\"", "server.listen is a public address"),
            ("server.trusted_proxies = [\"127.0.0.1\"]", "clients connect through a proxy"),
        ] {
            let warning = warned(text).unwrap_or_default();
            let told = format!(
                "auth.urls is empty although {why}: AUTH (NIP-42) and vanish requests (NIP-62) are accepted only if they \
                 name localhost, 127.0.0.1 or [::1]; set it to the URL that clients use, such as \
                 [\"wss://relay.example.com\"]"
            );
            assert_eq!(warning, told, "{text}");
            let urls = "auth.urls = [\"ws://relay.example.com\"]";
            assert_eq!(warned(&format!("{text}\n{urls}")), None, "{text}");
        }
        let private =
            ["127.0.0.1", "192.168.1.2", "169.254.1.2", "[::1]", "[fd00::1]", "[fe80::1]", "[::ffff:10.0.0.1]"];
        for address in private {
            assert_eq!(warned(&format!("server.listen = \"{address}:7777\"")), None, "{address}");
        }
    }

    #[test]
    fn a_proxy_on_this_machine_that_is_not_trusted_is_told() {
        let with = |lines: &str| warned(&format!("auth.urls = [\"WSS://relay.example.com\"]\n{lines}"));
        let told =
            |lines: &str| with(lines).is_some_and(|said| said.starts_with("server.trusted_proxies does not name"));
        assert!(told("") && told("server.listen = \"[::1]:7777\""));
        assert!(told("server.trusted_proxies = [\"10.0.0.1\"]"));
        for fine in [
            "server.trusted_proxies = [\"127.0.0.1\"]",
            "server.listen = \"0.0.0.0:7777\"",
            "auth.urls = [\"ws://relay.example.com\", \"wss://localhost\"]",
        ] {
            let text = if fine.starts_with("auth") {
                fine.into()
            } else {
                format!("auth.urls = [\"wss://r.example\"]\n{fine}")
            };
            assert_eq!(warned(&text), None, "{fine}");
        }
    }

    #[test]
    fn a_plugin_that_cannot_be_run_is_named_with_its_place() {
        let text = |command: &str| format!("[plugin]\nworkers = 2\ncommand = \"{command}\"\n");
        let missing = warned(&text("/nonexistent/policy")).unwrap_or_default();
        assert!(missing.starts_with("weir.toml:3:1: plugin.command: /nonexistent/policy: No such file"), "{missing}");
        let directory = warned(&text("/tmp/")).unwrap_or_default();
        assert!(directory.starts_with("weir.toml:3:1: plugin.command: /tmp/: it is not a file;"), "{directory}");
        let plain = warned(&text("/etc/passwd")).unwrap_or_default();
        assert!(plain.starts_with("weir.toml:3:1: plugin.command: /etc/passwd: Permission denied"), "{plain}");
        for fine in ["/bin/sh", "sh", "/nonexistent/policy --with words", ""] {
            assert_eq!(warned(&text(fine)), None, "{fine}");
        }
    }
}
