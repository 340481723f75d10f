//! The page of a matrix in Markdown: what was measured on what, every figure with its spread, and how to read it.
//!
//! It must never show a figure of a relay without saying whether its answers were right.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::chart::{number, sweep_file};
use super::plan::slug;
use super::results::{Pick, Results, Step, Sweep};
use super::statistics::{Ratio, Spread};
use super::sweep::knee;
use crate::report::PhaseReport;
use crate::report::table::main_latency;

/// A column of a phase's table.
struct Column {
    title: &'static str,
    pick: Pick,
    /// Followed by a column with the ratio to the first relay.
    ratio: bool,
}

const COLUMNS: [Column; 8] = [
    Column { title: "per second", pick: |phase| Some(phase.per_second), ratio: true },
    Column { title: "relay CPU, us", pick: |phase| phase.relay_cpu_us_per_unit, ratio: true },
    Column { title: "p50, ms", pick: |phase| Some(main_latency(phase)?.p50_us / 1000.0), ratio: false },
    Column { title: "p99, ms", pick: |phase| Some(main_latency(phase)?.p99_us / 1000.0), ratio: false },
    Column {
        title: "memory, MiB",
        pick: |phase| Some(phase.relay.as_ref()?.anon_after_kib as f64 / 1024.0),
        ratio: false,
    },
    Column { title: "received, B", pick: |phase| per_unit(phase, phase.received_bytes), ratio: false },
    Column {
        title: "disk after, MiB",
        pick: |phase| Some(phase.relay.as_ref()?.disk_bytes? as f64 / 1_048_576.0),
        ratio: false,
    },
    Column { title: "generator, %", pick: |phase| Some(phase.generator_core_share * 100.0), ratio: false },
];

fn per_unit(phase: &PhaseReport, bytes: u64) -> Option<f64> {
    (phase.units > 0).then(|| bytes as f64 / phase.units as f64)
}

/// The whole page.
pub fn render(results: &Results) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# {}\n", results.title);
    conditions(results, &mut out);
    relays(results, &mut out);
    overview(results, &mut out);
    for (scenario, about) in results.scenarios() {
        let _ = writeln!(out, "## {scenario}\n\n{about}\n");
        for (key, what) in [("cpu", "CPU time per unit of work"), ("rate", "units of work per second")] {
            let is_drawn = key != "cpu" || is_known(results, scenario, |phase| phase.relay_cpu_us_per_unit);
            if is_drawn {
                let _ = writeln!(out, "![{scenario}: {what}]({}-{key}.svg)\n", slug(scenario));
            }
        }
        for (phase, unit) in results.phases(scenario) {
            phase_table(results, scenario, phase, unit, &mut out);
        }
    }
    results.sweeps.iter().for_each(|sweep| sweep_section(results, sweep, &mut out));
    findings(results, &mut out);
    out.push_str(METHOD);
    out
}

const METHOD: &str = "\
## How to read it

- Each run begins with an empty store and a new process, and only one relay runs at a time. The relays take turns, and
  every other repeat goes in reverse order.
- A figure is the median over the repeats, with the lowest and the highest in parentheses.
- A ratio is the geometric mean of the ratios to the first relay, repeat by repeat, with its 95 % confidence interval
  (Student's t over the logarithms). If 1 lies inside, the repeats do not tell the two relays apart.
- CPU time is that of all processes and threads of the relay, those that ended too. It compares better than throughput,
  which the generator limits where its share of a core is near 100 %.
- Latency of a closed loop (no rate) says how much work a unit is; what users see is the latency at a rate.
- Every answer was compared with the corpus, and every event with an OK was read back. \"right\" means that nothing was
  lost, invented or false.
- Each row can be run again by hand: `loadtest run --scenario NAME`; the reports of all runs are in `runs/`.
";

/// Text as the content of a cell.
fn cell(text: &str) -> String {
    if text.is_empty() { "–".to_string() } else { text.replace('|', "\\|").replace('\n', " ") }
}

fn conditions(results: &Results, out: &mut String) {
    out.push_str("| | |\n|---|---|\n");
    for (name, value) in &results.conditions {
        let _ = writeln!(out, "| {name} | {} |", cell(value));
    }
    if let Some(run) = results.runs.first() {
        let _ = writeln!(out, "| corpus fingerprint | {} |", run.report.corpus_fingerprint);
    }
    out.push('\n');
}

fn relays(results: &Results, out: &mut String) {
    out.push_str("| relay | version | settings | promises before its OK | after SIGKILL | limits it states |\n");
    out.push_str("|---|---|---|---|---|---|\n");
    for (number, relay) in results.relays.iter().enumerate() {
        let stated =
            results.runs.iter().find(|run| run.relay == number).map(|run| run.report.limits.stated().join(", "));
        let parts = [&relay.version, &relay.settings, &relay.durability, &relay.kill].map(|text| cell(text));
        let _ =
            writeln!(out, "| {} | {} | {} |", cell(&relay.name), parts.join(" | "), cell(&stated.unwrap_or_default()));
    }
    out.push('\n');
}

fn is_known(results: &Results, scenario: &str, pick: Pick) -> bool {
    let reports = |relay| {
        results.phases(scenario).into_iter().any(|(phase, _)| results.spread(relay, scenario, phase, pick).is_some())
    };
    (0..results.relays.len()).any(reports)
}

/// One row for each phase: what a unit of work costs.
fn overview(results: &Results, out: &mut String) {
    out.push_str("## CPU time per unit of work, us\n\n| work |");
    results.relays.iter().for_each(|relay| {
        let _ = write!(out, " {} |", cell(&relay.name));
    });
    let _ = writeln!(out, "\n|---|{}", "---:|".repeat(results.relays.len()));
    let scenarios = results.scenarios();
    let names: Vec<&str> =
        scenarios.iter().flat_map(|(name, _)| results.phases(name)).map(|(phase, _)| phase).collect();
    for (scenario, _) in scenarios {
        for (phase, _) in results.phases(scenario) {
            let is_unique = names.iter().filter(|name| **name == phase).count() == 1;
            let work = if is_unique { phase.to_string() } else { format!("{scenario}: {phase}") };
            let _ = write!(out, "| {} |", cell(&work));
            for relay in 0..results.relays.len() {
                let spread = results.spread(relay, scenario, phase, |phase| phase.relay_cpu_us_per_unit);
                let _ = write!(out, " {} |", spread.map_or("–".to_string(), |spread| number(spread.median)));
            }
            out.push('\n');
        }
    }
    out.push('\n');
}

fn phase_table(results: &Results, scenario: &str, phase: &str, unit: &str, out: &mut String) {
    let _ = write!(out, "### {phase}\n\nUnit of work: {unit}.\n\n| relay |");
    for Column { title, ratio, .. } in COLUMNS {
        let _ = write!(out, " {title} |{}", if ratio { " ratio |" } else { "" });
    }
    let columns = COLUMNS.len() + COLUMNS.iter().filter(|column| column.ratio).count();
    let _ = writeln!(out, " answers |\n|---|{}---|", "---:|".repeat(columns));
    for (number, relay) in results.relays.iter().enumerate() {
        let _ = write!(out, "| {} |", cell(&relay.name));
        for Column { pick, ratio, .. } in COLUMNS {
            let own = results.values(number, scenario, phase, pick);
            let _ = write!(out, " {} |", Spread::of(own.values().copied()).map_or("–".to_string(), spread_text));
            if ratio {
                let first = results.values(0, scenario, phase, pick);
                let ratio = Ratio::of(&own, &first).filter(|_| number > 0);
                let _ = write!(out, " {} |", ratio.map_or("–".to_string(), ratio_text));
            }
        }
        let _ = writeln!(out, " {} |", cell(&verdict(&results.reports(number, scenario, phase))));
    }
    out.push('\n');
}

fn spread_text(spread: Spread) -> String {
    let Spread { median, low, high } = spread;
    if low == high { number(median) } else { format!("{} ({}–{})", number(median), number(low), number(high)) }
}

fn ratio_text(ratio: Ratio) -> String {
    let interval = ratio.interval.map(|(low, high)| format!(" ({}–{})", number(low), number(high)));
    format!("{}{}", number(ratio.mean), interval.unwrap_or_default())
}

/// Whether the answers were right, over all repeats.
fn verdict(reports: &[&PhaseReport]) -> String {
    if reports.is_empty() {
        return "not measured".into();
    }
    let mut parts = Vec::new();
    let mut add = |grade: &str, names: BTreeSet<&String>| {
        parts.extend(names.into_iter().map(|name| format!("{grade} {name}")));
    };
    add("FAULT", reports.iter().flat_map(|report| report.violations.keys()).collect());
    add("deviation", reports.iter().flat_map(|report| report.deviations.keys()).collect());
    if parts.is_empty() {
        parts.push("right".into());
    }
    if reports.iter().any(|report| !report.is_comparable()) {
        parts.push("not comparable".into());
    }
    parts.join(", ")
}

fn sweep_section(results: &Results, sweep: &Sweep, out: &mut String) {
    let name = &sweep.scenario;
    let _ =
        writeln!(out, "## Throughput against latency: {name}\n\n![{name}: a sweep of rates]({})\n", sweep_file(name));
    out.push_str(
        "| relay | knee, per second | p50 there, ms | p99 there, ms | the next rate |\n|---|---:|---:|---:|---|\n",
    );
    for (relay, steps) in results.relays.iter().zip(&sweep.relays) {
        let knee = knee(steps);
        let cells =
            knee.map_or([0; 3].map(|_| String::new()), |step| [step.rate, step.p50_ms, step.p99_ms].map(number));
        let cells = cells.map(|text| cell(&text));
        let _ = writeln!(out, "| {} | {} | {} |", cell(&relay.name), cells.join(" | "), beyond(steps, knee));
    }
    out.push('\n');
}

/// What happened at the first rate beyond the knee.
fn beyond(steps: &[Step], knee: Option<&Step>) -> String {
    let next = steps.iter().find(|step| knee.is_none_or(|knee| step.rate > knee.rate));
    match next {
        None => "the sweep ended before the knee".into(),
        Some(step) => {
            let limit = if step.generator_limited { "; the generator was busy and may be the limit" } else { "" };
            let (rate, answered) = (number(step.rate), number(step.per_second));
            format!("{rate}: {answered} answered, p99 {} ms{limit}", number(step.p99_ms))
        }
    }
}

/// What was wrong or not comparable, with the relay's own words.
fn findings(results: &Results, out: &mut String) {
    let mut lines: Vec<String> = results.troubles.iter().map(|trouble| format!("Not measured: {trouble}")).collect();
    for run in &results.runs {
        for phase in &run.report.phases {
            let place = format!("{}, {}, {}", run.report.label, run.report.scenario, phase.name);
            let texts = phase.examples.iter().chain(&phase.fitted).chain(&phase.notes);
            lines.extend(texts.map(|text| format!("{place}: {text}")));
        }
    }
    let mut seen = BTreeSet::new();
    lines.retain(|line| seen.insert(line.clone()));
    if !lines.is_empty() {
        out.push_str("## Findings\n\n");
        lines.iter().for_each(|line| {
            let _ = writeln!(out, "- {}", line.replace('\n', " "));
        });
        out.push('\n');
    }
}
