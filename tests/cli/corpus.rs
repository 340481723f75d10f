//! Imports, checks and exports real events, and compares the result with the model.
//!
//! The file is `WEIR_CORPUS`, or `../shared/corpus/real-events.jsonl` next to the repository.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::home::{Home, Ran, path_str};
use super::model::{Model, is_event, is_signed};
use super::support::require::{self, Need};

fn corpus() -> Option<PathBuf> {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/real-events.jsonl");
    let path = std::env::var_os("WEIR_CORPUS").map_or(default, PathBuf::from);
    require::has(Need::Corpus, path.exists()).then_some(path)
}

/// The lines that were not stored, with their outcomes.
fn not_stored(ran: &Ran) -> BTreeMap<u64, String> {
    let line = |line: &str| {
        let (number, rest) = line.strip_prefix("line ")?.split_once(": ")?;
        let (outcome, reason) = rest.split_once(": ")?;
        assert!(!reason.is_empty(), "every refusal has a reason");
        Some((number.parse().ok()?, outcome.to_owned()))
    };
    ran.err.lines().filter_map(line).collect()
}

#[test]
fn an_import_takes_what_the_protocol_allows_and_an_export_gives_exactly_that() {
    let Some(corpus) = corpus() else { return };
    let text = std::fs::read_to_string(&corpus).expect("the corpus is UTF-8");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs();
    let (mut model, mut outcomes) = (Model::default(), BTreeMap::new());
    for (number, line) in (1..).zip(text.lines()) {
        let outcome = model.take(line, now);
        if outcome != "stored" {
            outcomes.insert(number, outcome.to_owned());
        }
    }

    let home = Home::new();
    let ran = home.run(&["import", "--show-refused", &path_str(&corpus)]);
    assert_eq!(ran.code, Some(0), "{}", ran.out);
    assert_eq!(not_stored(&ran), outcomes);
    assert_eq!(ran.count("stored"), (text.lines().count() - outcomes.len()) as u64);
    home.assert_clean();

    let exported = home.export();
    let events: Vec<Value> = exported.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for event in &events {
        assert!(is_event(event) && is_signed(event), "{event}");
    }
    assert!(events.is_sorted_by_key(|event| event["created_at"].as_u64()), "oldest first");
    let by_id = |event: &Value| (event["id"].as_str().expect("an id").to_owned(), event.clone());
    assert_eq!(events.iter().map(by_id).collect::<BTreeMap<_, _>>(), model.held);
    assert_eq!(events.len(), model.held.len(), "each event once");

    let mut reversed: Vec<String> = home.run(&["export", "--reverse"]).good().lines().map(str::to_owned).collect();
    reversed.reverse();
    assert_eq!(reversed, exported);

    let other = Home::new();
    let file = home.write("export.jsonl", exported.join("\n"));
    let ran = other.run(&["import", &file]);
    assert_eq!((ran.code, ran.count("stored")), (Some(0), exported.len() as u64), "{ran:?}");
    assert_eq!(other.export(), exported);
    other.assert_clean();

    let again = other.run(&["import", &file]);
    assert_eq!((again.count("stored"), again.count("duplicate")), (0, exported.len() as u64), "{again:?}");
}
