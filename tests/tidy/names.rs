//! Names say what a thing is, in the words of Nostr, LMDB and the RFCs, and no two files of a module share one.

use std::collections::BTreeMap;

use super::super::{code, documents, files, is_test_file, names_after, prose};

/// Private metaphors: words that only their author understands.
const METAPHORS: [&str; 18] = [
    "bury", "buried", "fate", "fates", "meet", "beside", "leap", "patience", "riders", "rode", "chores", "sight",
    "thin", "bell", "door", "seat", "fuse", "crowd",
];

/// Participles and pronouns that name no thing; they do as a part of a name, such as `LogLeftover`.
const BARE: [&str; 24] = [
    "About", "Ahead", "Beside", "Counted", "Done", "Due", "Found", "Got", "Heard", "Here", "Kept", "Left", "Look",
    "Looping", "More", "Onward", "Own", "Passing", "Said", "Seen", "Taken", "Told", "When", "Which",
];

/// What English says more simply.
const TRANSLATED: [&str; 3] = ["anew", "what must go", "from which on"];

/// Files that may stand in every folder.
const COMMON_FILES: [&str; 4] = ["mod.rs", "tests.rs", "fuzz.rs", "testing.rs"];

#[test]
fn no_item_is_named_by_a_metaphor() {
    let mut wrong = Vec::new();
    for (path, text) in files("src", ".rs").into_iter().chain(files("loadtest/src", ".rs")) {
        let code = code(&text);
        let items = ["fn ", "struct ", "enum ", "trait ", "mod ", "type ", "const ", "static "];
        for name in items.iter().flat_map(|item| names_after(&code, item)) {
            if words(name).any(|word| METAPHORS.contains(&word.as_str())) && !is_test_file(&path) {
                wrong.push(format!("{path}: {name}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn no_type_is_named_by_a_bare_participle() {
    let mut wrong = Vec::new();
    for (path, text) in files("src", ".rs").into_iter().chain(files("loadtest/src", ".rs")) {
        let code = code(&text);
        let items = ["struct ", "enum ", "trait "];
        let bare = items.iter().flat_map(|item| names_after(&code, item)).filter(|name| BARE.contains(name));
        wrong.extend(bare.filter(|_| !is_test_file(&path)).map(|name| format!("{path}: {name}")));
    }
    assert_eq!(wrong, [""; 0]);
}

/// The words of a name in snake or camel case, in lower case.
fn words(name: &str) -> impl Iterator<Item = String> {
    let parts = name.split('_').flat_map(|part| {
        let mut words = vec![String::new()];
        for letter in part.chars() {
            let begins = letter.is_uppercase() && words.last().is_some_and(|word| !word.is_empty());
            if begins && part.chars().any(char::is_lowercase) {
                words.push(String::new());
            }
            words.last_mut().expect("one at the least").extend(letter.to_lowercase());
        }
        words
    });
    parts.collect::<Vec<_>>().into_iter()
}

#[test]
fn names_are_split_into_their_words() {
    let split = |name| words(name).collect::<Vec<_>>();
    assert_eq!(split("thin_index"), ["thin", "index"]);
    assert_eq!(split("ThinIndex"), ["thin", "index"]);
    assert_eq!(split("MAX_THIN"), ["max", "thin"]);
    assert_eq!(split("thing"), ["thing"]);
}

#[test]
fn prose_is_not_translated() {
    let mut wrong = Vec::new();
    let pages = documents().into_iter().chain(files("src", ".rs")).chain(files("config", ".toml"));
    for (path, text) in pages {
        let lines = prose(&path, &text).into_iter().map(|(number, line)| (number, line.to_lowercase()));
        for (number, line) in lines {
            let words = format!(" {} ", line.replace(|c: char| !c.is_alphanumeric(), " "));
            let said = TRANSLATED.iter().filter(|phrase| words.contains(&format!(" {phrase} ")));
            wrong.extend(said.map(|phrase| format!("{path}:{number} says {phrase:?}")));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// A file is told from others by its module, or by the module below that.
#[test]
fn no_two_files_of_a_module_have_one_name() {
    let mut wrong = Vec::new();
    for top in ["src", "loadtest/src"] {
        let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for path in files(top, ".rs").into_keys().filter(|path| !is_test_file(path)) {
            let below = path.strip_prefix(top).expect("a path below the top").trim_start_matches('/');
            let (folder, name) = below.rsplit_once('/').unwrap_or(("", below));
            let module = folder.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
            if !COMMON_FILES.contains(&name) {
                found.entry((module, name.to_owned())).or_default().push(path);
            }
        }
        wrong.extend(found.into_values().filter(|paths| paths.len() > 1));
    }
    assert_eq!(wrong, [[""; 0]; 0]);
}

/// What a maintainer looks for.
const PAGES: [&str; 8] = [
    "## Stopping",
    "## Locks and their order",
    "## Memory",
    "## Where to change what",
    "**To add a client message:**",
    "**To add a configuration key:**",
    "**To add an index:**",
    "**To add a table:**",
];

#[test]
fn the_architecture_has_the_pages_that_maintainers_look_for() {
    let text = &documents()["ARCHITECTURE.md"];
    let missing: Vec<_> = PAGES.iter().filter(|page| !text.lines().any(|line| line.starts_with(*page))).collect();
    assert_eq!(missing, [&""; 0]);
}
