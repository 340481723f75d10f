//! Which key the operator may have meant.

use toml::{Table, Value};

/// Keys that have another name now.
const RENAMED: [(&str, &str); 1] = [("query_us", "cpu_us")];

/// A hint for the unknown key `key` of the section at `path`, given the keys there are; empty if none is near.
pub fn hint(known: &Table, path: &[&str], key: &str) -> String {
    if let Some((_, name)) = RENAMED.iter().find(|(old, _)| *old == key) {
        return format!("; it is {name} now");
    }
    let section = path.iter().try_fold(known, |table, name| table.get(*name)?.as_table());
    let near = |name: &&String| distance(name, key) <= key.len().max(name.len()).div_ceil(3);
    let siblings = section.into_iter().flat_map(Table::keys);
    if let Some(name) = siblings.filter(near).min_by_key(|name| distance(name, key)) {
        return format!("; did you mean {name}?");
    }
    let mut all = Vec::new();
    collect(known, "", &mut all);
    let last = |path: &str| path.rsplit('.').next().map_or(usize::MAX, |name| distance(name, key));
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

/// How many characters must be added, removed or changed to make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_the_fewest_changes() {
        let cases = [("", "", 0), ("abc", "abc", 0), ("abc", "", 3), ("limit", "limt", 1), ("kitten", "sitting", 3)];
        for (a, b, expected) in cases {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
