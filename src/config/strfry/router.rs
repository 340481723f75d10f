//! strfry's router file: streams in its syntax, as the streams of weir's configuration.
//!
//! What would change which events travel is refused where weir has no counterpart; all else that it does not know is
//! named.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value as Json};

use super::value::{Members, Node, Position, Value};
use crate::config::replication::{Replication, StreamOptions, day};
use crate::policy::SecretFile;
use crate::replication::Direction;

/// What a router file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouterFile {
    /// The streams.
    pub replication: Replication,
    /// What has no counterpart and does no harm.
    pub warnings: Vec<Remark>,
}

/// A remark on a key of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remark {
    /// Where the key stands.
    pub place: Position,
    /// The key, with those around it.
    pub key: String,
    /// What is said.
    pub text: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.place.line, self.place.column, self.key, self.text)
    }
}

/// Reads the tree of a router file.
///
/// # Errors
/// With everything that is wrong, in the order of the file.
pub fn router(root: &Node) -> Result<RouterFile, Vec<Remark>> {
    let mut reader = Reader { errors: Vec::new(), warnings: Vec::new() };
    let replication = reader.root(root);
    let Reader { mut errors, warnings } = reader;
    if errors.is_empty() {
        return Ok(RouterFile { replication, warnings });
    }
    errors.sort_by_key(|remark| (remark.place.line, remark.place.column));
    Err(errors)
}

struct Reader {
    errors: Vec<Remark>,
    warnings: Vec<Remark>,
}

impl Reader {
    fn wrong(&mut self, place: Position, key: &str, text: impl Into<String>) {
        self.errors.push(Remark { place, key: key.into(), text: text.into() });
    }

    fn warn(&mut self, place: Position, key: &str, text: impl Into<String>) {
        self.warnings.push(Remark { place, key: key.into(), text: text.into() });
    }

    fn root(&mut self, root: &Node) -> Replication {
        let mut replication = Replication::default();
        for (key, node) in members(&root.value) {
            match key.as_str() {
                "connectionTimeout" => match node.value {
                    Value::Integer(seconds) => match u64::try_from(seconds) {
                        Ok(seconds) => replication.timeout_s = seconds,
                        Err(_) => self.wrong(node.place, key, format!("{seconds} is not between 1 and 3600")),
                    },
                    Value::Float(seconds) => {
                        self.wrong(node.place, key, format!("{seconds} is no whole number between 1 and 3600"));
                    }
                    _ => self.wrong(node.place, key, format!("is {}, not a number of seconds", node.value.kind())),
                },
                // The log says what there is to say; log.level says how much.
                "verbose" => {}
                "streams" => match &node.value {
                    Value::Object(streams) => {
                        for (name, node) in streams {
                            if let Some((first, second)) = node.twice {
                                let text = format!("another stream of this name begins in line {}", first.line);
                                self.wrong(second, &format!("streams.{name}"), text);
                            }
                            replication.streams.extend(self.stream(name, node));
                        }
                    }
                    other => self.wrong(node.place, key, format!("is {}, not an object", other.kind())),
                },
                _ => self.warn(node.place, key, "unknown key, ignored"),
            }
        }
        for fault in replication.faults() {
            // Those of streams were found with their places.
            if !fault.key.contains('[') {
                let key = fault.key.trim_start_matches("replication.").replace("timeout_s", "connectionTimeout");
                let place = members(&root.value).iter().find(|(name, _)| *name == key).map(|(_, node)| node.place);
                self.wrong(place.unwrap_or(root.place), &key, fault.text);
            }
        }
        if replication.streams.is_empty() && self.errors.is_empty() {
            self.warn(root.place, "streams", "there are no streams");
        }
        replication
    }

    /// A stream; `None` if it cannot be read.
    fn stream(&mut self, name: &str, node: &Node) -> Option<StreamOptions> {
        let path = |key: &str| format!("streams.{name}.{key}");
        let Value::Object(keys) = &node.value else {
            self.wrong(node.place, &format!("streams.{name}"), format!("is {}, not an object", node.value.kind()));
            return None;
        };
        let (mut dir, mut urls, mut filter) = (None, None, Map::new());
        let errors_before = self.errors.len();
        for (key, node) in keys {
            let key_path = path(key);
            match (key.as_str(), &node.value) {
                ("dir", Value::Text(text)) => match text.as_str() {
                    "down" => dir = Some(Direction::Down),
                    "up" => dir = Some(Direction::Up),
                    "both" => dir = Some(Direction::Both),
                    other => self.wrong(node.place, &key_path, format!("{other:?} is not down, up or both")),
                },
                ("urls", Value::List(nodes)) => urls = Some(self.urls(&key_path, nodes)),
                ("filter", Value::Object(_)) => filter = self.filter(&key_path, node),
                ("dir", other) => self.wrong(node.place, &key_path, format!("is {}, not a string", other.kind())),
                ("urls", other) => self.wrong(node.place, &key_path, format!("is {}, not an array", other.kind())),
                ("filter", other) => self.wrong(node.place, &key_path, format!("is {}, not an object", other.kind())),
                ("pluginDown" | "pluginUp", Value::Text(text)) if text.is_empty() => {}
                ("pluginDown", _) => {
                    let text = "streams have no plugins of their own; name it in [plugin] of weir.toml, with \"sync\" \
                                in plugin.sources, and remove this key";
                    self.wrong(node.place, &key_path, text);
                }
                ("pluginUp", _) => {
                    let text = "nothing judges what is sent, so more would leave than the plugin lets through; select \
                                by filter, and remove this key";
                    self.wrong(node.place, &key_path, text);
                }
                _ => self.warn(node.place, &key_path, "unknown key, ignored"),
            }
        }
        for (key, is_missing) in [("dir", dir.is_none()), ("urls", urls.is_none())] {
            let is_there = keys.iter().any(|(own, _)| own == key);
            if is_missing && !is_there {
                self.wrong(node.place, &path(key), "is missing");
            }
        }
        if self.errors.len() > errors_before {
            return None;
        }
        let options = StreamOptions {
            name: name.into(),
            dir: dir?,
            urls: urls?,
            catch_up_s: day(),
            key_file: SecretFile::default(),
            ca_file: PathBuf::new(),
            filter,
        };
        for (key, text) in options.faults() {
            let place = keys.iter().find(|(own, _)| own == key).map_or(node.place, |(_, node)| node.place);
            let key = if key == "name" { format!("streams.{name}") } else { path(key) };
            self.wrong(place, &key, text);
        }
        Some(options)
    }

    fn urls(&mut self, path: &str, nodes: &[Node]) -> Vec<String> {
        let mut urls = Vec::new();
        for node in nodes {
            match &node.value {
                Value::Text(url) => urls.push(url.clone()),
                other => self.wrong(node.place, path, format!("holds {}, not a string", other.kind())),
            }
        }
        urls
    }

    fn filter(&mut self, path: &str, node: &Node) -> Map<String, Json> {
        for (key, node) in members(&node.value) {
            let (values, most) = match (key.as_str(), &node.value) {
                ("kinds", Value::List(kinds)) => (kinds.as_slice(), u16::MAX.into()),
                ("since" | "until" | "limit", _) => (std::slice::from_ref(node), u64::MAX),
                _ => continue,
            };
            for value in values.iter().map(|node| &node.value) {
                let is_wrong = match value {
                    Value::Integer(number) => !(0..=i128::from(most)).contains(number),
                    other => matches!(other, Value::Float(_)),
                };
                if is_wrong {
                    let text = format!("{value} is no whole number between 0 and {most}");
                    self.wrong(node.place, &format!("{path}.{key}"), text);
                }
            }
        }
        let text = node.value.to_string();
        match serde_json::from_str::<Map<String, Json>>(&text) {
            Ok(mut filter) => {
                // strfry asks with its own limit.
                if filter.remove("limit").is_some() {
                    self.warn(node.place, &format!("{path}.limit"), "ignored: a stream has no end");
                }
                filter
            }
            Err(error) => {
                self.wrong(node.place, path, format!("is no JSON: {error}"));
                Map::new()
            }
        }
    }
}

fn members(value: &Value) -> &[(String, Node)] {
    match value {
        Value::Object(members) => members as &Members,
        _ => &[],
    }
}
