//! Reads a file with one secret: a key, the relay's own or a stream's, as `nsec1…` or 64 hexadecimal digits, or
//! another entry of one line.
//!
//! What it holds is in no message.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use super::error::Fault;
use super::list_file;
use crate::nostr::bech32::parse_secret;
use crate::policy::SecretFile;

/// Reads the file that `key` names, if there is one. A relative path is resolved against `directory`.
pub fn read(key: &str, file: &mut SecretFile, directory: &Path) -> Vec<Fault> {
    let parse = |text: &str| {
        parse_secret(text)
            .map(Arc::new)
            .ok_or_else(|| "this is not a secret key: nsec1… or 64 lower-case hexadecimal digits".to_owned())
    };
    match read_only_entry(key, &file.path, directory, "keys", parse) {
        Ok(None) => Vec::new(),
        Ok(Some((entry, is_open_to_others))) => {
            (file.signer, file.is_open_to_others) = (Some(entry), is_open_to_others);
            Vec::new()
        }
        Err(faults) => faults,
    }
}

/// The entry of a file that must hold exactly one, and whether others than its owner may read the file. Nothing if
/// `file` is empty: then the configuration names no file. `what` names entries in messages.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn read_only_entry<T>(
    key: &str,
    file: &str,
    directory: &Path,
    what: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<(T, bool)>, Vec<Fault>> {
    if file.is_empty() {
        return Ok(None);
    }
    let path = directory.join(file);
    let texts = match list_file::read::<T, Vec<_>>(&path, parse) {
        Ok((mut entries, _)) if entries.len() == 1 => {
            let mode = path.metadata().map_or(0, |metadata| metadata.permissions().mode());
            return Ok(entries.pop().map(|entry| (entry, mode & 0o077 != 0)));
        }
        Ok((entries, _)) => vec![format!("{}: holds {} {what}, not one", path.display(), entries.len())],
        Err(texts) => texts,
    };
    Err(texts.into_iter().map(|text| Fault { key: key.to_owned().into(), text }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const KEY: &str = "membership.key_file";

    #[test]
    fn the_key_is_read_and_what_is_wrong_with_the_file_is_told_without_its_content() {
        let home = tempfile::tempdir().expect("a directory");
        let (config, file) = (home.path().join("weir.toml"), home.path().join("relay.key"));
        let told = |held: &str| {
            std::fs::write(&file, held).expect("a file");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("a mode");
            let read = Config::parse(&config.to_string_lossy(), "membership.key_file = \"relay.key\"");
            read.map(|config| config.membership.own_key()).map_err(|error| error.to_string())
        };
        let secret = "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa";
        let public = told(&format!("# the relay\n{secret}\n")).expect("a key");
        let expected = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";
        assert_eq!(public.map(|key| key.to_string()), Some(expected.into()));
        for (held, why) in [
            (secret.to_uppercase(), "relay.key:1: this is not a secret key"),
            ("0".repeat(64), "relay.key:1: this is not a secret key"),
            (String::new(), "relay.key: holds 0 keys, not one"),
            (format!("{secret}\n{secret}\n"), "relay.key: holds 2 keys, not one"),
        ] {
            let said = told(&held).expect_err("a fault");
            assert!(said.starts_with(&format!("{}:1:12: {KEY}: ", config.display())), "{said}");
            assert!(said.contains(why) && !said.contains(&secret[..8]), "{said}");
        }
        std::fs::remove_file(&file).expect("a file");
        let gone = Config::parse(&config.to_string_lossy(), "membership.key_file = \"relay.key\"");
        assert!(gone.is_err_and(|error| error.to_string().contains("No such file")));
    }

    #[test]
    fn a_key_that_others_may_read_is_warned_about() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("relay.key");
        std::fs::write(&file, "07".repeat(32)).expect("a file");
        let warned = |mode| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("a mode");
            let text = format!("membership.key_file = {:?}", file.display().to_string());
            Config::parse("weir.toml", &text).expect("a configuration").warnings()
        };
        assert_eq!(warned(0o600), [""; 0]);
        assert_eq!(warned(0o640), [format!("{KEY}: others than its owner may read the relay's secret key: chmod 600")]);
    }
}
