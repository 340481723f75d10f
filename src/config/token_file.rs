//! Reads the file with the token of the feed of changes: one line.
//!
//! What it holds is in no message, and only its hash is kept.

use std::path::Path;

use super::error::Fault;
use super::secret_file::read_only_entry;
use crate::server::{TokenFile, TokenHash};

const KEY: &str = "changes.token_file";

/// The shortest token, in characters: 128 bits in hexadecimal digits.
const SHORTEST: usize = 32;

/// Reads the file, if there is one. A relative path is resolved against `directory`.
pub fn read(file: &mut TokenFile, directory: &Path) -> Vec<Fault> {
    let parse = |text: &str| {
        let is_token = text.len() >= SHORTEST && text.bytes().all(|byte| byte.is_ascii_graphic());
        let why = || format!("this is not a token: at least {SHORTEST} characters of ASCII without a space or #");
        is_token.then(|| TokenHash::of(text)).ok_or_else(why)
    };
    match read_only_entry(KEY, &file.path, directory, "tokens", parse) {
        Ok(None) => Vec::new(),
        Ok(Some((entry, is_open_to_others))) => {
            (file.token, file.is_open_to_others) = (Some(entry), is_open_to_others);
            Vec::new()
        }
        Err(faults) => faults,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::Config;

    #[test]
    fn the_token_is_read_and_what_is_wrong_with_the_file_is_told_without_its_content() {
        let home = tempfile::tempdir().expect("a directory");
        let (config, file) = (home.path().join("weir.toml"), home.path().join("changes.token"));
        let read = |held: &str, mode: u32| {
            std::fs::write(&file, held).expect("a file");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("a mode");
            Config::parse(&config.to_string_lossy(), "changes.token_file = \"changes.token\"")
        };
        let token = "67dea2ed018072d675f5415ecfaed7d2";
        for (mode, warnings) in
            [(0o600, vec![]), (0o644, vec![format!("{KEY}: others than its owner may read the token: chmod 600")])]
        {
            let config = read(&format!("# for the mirror\n{token}\n"), mode).expect("a token");
            assert_eq!(config.changes.token_file.token, Some(TokenHash::of(token)));
            assert_eq!(config.warnings(), warnings);
            assert!(!config.to_toml().contains(token));
        }
        let wrong = "this is not a token: at least 32 characters of ASCII without a space or #";
        for (held, why) in [
            (token[1..].to_owned(), format!("changes.token:1: {wrong}")),
            (format!("{token} {token}"), format!("changes.token:1: {wrong}")),
            (format!("{token}é"), format!("changes.token:1: {wrong}")),
            (String::new(), "changes.token: holds 0 tokens, not one".into()),
            (format!("{token}\n{token}"), "changes.token: holds 2 tokens, not one".into()),
        ] {
            let said = read(&held, 0o600).expect_err("a fault").to_string();
            assert!(said.starts_with(&format!("{}:1:9: {KEY}: ", config.display())), "{said}");
            assert!(said.ends_with(&why) && !said.contains(&token[..8]), "{said}");
        }
    }
}
