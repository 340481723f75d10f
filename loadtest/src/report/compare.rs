//! Two reports side by side: the ratio of every figure that both have.
//!
//! It must never hide a fault behind a good ratio: a side with faults is marked on every line.

use std::fmt::Write as _;

use super::table::number;
use super::{PhaseReport, Report};

/// One figure of one phase on both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The phase.
    pub phase: String,
    /// The figure, with its unit.
    pub figure: String,
    /// First report.
    pub a: f64,
    /// Second report.
    pub b: f64,
    /// `b / a`; `None` if `a` is 0.
    pub ratio: Option<f64>,
}

/// Every figure of the phases that both reports have, matched by name.
pub fn lines(a: &Report, b: &Report) -> Vec<Line> {
    let mut lines = Vec::new();
    for first in &a.phases {
        let Some(second) = b.phases.iter().find(|phase| phase.name == first.name) else { continue };
        let (left, right) = (figures(first), figures(second));
        for (figure, a) in left {
            if let Some((_, b)) = right.iter().find(|(name, _)| *name == figure) {
                let ratio = (a != 0.0).then(|| b / a);
                lines.push(Line { phase: first.name.clone(), figure, a, b: *b, ratio });
            }
        }
    }
    lines
}

/// The figures of a phase by name, the ones that matter most first.
fn figures(phase: &PhaseReport) -> Vec<(String, f64)> {
    let mut figures = vec![(format!("{} per second", plural(&phase.unit)), phase.per_second)];
    if let Some(us) = phase.relay_cpu_us_per_unit {
        figures.push((format!("relay CPU per {}, us", phase.unit), us));
    }
    for (name, latency) in &phase.latency {
        let values =
            [("p50", latency.p50_us), ("p90", latency.p90_us), ("p99", latency.p99_us), ("p99.9", latency.p999_us)];
        figures.extend(values.map(|(quantile, us)| (format!("{name} {quantile}, us"), us)));
    }
    if let Some(cost) = &phase.relay {
        figures.push(("anonymous memory after, KiB".into(), cost.anon_after_kib as f64));
        if let Some(bytes) = cost.disk_growth_bytes {
            figures.push(("disk growth, bytes".into(), bytes as f64));
        }
    }
    figures.extend(phase.figures.iter().map(|(name, value)| (name.clone(), *value)));
    figures.push(("generator share of a core".into(), phase.generator_core_share));
    figures.push(("faults".into(), phase.violations.values().sum::<u64>() as f64));
    figures
}

fn plural(unit: &str) -> String {
    match unit.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{unit}s"),
    }
}

/// The comparison as text.
pub fn render(a: &Report, b: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "A: {} {} on {}{}", a.label, a.scenario, a.machine, faults(a));
    let _ = writeln!(out, "B: {} {} on {}{}", b.label, b.scenario, b.machine, faults(b));
    for difference in differences(a, b) {
        let _ = writeln!(out, "note: {difference}");
    }
    let mut phase = "";
    let lines = lines(a, b);
    for line in &lines {
        if line.phase != phase {
            let _ = writeln!(out, "\n{:<48} {:>14} {:>14} {:>9}", line.phase, "A", "B", "B/A");
            phase = &line.phase;
        }
        let ratio = line.ratio.map_or("-".to_string(), |ratio| format!("{ratio:.2}"));
        let _ = writeln!(out, "  {:<46} {:>14} {:>14} {ratio:>9}", line.figure, number(line.a), number(line.b));
    }
    if lines.is_empty() {
        let _ = writeln!(out, "the reports have no phase in common");
    }
    out
}

fn faults(report: &Report) -> String {
    match report.violations() {
        0 => String::new(),
        faults => format!("  -- {faults} FAULTS, its figures do not count"),
    }
}

/// What makes the two sides hard to compare.
pub fn differences(a: &Report, b: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if a.scenario != b.scenario {
        notes.push(format!("different scenarios: {} and {}", a.scenario, b.scenario));
    }
    if a.machine != b.machine {
        notes.push(format!("different machines: {} and {}", a.machine, b.machine));
    }
    // Reports of earlier versions have no fingerprint.
    let both = !(a.corpus_fingerprint.is_empty() || b.corpus_fingerprint.is_empty());
    let is_other = both && a.corpus_fingerprint != b.corpus_fingerprint;
    if is_other || (a.corpus_events, a.corpus_mean_bytes) != (b.corpus_events, b.corpus_mean_bytes) {
        notes.push(format!("different corpora: {} and {} events", a.corpus_events, b.corpus_events));
    }
    for (side, report) in [("A", a), ("B", b)] {
        for phase in report.phases.iter().filter(|phase| !phase.is_comparable()) {
            notes.push(format!("{side}, {}: not comparable, the relay's limits changed or refused it", phase.name));
        }
        if let Some(reason) = &report.incomplete {
            notes.push(format!("{side} is incomplete: {reason}"));
        }
    }
    if a.connection != b.connection && both {
        notes.push(format!("different connections: {} and {}", a.connection, b.connection));
    }
    if a.seed != b.seed {
        notes.push("different seeds: pass --seed to ask both sides the same queries".into());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(label: &str, per_second: f64, cpu: f64) -> Report {
        let phase = PhaseReport {
            name: "p".into(),
            unit: "query".into(),
            per_second,
            relay_cpu_us_per_unit: Some(cpu),
            ..PhaseReport::default()
        };
        Report {
            version: "1".into(),
            scenario: "s".into(),
            about: String::new(),
            url: String::new(),
            label: label.into(),
            started: 0,
            seed: 1,
            machine: "m".into(),
            corpus_events: 1,
            corpus_mean_bytes: 1.0,
            phases: vec![phase],
            ..Report::default()
        }
    }

    #[test]
    fn the_ratio_is_the_second_over_the_first() {
        let (a, b) = (report("a", 100.0, 8.0), report("b", 250.0, 2.0));
        let lines = lines(&a, &b);
        let ratios: Vec<(&str, Option<f64>)> = lines.iter().map(|line| (line.figure.as_str(), line.ratio)).collect();
        let expected = [
            ("queries per second", Some(2.5)),
            ("relay CPU per query, us", Some(0.25)),
            ("generator share of a core", None),
            ("faults", None),
        ];
        assert_eq!(ratios, expected);
    }

    #[test]
    fn a_report_survives_its_json() {
        let a = report("a", 100.5, 8.25);
        let text = serde_json::to_string(&a).expect("a report is JSON");
        assert_eq!(serde_json::from_str::<Report>(&text).expect("its own JSON"), a);
    }

    #[test]
    fn a_report_of_an_earlier_version_can_still_be_compared() {
        let text = include_str!("../../../benches/runs/2026-11-20-2vcpu-epyc/ad4c484/publish-duplicate.json");
        let report: Report = serde_json::from_str(text).expect("the form is stable");
        assert_eq!(lines(&report, &report)[0].ratio, Some(1.0));
    }

    #[test]
    fn different_conditions_and_faults_are_said_first() {
        let (mut a, mut b) = (report("a", 1.0, 1.0), report("b", 1.0, 1.0));
        b.machine = "other".into();
        (a.corpus_fingerprint, b.corpus_fingerprint) = ("ab".into(), "cd".into());
        b.connection = "TLS".into();
        b.phases[0].violations.insert("missing_ok".into(), 2);
        b.phases[0].fitted.push("limit 20".into());
        let text = render(&a, &b);
        assert!(text.contains("different machines"), "{text}");
        assert!(text.contains("different corpora") && text.contains("different connections:  and TLS"), "{text}");
        assert!(text.contains("2 FAULTS"), "{text}");
        assert!(text.contains("note: B, p: not comparable"), "{text}");
    }
}
