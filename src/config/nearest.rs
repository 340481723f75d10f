//! Suggests the key that the operator may have meant.

use strsim::levenshtein;
use toml::{Table, Value};

/// Renamed keys: old name, new name.
const RENAMED: [(&str, &str); 1] = [("query_us", "cpu_us")];

/// A hint for the unknown key `key` of the section at `path`; empty if no known key is close.
pub fn hint(known: &Table, path: &[&str], key: &str) -> String {
    if let Some((_, name)) = RENAMED.iter().find(|(old, _)| *old == key) {
        return format!("; it is now called {name}");
    }
    let section = path.iter().try_fold(known, |table, name| table.get(*name)?.as_table());
    let near = |name: &&String| levenshtein(name, key) <= key.len().max(name.len()).div_ceil(3);
    let siblings = section.into_iter().flat_map(Table::keys);
    if let Some(name) = siblings.filter(near).min_by_key(|name| levenshtein(name, key)) {
        return format!("; did you mean {name}?");
    }
    let mut all = Vec::new();
    collect(known, "", &mut all);
    let last = |path: &str| path.rsplit('.').next().map_or(usize::MAX, |name| levenshtein(name, key));
    match all.iter().min_by_key(|path| last(path)) {
        Some(path) if last(path) <= key.len() / 4 => format!("; did you mean {path}?"),
        _ => String::new(),
    }
}

/// The paths of all keys.
fn collect(table: &Table, prefix: &str, all: &mut Vec<String>) {
    for (name, value) in table {
        let path = format!("{prefix}{name}");
        if let Value::Table(inner) = value {
            collect(inner, &format!("{path}."), all);
        }
        all.push(path);
    }
}
