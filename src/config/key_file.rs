//! Key files that retention rules refer to: one `npub` or 64 hexadecimal digits per line.
//!
//! They are read together with the configuration and are not watched; a reload reads them again.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::error::Fault;
use crate::nostr::bech32::parse_pubkey;
use crate::policy::{KeyFile, KeySet, Rule};

/// The maximum number of keys in a file. A key takes about 40 bytes of memory.
const KEYS: usize = 1_000_000;

/// The maximum length of a line: an `npub` has 63 bytes, and a comment may follow it.
const LINE_BYTES: usize = 4096;

/// The maximum number of faults reported per file.
const FAULTS: usize = 10;

/// Reads every file that the rules refer to. Relative paths are resolved against `directory`.
pub fn read_all(rules: &mut [Rule], directory: &Path) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, rule) in (1..).zip(rules) {
        let selector = &mut rule.selector;
        let files =
            [("authors_file", &mut selector.authors_file), ("not_authors_file", &mut selector.not_authors_file)];
        for (key, file) in files {
            let Some(named) = file.take() else { continue };
            let path = directory.join(named.path());
            match read(&path) {
                Ok(keys) => *file = Some(KeyFile::with_keys(named, keys)),
                Err(texts) => {
                    let fault = |text| Fault { key: format!("storage.retention[{number}].{key}").into(), text };
                    faults.extend(texts.into_iter().map(fault));
                }
            }
        }
    }
    faults
}

/// Reads one file.
///
/// # Errors
/// Its faults, each with file and line.
fn read(path: &Path) -> Result<KeySet, Vec<String>> {
    let name = path.display();
    let file = File::open(path).map_err(|error| vec![format!("{name}: {error}")])?;
    let (mut lines, mut line) = (BufReader::new(file), Vec::new());
    let (mut keys, mut faults) = (KeySet::default(), Vec::new());
    for number in 1_u64.. {
        match next_line(&mut lines, &mut line) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return Err(vec![format!("{name}:{number}: {error}")]),
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.split('#').next().unwrap_or_default().trim().trim_start_matches('\u{feff}');
        if text.is_empty() {
            continue;
        }
        match parse_pubkey(text) {
            Ok(_) if keys.len() >= KEYS => {
                return Err(vec![format!("{name}:{number}: more than {KEYS} keys")]);
            }
            Ok(key) => keys.insert(key),
            Err(error) => faults.push(format!("{name}:{number}: {error}")),
        }
        if faults.len() == FAULTS {
            break;
        }
    }
    if faults.is_empty() { Ok(keys) } else { Err(faults) }
}

/// Reads the next line into `line`; returns false at the end of the file.
///
/// # Errors
/// When the file cannot be read, or the line is longer than [`LINE_BYTES`].
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let length = io::Read::take(&mut *lines, LINE_BYTES as u64 + 1).read_until(b'\n', line)?;
    if length > LINE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line of more than {LINE_BYTES} bytes")));
    }
    Ok(length > 0)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use crate::nostr::Pubkey;
    use crate::nostr::bech32::npub;

    /// Parses a configuration whose only rule refers to `authors.txt` and `others.txt` in the same directory.
    fn parse(authors: &[u8], others: Option<&[u8]>) -> Result<Config, Vec<String>> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("authors.txt"), authors).expect("a file");
        let mut text = String::from("[[storage.retention]]\nauthors_file = \"authors.txt\"\n");
        if let Some(others) = others {
            std::fs::write(dir.path().join("others.txt"), others).expect("a file");
            text.push_str("not_authors_file = \"others.txt\"\n");
        }
        let file = dir.path().join("weir.toml");
        let said = Config::parse(&file.display().to_string(), &text);
        let directory = format!("{}/", dir.path().display());
        said.map_err(|error| error.to_string().replace(&directory, "").lines().map(String::from).collect())
    }

    #[test]
    fn a_file_holds_an_npub_or_hex_key_per_line_and_is_found_in_the_directory_of_the_configuration() {
        let [first, second, third] = [1, 2, 3].map(|byte| Pubkey([byte; 32]));
        let text = format!("\u{feff}# members\n{}  # the first\r\n\n  {second}\n{second}", npub(&first));
        let config = parse(text.as_bytes(), Some(third.to_string().as_bytes())).expect("a configuration");
        let selector = &config.storage.retention[0].selector;
        let keys = |file: &Option<crate::policy::KeyFile>| file.as_ref().expect("a file").keys.clone();
        assert_eq!(keys(&selector.authors_file), [first, second].into_iter().collect());
        assert_eq!(keys(&selector.not_authors_file), [third].into_iter().collect());
        assert!(config.to_toml().contains("authors_file = \"authors.txt\""));
    }

    #[test]
    fn lines_that_are_not_keys_are_reported_with_file_and_line_and_so_is_a_file_that_is_missing_or_empty() {
        let key = Pubkey([1; 32]).to_string();
        let told = |text: &[u8]| parse(text, None).expect_err("a fault");
        assert_eq!(
            told(format!("{key}\nalice\n# fine\nnsec1xyz\n").as_bytes()),
            [
                "weir.toml:2:1: storage.retention[1].authors_file: authors.txt:2: a public key is npub1… or 64 lower-case hexadecimal digits",
                "weir.toml:2:1: storage.retention[1].authors_file: authors.txt:4: this is a private key (nsec); give the public key (npub)",
            ]
        );
        assert_eq!(
            told(b"# nobody\n"),
            [
                "weir.toml:2:1: storage.retention[1].authors_file: the file contains no keys, so the rule selects nothing"
            ]
        );
        assert_eq!(told(&b"x\n".repeat(50)).len(), 10);
        for hostile in [vec![b'a'; 10_000], vec![0; 5000], b"\xff\xfe\n".to_vec()] {
            assert_eq!(told(&hostile).len(), 1);
        }
        let absent = Config::parse("/nonexistent/weir.toml", "storage.retention = [{ authors_file = \"a.txt\" }]\n");
        let said = absent.expect_err("a fault").to_string();
        assert!(
            said.starts_with(
                "/nonexistent/weir.toml:1:24: storage.retention[1].authors_file: /nonexistent/a.txt: No such"
            ),
            "{said}"
        );
    }

    #[test]
    fn a_file_whose_keys_changed_counts_as_a_change_of_the_rules() {
        let [old, new] = [1, 2].map(|byte| parse(Pubkey([byte; 32]).to_string().as_bytes(), None).expect("good"));
        assert_eq!(old.changes(&new).live, ["storage.retention"]);
        assert!(old.changes(&old).is_empty());
        assert_ne!(old.settings(), new.settings());
    }
}
