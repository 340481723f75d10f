//! A report as text for a terminal.
//!
//! It must never be wider than 110 characters: it is pasted into issues.

use std::fmt::Write as _;

use super::{PhaseReport, Report, Sample};

/// The whole report.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{} against {} ({})", report.scenario, report.label, report.url);
    let _ = writeln!(out, "{}", report.about);
    let _ = writeln!(
        out,
        "corpus: {} events, mean {:.0} B; seed {}; {}",
        report.corpus_events, report.corpus_mean_bytes, report.seed, report.machine
    );
    if !report.corpus_fingerprint.is_empty() {
        let _ = writeln!(out, "corpus fingerprint: {}", report.corpus_fingerprint);
    }
    if !matches!(report.connection.as_str(), "" | "plain") {
        let _ = writeln!(out, "connections: {}", report.connection);
    }
    if !report.limits.software.is_empty() {
        let _ = writeln!(out, "relay: {} (NIP-11)", report.limits.software);
    }
    for (reason, count) in &report.corpus_skipped {
        let _ = writeln!(out, "left out of the corpus: {count} x {reason}");
    }
    summary(report, &mut out);
    for phase in &report.phases {
        details(phase, &mut out);
    }
    if let Some(reason) = &report.incomplete {
        let _ = writeln!(out, "\nINCOMPLETE: {reason}");
    }
    let _ = writeln!(out, "\nresult: {}", verdict(report));
    out
}

/// Faults and deviations in one line.
pub fn verdict(report: &Report) -> String {
    let faults = match report.violations() {
        0 => "no faults".to_string(),
        faults => format!("{faults} FAULTS"),
    };
    match report.deviations() {
        0 => faults,
        deviations => format!("{faults}, {deviations} deviations from what a NIP says a relay should do"),
    }
}

/// One line per phase.
fn summary(report: &Report, out: &mut String) {
    let _ = writeln!(
        out,
        "\n{:<30} {:>10} {:>10} {:>9} {:>9} {:>9} {:>10} {:>7}",
        "phase", "units", "per s", "p50 ms", "p99 ms", "max ms", "relay us", "gen %"
    );
    for phase in &report.phases {
        let latency = main_latency(phase);
        let ms = |pick: fn(&crate::latency::Summary) -> f64| {
            latency.map_or("-".to_string(), |summary| format!("{:.2}", pick(summary) / 1000.0))
        };
        let cpu = phase.relay_cpu_us_per_unit.map_or("-".to_string(), |us| format!("{us:.2}"));
        let name: String = phase.name.chars().take(30).collect();
        let _ = writeln!(
            out,
            "{name:<30} {:>10} {:>10.0} {:>9} {:>9} {:>9} {cpu:>10} {:>7.0}",
            phase.units,
            phase.per_second,
            ms(|summary| summary.p50_us),
            ms(|summary| summary.p99_us),
            ms(|summary| summary.max_us),
            phase.generator_core_share * 100.0,
        );
        if !phase.is_comparable() {
            let _ = writeln!(out, "    not comparable: changed or refused by the relay's stated limits, see below");
        }
    }
    let unknown = report.phases.iter().all(|phase| phase.relay.is_none());
    let cpu = if unknown { "unknown without --pid on the relay's machine" } else { "CPU of the relay per unit" };
    let _ = writeln!(out, "relay us: {cpu}; gen %: CPU of this tool, of one core");
}

/// The latency that a phase is about: the first that is not the generator's own.
pub fn main_latency(phase: &PhaseReport) -> Option<&crate::latency::Summary> {
    const ORDER: [&str; 4] = ["EVENT to delivery", "REQ to EOSE", "EVENT to OK", "connect to EOSE"];
    ORDER.iter().find_map(|name| phase.latency.get(*name))
}

fn details(phase: &PhaseReport, out: &mut String) {
    let _ = writeln!(out, "\n{}: {} x {} in {:.2} s", phase.name, phase.units, phase.unit, phase.seconds);
    if phase.stalled_s > 0.0 {
        let _ = writeln!(out, "  then waited {:.1} s in vain for an answer (not part of the figures)", phase.stalled_s);
    }
    for (name, latency) in &phase.latency {
        let _ = writeln!(
            out,
            "  {name:<24} p50 {:>9.1} us  p90 {:>9.1}  p99 {:>9.1}  p99.9 {:>9.1}  max {:>9.1}",
            latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us
        );
    }
    if let Some(cost) = &phase.relay {
        let _ = write!(out, "  relay: {:.3} s CPU ({})", cost.cpu_s, cost.cpu_source);
        let _ = write!(out, ", anonymous memory {} -> {} KiB", cost.anon_before_kib, cost.anon_after_kib);
        if let Some(growth) = cost.disk_growth_bytes {
            let _ = write!(out, ", disk {growth:+} B");
        }
        out.push('\n');
    }
    let _ = writeln!(
        out,
        "  bytes: {} sent, {} received; generator {:.2} us CPU per {}",
        phase.sent_bytes, phase.received_bytes, phase.generator_cpu_us_per_unit, phase.unit
    );
    let figures: Vec<String> = phase.figures.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
    for line in wrap(&figures, 104) {
        let _ = writeln!(out, "  {line}");
    }
    let grades = [("FAULT", &phase.violations), ("deviation", &phase.deviations), ("refused", &phase.refusals)];
    for (grade, counts) in grades {
        for (name, count) in counts {
            let _ = writeln!(out, "  {grade} {name}: {count}");
        }
    }
    for fitted in &phase.fitted {
        let _ = writeln!(out, "  fitted to the relay's limits: {fitted}");
    }
    for note in &phase.notes {
        let _ = writeln!(out, "  NOTE {note}");
    }
    for example in &phase.examples {
        let _ = writeln!(out, "    {example}");
    }
    for notice in &phase.notices {
        let _ = writeln!(out, "  NOTICE {notice}");
    }
    if phase.generator_core_share > 0.9 {
        let _ = writeln!(
            out,
            "  the generator used {:.0} % of a core: it may be the limit",
            phase.generator_core_share * 100.0
        );
    }
}

/// A figure without needless digits.
pub fn number(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn wrap(parts: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.len() + part.len() + 3 <= width => {
                line.push_str(" · ");
                line.push_str(part);
            }
            _ => lines.push(part.clone()),
        }
    }
    lines
}

/// One line per sample of a long phase.
pub fn sample_line(sample: &Sample) -> String {
    let ms = |us: Option<f64>| us.map_or("-".to_string(), |us| format!("{:.1}", us / 1000.0));
    let mib = |bytes: Option<u64>| bytes.map_or("-".to_string(), |bytes| format!("{:.1}", bytes as f64 / 1_048_576.0));
    format!(
        "{:>7.0} s  events {:>9}  queries {:>9}  deliveries {:>9}  p99 ms OK {:>6} EOSE {:>6} live {:>6}  memory {:>7} MiB  disk {:>8} MiB",
        sample.at_s,
        sample.events,
        sample.queries,
        sample.deliveries,
        ms(sample.ok_p99_us),
        ms(sample.eose_p99_us),
        ms(sample.delivery_p99_us),
        mib(sample.anon_kib.map(|kib| kib * 1024)),
        mib(sample.disk_bytes),
    )
}
