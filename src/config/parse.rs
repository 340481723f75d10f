//! Parses a configuration. The operator's keys are merged over the defaults one by one, so a section or a rate may be
//! given in part.

use std::collections::HashMap;

use serde::Deserialize;
use toml::de::{DeArray, DeTable, DeValue};
use toml::{Spanned, Table};

use super::error::{Fault, Problem};
use super::sections::Config;
use super::{error, nearest, units};

/// A parsed configuration and the place of each key in the file.
pub struct Read {
    pub config: Config,
    /// Path and byte offset of every key that the operator wrote.
    keys: Vec<(String, usize)>,
}

impl Read {
    /// Line and column of a key, if the file sets it.
    pub fn place(&self, text: &str, key: &str) -> Option<(usize, usize)> {
        let (_, at) = self.keys.iter().find(|(path, _)| path == key)?;
        Some(error::place(text, *at))
    }

    /// Locates `fault` in the file; a key that the file does not set has no place.
    pub fn problem(&self, text: &str, fault: Fault) -> Problem {
        match self.keys.iter().find(|(path, _)| *path == fault.key) {
            Some((_, at)) => Problem::at(text, *at, fault.key.into_owned(), fault.text),
            None => Problem::from(fault),
        }
    }
}

/// Reads `text`.
///
/// # Errors
/// All syntax errors; or else every unknown key and every value of the wrong type.
pub fn read(text: &str) -> Result<Read, Vec<Problem>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors.iter().map(|error| problem(text, String::new(), error)).collect());
    }
    let default = Config::default().to_toml();
    let known: Table = default.parse().expect("TOML that we wrote can be read");
    let mut table = table.into_inner();
    let mut problems = Vec::new();
    remove_unknown(text, &known, &[], &mut table, &mut problems);
    let mut keys = Vec::new();
    locate(&table, "", &mut keys);
    let numbers = match units::numbers(text, &table) {
        Ok(numbers) => numbers,
        Err(wrong) => {
            problems.extend(wrong);
            return Err(in_order(problems));
        }
    };
    units::replace(&mut table, &numbers);

    // Tables in lists keep the numbers that they have in the file.
    let number = |(path, at): &(String, usize)| Some((*at, path.strip_suffix(']')?.rsplit_once('[')?.1.parse().ok()?));
    let ranks: HashMap<usize, usize> = keys.iter().filter_map(number).collect();
    // Each value of the wrong type is reported and removed, so that the next one is found.
    let config = loop {
        let mut whole = DeTable::parse(&default).expect("TOML that we wrote can be read").into_inner();
        merge(&mut whole, &table);
        match Config::deserialize(toml::Deserializer::from(Spanned::new(0..text.len(), whole))) {
            Ok(config) => break config,
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                let path = remove_at(&mut table, at, &ranks);
                // What is missing now because it was wrong has been reported.
                let missing = error.message().strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
                let removed = missing.map(|field| format!("{path}.{field}"));
                if removed.is_none_or(|removed| problems.iter().all(|problem| problem.key != removed)) {
                    problems.push(problem(text, path.clone(), &error));
                }
                if path.is_empty() {
                    return Err(in_order(problems));
                }
            }
        }
    };
    if problems.is_empty() { Ok(Read { config, keys }) } else { Err(in_order(problems)) }
}

fn problem(text: &str, key: String, error: &toml::de::Error) -> Problem {
    let at = error.span().map_or(0, |span| span.start);
    Problem::at(text, at, key, error.message().trim_end().into())
}

fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| problem.place);
    problems
}

/// Removes and reports every unknown key of `table`, the section at `path`.
fn remove_unknown(text: &str, all: &Table, path: &[&str], table: &mut DeTable<'_>, problems: &mut Vec<Problem>) {
    let Some(section) = path.iter().try_fold(all, |table, name| table.get(*name)?.as_table()) else { return };
    for (key, mut value) in std::mem::take(table) {
        let here = [path, &[key.get_ref()]].concat();
        if !section.contains_key(&**key.get_ref()) {
            let said = format!("unknown key{}", nearest::hint(all, path, key.get_ref()));
            problems.push(Problem::at(text, key.span().start, here.join("."), said));
            continue;
        }
        if let DeValue::Table(inner) = value.get_mut() {
            remove_unknown(text, all, &here, inner, problems);
        }
        table.insert(key, value);
    }
}

/// Records the place of each key of `table`. Tables in a list are numbered from 1: `storage.retention[1].kinds`.
fn locate(table: &DeTable<'_>, prefix: &str, keys: &mut Vec<(String, usize)>) {
    for (key, value) in table {
        let path = format!("{prefix}{}", key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => locate(inner, &format!("{path}."), keys),
            DeValue::Array(list) => {
                for (number, item) in (1..).zip(list.iter()) {
                    let DeValue::Table(inner) = item.get_ref() else { continue };
                    let path = format!("{path}[{number}]");
                    locate(inner, &format!("{path}."), keys);
                    keys.push((path, item.span().start));
                }
            }
            _ => {}
        }
        keys.push((path, key.span().start));
    }
}

/// Merges the operator's values into the defaults. Only tables are merged; any other value is replaced.
fn merge<'i>(defaults: &mut DeTable<'i>, own: &DeTable<'i>) {
    for (key, value) in own {
        let default = defaults.iter_mut().find(|(name, _)| name.get_ref() == key.get_ref());
        match (default.map(|(_, default)| default.get_mut()), value.get_ref()) {
            (Some(DeValue::Table(default)), DeValue::Table(own)) => merge(default, own),
            _ => {
                defaults.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Removes the value that spans byte `at` from `table` and returns its path; empty if there is none.
fn remove_at(table: &mut DeTable<'_>, at: usize, ranks: &HashMap<usize, usize>) -> String {
    let mut path = String::new();
    for (key, mut value) in std::mem::take(table) {
        if path.is_empty() {
            let inner = match value.get_mut() {
                DeValue::Table(inner) => {
                    Some(remove_at(inner, at, ranks)).filter(|path| !path.is_empty()).map(|path| format!(".{path}"))
                }
                DeValue::Array(list) => remove_in_list(list, at, ranks),
                _ => None,
            };
            if let Some(inner) = inner {
                path = format!("{}{inner}", key.get_ref());
            } else if value.span().contains(&at) || key.span().contains(&at) {
                path = key.get_ref().to_string();
                continue;
            }
        }
        table.insert(key, value);
    }
    path
}

/// The same in a list of tables, with their numbers in the file: `[1].kinds`. A table that is wrong as a whole is
/// removed.
fn remove_in_list(list: &mut DeArray<'_>, at: usize, ranks: &HashMap<usize, usize>) -> Option<String> {
    let (mut found, mut kept) = (None, DeArray::new());
    for mut item in std::mem::replace(list, DeArray::new()) {
        let span = item.span();
        if let (None, Some(rank), DeValue::Table(table)) = (&found, ranks.get(&span.start), item.get_mut()) {
            let inner = remove_at(table, at, ranks);
            if !inner.is_empty() {
                found = Some(format!("[{rank}].{inner}"));
            } else if span.contains(&at) {
                found = Some(format!("[{rank}]"));
                continue;
            }
        }
        kept.push(item);
    }
    *list = kept;
    found
}
