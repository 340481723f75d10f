//! Which file imports which: submodules import only lower ones, and no files import each other, even through others.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{code, files, is_test_file};

/// The submodules of a module, lowest first. A file imports only lower submodules and its own.
const SUBMODULES: [(&str, &[&str]); 2] = [
    ("store", &["format", "file", "read", "scan", "write", "upkeep"]),
    (
        "pipeline",
        &[
            "channel",
            "clock",
            "options",
            "heartbeat",
            "health",
            "threads",
            "writable",
            "fair",
            "fair_channel",
            "client",
            "queues",
            "ingest",
            "commit",
            "deliver",
            "query",
            "evict",
            "cron",
            "trust",
            "serving",
            "run",
        ],
    ),
];

/// A file of the source by its place in the tree of modules.
type Module = Vec<String>;

/// The files below `top` with those that they import.
fn imports(top: &str) -> BTreeMap<Module, BTreeSet<Module>> {
    let sources: BTreeMap<Module, String> = files(top, ".rs")
        .into_iter()
        .filter(|(path, _)| !is_test_file(path))
        .map(|(path, text)| (module_of(&path, top), code(&text)))
        .collect();
    let file_of = |mut path: Vec<String>| {
        while !path.is_empty() && !sources.contains_key(&path) {
            path.pop();
        }
        (!path.is_empty()).then_some(path)
    };
    let imported = |module: &Module, code: &String| {
        let named = paths(code).into_iter().filter_map(|path| resolve(module, &path));
        named.filter_map(file_of).filter(|found| found != module).collect()
    };
    sources.iter().map(|(module, code)| (module.clone(), imported(module, code))).collect()
}

/// `src/store/scan/plan.rs` is `store, scan, plan`; `src/store/mod.rs` is `store`.
fn module_of(path: &str, top: &str) -> Module {
    let inside = path.trim_start_matches(top).trim_start_matches('/').trim_end_matches(".rs");
    let parts = inside.split('/').map(str::to_string);
    parts.filter(|part| part != "mod").collect()
}

/// The path from the root of the crate, for paths that begin with `crate` or `super`.
fn resolve(module: &Module, path: &[String]) -> Option<Vec<String>> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    match path.first().map(String::as_str) {
        Some("crate") => Some(path[1..].to_vec()),
        Some("super") => Some([&module[..module.len().checked_sub(ups)?], &path[ups..]].concat()),
        Some("self") => Some([&module[..], &path[1..]].concat()),
        // Of a facade: `pub use part::Item`.
        Some(_) => Some([&module[..], path].concat()),
        None => None,
    }
}

/// Every path that a file names: those of its imports, one by one, and those in its code.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = String::new();
    let mut import: Option<String> = None;
    for line in code.lines() {
        let line = line.trim();
        let begins = line.strip_prefix("pub use ").or_else(|| line.strip_prefix("use "));
        if let Some(text) = begins.or_else(|| import.as_ref().map(|_| line)) {
            let whole = import.take().unwrap_or_default() + text;
            match whole.strip_suffix(';') {
                Some(tree) => expand(tree, &[], &mut found),
                None => import = Some(whole),
            }
        } else {
            rest.push_str(line);
            rest.push('\n');
        }
    }
    for start in ["crate::", "super::"] {
        let names = |at: usize| rest[at..].split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').next();
        // `pub(in crate::store)` names whom it is visible to.
        let is_import = |at: usize| !rest[..at].ends_with("pub(in ") && !rest[..at].ends_with("::");
        let named = rest.match_indices(start).filter(|(at, _)| is_import(*at)).filter_map(|(at, _)| names(at));
        found.extend(named.map(|path| path.split("::").map(str::to_string).collect()));
    }
    found
}

/// The paths of a tree of imports such as `a::{b, c::d}`.
fn expand(tree: &str, before: &[String], found: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let (head, group) = tree.split_once('{').map_or((tree, None), |(head, group)| (head, group.strip_suffix('}')));
    let head = head.split(" as ").next().unwrap_or(head);
    let own = head.split("::").map(str::trim).filter(|part| !part.is_empty() && *part != "*" && *part != "self");
    let path: Vec<String> = before.iter().cloned().chain(own.map(str::to_string)).collect();
    let Some(group) = group else { return found.push(path) };
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = &group[start..at];
                start = at + 1;
                if !part.trim().is_empty() {
                    expand(part, &path, found);
                }
            }
            _ => {}
        }
    }
}

/// What can be reached from a file by imports.
fn reached<'g>(graph: &'g BTreeMap<Module, BTreeSet<Module>>, from: &'g Module) -> BTreeSet<&'g Module> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        open.extend(graph[module].iter().filter(|next| seen.insert(*next)));
    }
    seen
}

#[test]
fn no_files_import_each_other_not_even_around_a_corner() {
    let mut circles: Vec<String> = Vec::new();
    for top in ["src", "loadtest/src", "tests"] {
        let graph = imports(top);
        assert!(graph.values().map(BTreeSet::len).sum::<usize>() > graph.len(), "{top}: imports were found");
        circles.extend(
            graph
                .keys()
                .filter(|module| reached(&graph, module).contains(module))
                .map(|module| format!("{top}/{}", module.join("/"))),
        );
    }
    assert_eq!(circles, [""; 0]);
}

#[test]
fn a_submodule_imports_only_lower_ones_and_never_the_facade() {
    let mut wrong = Vec::new();
    for (module, submodules) in SUBMODULES {
        let place = |file: &Module| match &file[..] {
            [of, name, ..] if of == module => submodules.iter().position(|one| one == name),
            _ => None,
        };
        for (file, imported) in imports("src") {
            let Some(own) = place(&file) else { continue };
            let is_wrong = |used: &&Module| match place(used) {
                Some(place) => place > own,
                None => used[0] == module,
            };
            let name = |used: &Module| format!("{} imports {}", file.join("/"), used.join("/"));
            wrong.extend(imported.iter().filter(is_wrong).map(name));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn only_the_lock_begins_write_transactions() {
    let begins = |code: &str| code.contains("env.write_txn") || code.contains(".nested_write_txn");
    let found: Vec<String> = files("src", ".rs")
        .into_iter()
        .filter(|(path, text)| !is_test_file(path) && begins(&code(text)))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(found, ["src/store/file/lock.rs"]);
}
