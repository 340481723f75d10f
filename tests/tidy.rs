//! What holds for the sources as a whole: layers, homes of crates, sizes, and documents that tell the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

mod tidy {
    mod imports;
    mod names;
}

/// The layers of the crate, lowest first. A module uses only modules of lower layers; those of one layer do not use
/// each other.
const LAYERS: [&[&str]; 11] = [
    &["sync"],
    &["metrics", "ledger", "allocator"],
    &["schnorr"],
    &["nostr"],
    &["store", "live", "ws", "policy", "negentropy", "peer"],
    &["retention", "backup", "plugin", "management", "trust", "pages"],
    &["pipeline"],
    &["server", "import"],
    &["replication"],
    &["config"],
    &["cli"],
];

/// Where each heavy crate lives; nobody else names it.
const HOMES: [(&str, &[&str]); 19] = [
    ("shuttle", &["src/sync.rs"]),
    ("heed", &["src/store/"]),
    ("hyper", &["src/server/", "src/ws/upgrade"]),
    ("hyper_util", &["src/server/", "src/ws/upgrade"]),
    ("fastwebsockets", &["src/ws/"]),
    ("flate2", &["src/ws/", "src/import/format.rs"]),
    ("zlib_rs", &["src/ws/deflate.rs"]),
    ("zstd", &["src/import/format.rs"]),
    ("toml", &["src/config/"]),
    ("rayon", &["src/pipeline/", "src/import/"]),
    ("secp256k1", &["src/schnorr/"]),
    ("simd_json", &["src/nostr/json"]),
    ("anyhow", &["src/cli/"]),
    ("tokio_tungstenite", &["src/peer/"]),
    ("rustls", &["src/peer/"]),
    ("ratatui", &["src/cli/top/"]),
    ("maud", &["src/pages/"]),
    ("qrcode", &["src/pages/"]),
    ("async_nats", &["src/replication/cluster/"]),
];

const LONGEST_FILE: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `dir` with this ending, by its path from the root, and its text.
fn files(dir: &str, ending: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.expect("an entry of a directory").path();
            if path.is_dir() {
                let is_foreign = ["node_modules", "target"].iter().any(|name| path.ends_with(name));
                open.extend((!is_foreign).then_some(path));
            } else if path.to_string_lossy().ends_with(ending) {
                let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
                found.insert(name, std::fs::read_to_string(&path).expect("a text file"));
            }
        }
    }
    assert!(!found.is_empty(), "{dir} has no {ending}");
    found
}

/// Whether the file is compiled into tests only.
fn is_test_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.contains("/tests/")
        || path.contains("/interleavings/")
        || name.ends_with("tests.rs")
        || ["testing.rs", "oracle.rs", "fuzz.rs"].contains(&name)
}

/// The attributes of what is compiled into tests and fuzzers only.
const TEST_ONLY: [&str; 2] = ["#[cfg(test)]", "#[cfg(any(test, fuzzing))]"];

/// A file's text without its comments and without what is compiled into tests only.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !TEST_ONLY.contains(&line.trim()) {
            code.push_str(line.split("//").next().unwrap_or_default());
            code.push('\n');
            continue;
        }
        // An item ends at its own indentation, or in its line.
        let indent = &line[..line.len() - line.trim_start().len()];
        let mut item = lines.by_ref().skip_while(|line| line.trim_start().starts_with("#["));
        let is_block = item.next().is_some_and(|first| !first.ends_with([';', '}', ',']));
        if is_block {
            item.find(|line| line.strip_prefix(indent).is_some_and(|rest| rest.starts_with('}')));
        }
    }
    code
}

/// The relay's own sources, as [`code`] tells them.
fn sources() -> BTreeMap<String, String> {
    let files = files("src", ".rs").into_iter().filter(|(path, _)| !is_test_file(path));
    files.map(|(path, text)| (path, code(&text))).collect()
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The names that follow `before` in a text.
fn names_after<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(before).map(move |(at, _)| {
        let rest = &text[at + before.len()..];
        rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
    })
}

#[test]
fn a_module_uses_only_lower_layers() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        let module = path.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default().to_string();
        if module == "lib" || module == "main" {
            continue;
        }
        let layer = layer_of(&module).unwrap_or_else(|| panic!("{path} is in no layer"));
        let used = names_after(&code, "crate::").filter(|used| *used != module);
        wrong.extend(
            used.filter(|used| layer_of(used).is_none_or(|used| used >= layer))
                .map(|used| format!("{path} uses {used}")),
        );
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn each_heavy_crate_has_one_home() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        for (name, homes) in HOMES {
            let is_named = code.contains(&format!("{name}::")) && {
                let stands_alone =
                    |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
                code.match_indices(&format!("{name}::")).any(|(at, _)| stands_alone(at))
            };
            if is_named && !homes.iter().any(|home| path.starts_with(home)) {
                wrong.push(format!("{path} names {name}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn nothing_unwraps_waits_without_a_bound_or_is_left_undone() {
    let forbidden = [
        ".unwrap()",
        "unbounded",
        "mpsc::channel(",
        "todo!",
        "unimplemented!",
        "dbg!",
        "std::thread::sleep",
        "static mut",
        // They panic where nobody reads: `cli/output.rs` is the one door to standard output and standard error.
        "print!(",
        "println!(",
    ];
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        wrong.extend(forbidden.iter().filter(|word| code.contains(**word)).map(|word| format!("{path} has {word}")));
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn a_todo_names_its_issue() {
    let mut wrong = Vec::new();
    for dir in ["src", "tests", "benches", "loadtest/src"] {
        for (path, text) in files(dir, ".rs").into_iter().filter(|(path, _)| path != "tests/tidy.rs") {
            let marks = ["TODO", "FIXME", "XXX"];
            let is_bare = |line: &&str| marks.iter().any(|mark| line.contains(mark)) && !line.contains('#');
            wrong.extend(text.lines().filter(is_bare).map(|line| format!("{path}: {line}")));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let mut wrong = Vec::new();
    for dir in ["src", "tests", "benches", "loadtest/src"] {
        let longest = if dir == "src" || dir == "loadtest/src" { LONGEST_FILE } else { 600 };
        let long = files(dir, ".rs").into_iter().map(|(path, text)| (path, text.lines().count()));
        wrong.extend(long.filter(|(_, lines)| *lines > longest).map(|(path, lines)| format!("{path}: {lines}")));
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn every_module_says_what_it_is() {
    let says = |text: &str| text.starts_with("//!") || text.starts_with("#!/");
    let silent: Vec<String> =
        files("src", ".rs").into_iter().filter(|(_, text)| !says(text)).map(|(path, _)| path).collect();
    assert_eq!(silent, [""; 0]);
}

/// The documents: those of the root, and those below `docs`.
fn documents() -> BTreeMap<String, String> {
    let mut all = files("docs", ".md");
    for entry in std::fs::read_dir(root()).expect("the root") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            all.insert(name, std::fs::read_to_string(&path).expect("a text file"));
        }
    }
    all
}

/// What stands between single backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with("```")).flat_map(|line| line.split('`').skip(1).step_by(2))
}

const LONGEST_PROSE: usize = 120;

/// The lines of prose in a file, by number: in documents all but tables and blocks of code, in sources and settings
/// the comments without tables.
fn prose<'t>(path: &str, text: &'t str) -> Vec<(usize, &'t str)> {
    let lines = (1..).zip(text.lines().map(|line| (line, line.trim_start())));
    let mark = if path.ends_with(".rs") { "//" } else { "#" };
    let mut is_code = false;
    let mut is_prose = |line: &str| {
        if !path.ends_with(".md") {
            return line.starts_with(mark) && !line.contains('|');
        }
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence && !line.starts_with('|')
    };
    lines.filter_map(|(number, (line, trimmed))| is_prose(trimmed).then_some((number, line))).collect()
}

#[test]
fn prose_ends_at_120_columns() {
    let mut all = documents();
    for top in ["src", "tests", "benches", "loadtest"] {
        all.extend(files(top, ".rs"));
    }
    all.extend(files("benches", ".md"));
    all.extend(files("config", ".toml"));
    let mut wrong = Vec::new();
    for (path, text) in all.into_iter().filter(|(path, _)| !path.starts_with("benches/runs/")) {
        let long = prose(&path, &text).into_iter().filter(|(_, line)| line.chars().count() > LONGEST_PROSE);
        wrong.extend(long.map(|(number, _)| format!("{path}:{number}")));
    }
    assert_eq!(wrong, [""; 0]);
}

/// Whether this names a source file, which documents may do by its path below `src`.
fn is_source(name: &str) -> bool {
    name.ends_with(".rs") && name.contains('/') && !name.contains(' ')
}

#[test]
fn every_path_named_in_a_document_exists() {
    let tops = ["src/", "tests/", "benches/", "docs/", "config/", "systemd/", "loadtest/", "fuzz/", ".ci/"];
    let mut wrong = Vec::new();
    for (document, text) in documents() {
        let is_path = |name: &&str| tops.iter().any(|top| name.starts_with(top)) || is_source(name);
        for name in quoted(&text).filter(is_path) {
            let path = name.split([' ', ':', '#', '*', '<', '{']).next().unwrap_or(name);
            let is_below = |top: &str| root().join(top).join(path).exists();
            if !(is_below("") || (is_source(name) && is_below("src"))) {
                wrong.push(format!("{document} names {name}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn every_link_in_a_document_leads_to_a_file() {
    let mut wrong = Vec::new();
    for (document, text) in documents() {
        let folder = root().join(&document).parent().expect("a document lies in a folder").to_path_buf();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http")) {
            let file = link.split('#').next().unwrap_or_default();
            if !folder.join(file).exists() {
                wrong.push(format!("{document} links to {link}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// The names of the items that the sources of a module declare, or of all modules.
fn declared<'a>(files: &'a BTreeMap<String, String>, module: Option<&str>) -> BTreeSet<&'a str> {
    let is_in = |path: &str| module.is_none_or(|module| path.split(['/', '.']).nth(1) == Some(module));
    let texts = files.iter().filter(|(path, _)| is_in(path)).map(|(_, text)| text);
    let items = ["fn ", "struct ", "enum ", "trait ", "type ", "mod "];
    texts.flat_map(|text| items.into_iter().flat_map(move |item| names_after(text, item))).collect()
}

#[test]
fn every_item_named_in_the_architecture_exists() {
    let files = files("src", ".rs");
    let all = declared(&files, None);
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let is_word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
    let is_type = |name: &str| name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase);
    let is_item = |name: &&str| name.split("::").all(is_word) && (name.contains("::") || is_type(name));
    let exists = |name: &&str| match name.split_once("::") {
        Some((module, rest)) if layer_of(module).is_some() => {
            let declared = declared(&files, Some(module));
            rest.split("::").all(|part| declared.contains(part))
        }
        // A type of std.
        _ => *name == "Instant" || name.split("::").all(|part| all.contains(part)),
    };
    let named: Vec<&str> = quoted(&text).filter(is_item).collect();
    let wrong: Vec<&str> = named.iter().copied().filter(|name| !exists(name)).collect();
    assert_eq!(wrong, [""; 0]);
    assert!(named.len() > 40, "the map names the items that decide");
}

#[test]
fn every_file_named_in_the_architecture_exists() {
    let names: BTreeSet<String> = ["src", "tests"]
        .iter()
        .flat_map(|top| files(top, ".rs").into_keys())
        .filter_map(|path| path.rsplit('/').next().map(str::to_owned))
        .collect();
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let named: Vec<&str> = quoted(&text).filter(|name| name.ends_with(".rs") && !name.contains(['/', ' '])).collect();
    let wrong: Vec<&str> = named.iter().copied().filter(|name| !names.contains(*name)).collect();
    assert_eq!(wrong, [""; 0]);
    assert!(named.len() > 20, "the map names files by their module");
}

/// Every name between `before` and the next quotation mark or backtick.
fn named(text: &str, before: &str) -> BTreeSet<String> {
    let found = text.split(before).skip(1).filter_map(|rest| rest.split(['"', '`']).next());
    found.map(str::to_owned).collect()
}

#[test]
fn every_fuzz_target_has_its_program_and_its_row() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("a text file");
    let targets = named(&read("src/fuzz.rs"), "Target { name: \"");
    let page = read("docs/reliability.md");
    let (_, section) = page.split_once("## Fuzzing").expect("a section");
    let section = section.split("\n## ").next().unwrap_or_default();
    assert_eq!(named(section, "\n| `"), targets);
    let manifest = read("fuzz/Cargo.toml");
    assert_eq!(named(&manifest, "[[bin]]\nname = \""), targets);
    let programs = files("fuzz/fuzz_targets", ".rs");
    let stem = |path: &str| path.trim_start_matches("fuzz/fuzz_targets/").trim_end_matches(".rs").to_owned();
    assert_eq!(programs.keys().map(|path| stem(path)).collect::<BTreeSet<_>>(), targets);
    for (path, text) in programs {
        let name = stem(&path);
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n")), "{path}");
        assert_eq!(named(&text, "weir_fuzz::target!(\""), BTreeSet::from([name]), "{path}");
    }
}

/// The files that may hold the test `a::b::name`.
fn homes_of(module: &[&str]) -> Vec<PathBuf> {
    let below = |top: &str, parts: &[&str]| {
        let base = root().join(top).join(parts.join("/"));
        [base.with_extension("rs"), base.join("mod.rs"), PathBuf::from(format!("{}_tests.rs", base.display()))]
    };
    let mut parts = vec![module];
    if let [parent @ .., "tests"] = module {
        parts.push(parent);
    }
    let tops = ["src", "tests", "tests/conformance"];
    tops.iter().flat_map(|top| parts.iter().flat_map(|parts| below(top, parts)).collect::<Vec<_>>()).collect()
}

#[test]
fn every_test_named_in_a_document_exists() {
    let mut wrong = Vec::new();
    let mut named = 0;
    for (document, text) in documents() {
        let is_test = |name: &&str| {
            let last = name.rsplit("::").next().unwrap_or_default();
            name.contains("::")
                && !name.starts_with(char::is_uppercase)
                && last.matches('_').count() >= 3
                && !name.contains([' ', '(', '<', '/'])
        };
        for name in quoted(&text).filter(is_test) {
            named += 1;
            let parts: Vec<&str> = name.split("::").collect();
            let (test, module) = parts.split_last().expect("a name has parts");
            let holds = |path: &PathBuf| {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                text.contains(&format!("fn {test}("))
                    && ["#[test]", "#[tokio::test", "proptest!"].iter().any(|mark| text.contains(mark))
            };
            if !homes_of(module).iter().any(holds) {
                wrong.push(format!("{document} names {name}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert!(named > 100, "docs/protocol.md names the test of every requirement");
}

/// Close codes by the name that fastwebsockets gives them.
const CLOSE_CODES: [(&str, u16); 8] = [
    ("Away", 1001),
    ("Protocol", 1002),
    ("Unsupported", 1003),
    ("Invalid", 1007),
    ("Policy", 1008),
    ("Size", 1009),
    ("Restart", 1012),
    ("Again", 1013),
];

#[test]
fn every_code_that_closes_a_connection_is_explained_to_developers_of_clients() {
    let page = std::fs::read_to_string(root().join("docs/clients.md")).expect("docs/clients.md");
    let (_, table) = page.split_once("## How connections end").expect("a section");
    let firsts: String = table.lines().filter_map(|row| row.strip_prefix("| ")?.split(" | ").next()).collect();
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        for name in names_after(&code, "CloseCode::").filter(|name| !matches!(*name, "Normal" | "from")) {
            let known = CLOSE_CODES.iter().find(|(known, _)| *known == name);
            if known.is_none_or(|(_, number)| !firsts.contains(&number.to_string())) {
                wrong.push(format!("{path} closes with {name}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn every_conformance_test_is_named_in_the_list_of_requirements() {
    let list = std::fs::read_to_string(root().join("docs/protocol.md")).expect("docs/protocol.md");
    let mut unnamed = Vec::new();
    for (path, text) in files("tests/conformance", ".rs") {
        let module = path.trim_start_matches("tests/conformance/").trim_end_matches(".rs").replace('/', "::");
        let tests =
            text.split("#[test]\n").skip(1).filter_map(|rest| rest.trim_start().strip_prefix("fn ")?.split('(').next());
        unnamed
            .extend(tests.map(|test| format!("{module}::{test}")).filter(|name| !list.contains(&format!("`{name}`"))));
    }
    assert_eq!(unnamed, [""; 0]);
}
