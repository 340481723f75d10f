//! Reads one list file: an entry per line, such as a key or an address. `#` starts a comment.
//!
//! Whatever the file is, reading it ends, and takes no more memory than its entries.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use crate::plugin::FileVersion;

/// The maximum number of entries in a file. A key takes about 40 bytes of memory.
const ENTRIES: usize = 4_000_000;

/// The maximum size of a file.
const FILE_BYTES: u64 = 1 << 30;

/// The maximum length of a line: an `npub` has 63 bytes, and a comment may follow it.
const LINE_BYTES: usize = 4096;

/// The maximum number of faults reported per file.
const FAULTS: usize = 10;

/// Reads a file whose lines are each read by `parse`. Returns which version of the file it was, too.
///
/// # Errors
/// Its faults, each with file and line.
pub fn read<T, S: FromIterator<T>>(
    path: &Path,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<(S, FileVersion), Vec<String>> {
    let name = path.display();
    let (file, version) = open(path).map_err(|error| vec![format!("{name}: {error}")])?;
    let (mut lines, mut line) = (BufReader::new(file), Vec::new());
    let (mut entries, mut faults) = (Vec::new(), Vec::new());
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
        match parse(text) {
            Ok(_) if entries.len() >= ENTRIES => {
                return Err(vec![format!("{name}:{number}: more than {ENTRIES} entries")]);
            }
            Ok(entry) => entries.push(entry),
            Err(error) => faults.push(format!("{name}:{number}: {error}")),
        }
        if faults.len() == FAULTS {
            break;
        }
    }
    if faults.is_empty() { Ok((entries.into_iter().collect(), version)) } else { Err(faults) }
}

/// Opens a regular file of an acceptable size: opening a pipe would wait for whoever writes to it.
fn open(path: &Path) -> io::Result<(File, FileVersion)> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.len() > FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {FILE_BYTES} bytes")));
    }
    Ok((file, FileVersion::of(&metadata)))
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
        let keys = |file: &Option<crate::policy::KeyFile>| file.as_ref().expect("a file").held.clone();
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
