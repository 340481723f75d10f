//! The lists that the operator keeps in files of their own: which key names which file, and reading them with the
//! configuration and again when they change.
//!
//! The files of retention rules are read with the configuration only: other rules may remove events.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use super::error::{Fault, Problem};
use super::list_file;
use crate::nostr::Pubkey;
use crate::nostr::bech32::parse_pubkey;
use crate::plugin::FileVersion;
use crate::policy::{Access, AddressFile, KeyFile, Network, Rule};

/// The list files in use.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListFiles(Vec<Watched>);

/// A file that is read again when it changes.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Watched {
    key: &'static str,
    path: PathBuf,
    /// The version that was read last, good or bad.
    version: FileVersion,
}

/// What reading changed files again has led to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RereadLists {
    /// The keys whose lists are new.
    pub changed: Vec<&'static str>,
    /// What is wrong with files that are not taken: their former lists stay in force.
    pub problems: Vec<Problem>,
}

/// The file of a key.
enum File<'a> {
    Keys(&'a mut KeyFile),
    Addresses(&'a mut AddressFile),
}

/// The files that are read again when they change, by their keys.
fn files(access: &mut Access) -> [(&'static str, File<'_>); 6] {
    [
        ("access.allow_pubkeys_file", File::Keys(&mut access.allow_pubkeys_file)),
        ("access.deny_pubkeys_file", File::Keys(&mut access.deny_pubkeys_file)),
        ("access.mute_pubkeys_file", File::Keys(&mut access.mute_pubkeys_file)),
        ("access.listed_pubkeys_file", File::Keys(&mut access.listed_pubkeys_file)),
        ("access.allow_addresses_file", File::Addresses(&mut access.allow_addresses_file)),
        ("access.deny_addresses_file", File::Addresses(&mut access.deny_addresses_file)),
    ]
}

impl File<'_> {
    fn path(&self) -> &str {
        match self {
            Self::Keys(file) => &file.path,
            Self::Addresses(file) => &file.path,
        }
    }

    /// Reads the file at `path`. Its former list stays where it has faults.
    fn read(self, path: &Path) -> Result<FileVersion, Vec<String>> {
        match self {
            Self::Keys(file) => list_file::read(path, parse_key).map(|read| take(&mut file.held, read)),
            Self::Addresses(file) => list_file::read(path, parse_network).map(|read| take(&mut file.held, read)),
        }
    }
}

fn take<S>(held: &mut S, (new, version): (S, FileVersion)) -> FileVersion {
    *held = new;
    version
}

fn parse_key(text: &str) -> Result<Pubkey, String> {
    parse_pubkey(text).map_err(|error| error.to_string())
}

fn parse_network(text: &str) -> Result<Network, String> {
    Network::from_str(text).map_err(|error| error.to_string())
}

/// Reads every file that the lists and rules name. Relative paths are resolved against `directory`.
pub fn read_all(access: &mut Access, rules: &mut [Rule], directory: &Path) -> (ListFiles, Vec<Fault>) {
    let mut faults = read_rules(rules, directory);
    let mut watched = Vec::new();
    for (key, file) in files(access) {
        if file.path().is_empty() {
            continue;
        }
        let path = directory.join(file.path());
        match file.read(&path) {
            Ok(version) => watched.push(Watched { key, path, version }),
            Err(texts) => faults.extend(texts.into_iter().map(|text| Fault { key: key.into(), text })),
        }
    }
    (ListFiles(watched), faults)
}

fn read_rules(rules: &mut [Rule], directory: &Path) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, rule) in (1..).zip(rules) {
        let selector = &mut rule.selector;
        let files =
            [("authors_file", &mut selector.authors_file), ("not_authors_file", &mut selector.not_authors_file)];
        for (key, file) in files {
            let Some(file) = file else { continue };
            let path = directory.join(&file.path);
            let Err(texts) = File::Keys(file).read(&path) else { continue };
            let fault = |text| Fault { key: format!("storage.retention[{number}].{key}").into(), text };
            faults.extend(texts.into_iter().map(fault));
        }
    }
    faults
}

impl ListFiles {
    /// Reads the files again that are others than those that were read. One that is missing has not changed: it may be
    /// about to be replaced.
    pub fn read_changed(&mut self, access: &mut Access) -> RereadLists {
        let mut reread = RereadLists::default();
        for (key, file) in files(access) {
            let Some(watched) = self.0.iter_mut().find(|watched| watched.key == key) else { continue };
            let Some(version) = FileVersion::at(&watched.path).filter(|version| *version != watched.version) else {
                continue;
            };
            match file.read(&watched.path) {
                Ok(version) => {
                    watched.version = version;
                    reread.changed.push(key);
                }
                Err(texts) => {
                    // Told once, not every second.
                    watched.version = version;
                    let problem = |text| Problem { place: None, key: key.into(), text };
                    reread.problems.extend(texts.into_iter().map(problem));
                }
            }
        }
        reread
    }
}
