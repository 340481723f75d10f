//! Holds `report.schema.json` to the reports that are written.
//!
//! It must never be part of the program: it is a test.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{PhaseReport, Report, Sample};
use crate::latency::Latency;
use crate::process::Cost;

/// A report with a value wherever one can be.
fn full() -> Report {
    let mut latency = Latency::new();
    latency.record(std::time::Duration::from_micros(5));
    let counts = || [("x".to_string(), 1)].into();
    let phase = PhaseReport {
        latency: [("x".to_string(), latency.summary().expect("a value"))].into(),
        relay: Some(Cost {
            cpu_s: 1.0,
            cpu_source: "ticks".into(),
            anon_before_kib: 1,
            anon_after_kib: 2,
            disk_growth_bytes: Some(-1),
            disk_bytes: None,
        }),
        figures: [("x".to_string(), 0.5)].into(),
        violations: counts(),
        deviations: counts(),
        refusals: counts(),
        fitted: vec![String::new()],
        replays: vec![crate::account::Replay::default()],
        samples: vec![Sample::default()],
        ..PhaseReport::default()
    };
    Report { phases: vec![phase], corpus_skipped: counts(), incomplete: Some(String::new()), ..Report::default() }
}

/// Checks a value against the part of JSON Schema that the file uses; adds what is wrong to `wrong`.
fn check(value: &Value, schema: &Value, root: &Value, place: &str, wrong: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference} is not there"));
        return check(value, target, root, place, wrong);
    }
    if let Some(any) = schema["oneOf"].as_array() {
        let target = any.iter().find(|schema| (schema["type"] == "null") == value.is_null());
        return check(value, target.unwrap_or(&Value::Null), root, place, wrong);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = |name: &Value| name == kind || (name == "number" && kind == "integer");
    if !(allowed(&schema["type"]) || schema["type"].as_array().is_some_and(|types| types.iter().any(allowed))) {
        wrong.push(format!("{place} is {kind}, the schema has {}", schema["type"]));
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        let items = if schema["items"].is_null() { &schema["prefixItems"][number] } else { &schema["items"] };
        check(item, items, root, &format!("{place}[]"), wrong);
    }
    if let Some(object) = value.as_object() {
        let properties = schema["properties"].as_object();
        if let Some(properties) = properties {
            let named: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
            let written: BTreeSet<&str> = object.keys().map(String::as_str).collect();
            wrong.extend(named.symmetric_difference(&written).map(|key| format!("{place}.{key} is on one side only")));
            let silent =
                properties.iter().filter(|(_, property)| property["description"].as_str().is_none_or(str::is_empty));
            wrong.extend(silent.map(|(key, _)| format!("{place}.{key} is not described")));
        }
        for (key, value) in object {
            let property = properties
                .map_or(&schema["additionalProperties"], |properties| properties.get(key).unwrap_or(&Value::Null));
            check(value, property, root, &format!("{place}.{key}"), wrong);
        }
    }
}

#[test]
fn the_schema_names_every_key_of_a_report_with_its_type_and_meaning() {
    let schema: Value = serde_json::from_str(include_str!("../../report.schema.json")).expect("JSON");
    let report = serde_json::to_value(full()).expect("a report is JSON");
    let mut wrong = Vec::new();
    check(&report, &schema, &schema, "report", &mut wrong);
    assert_eq!(wrong, [""; 0]);
}
