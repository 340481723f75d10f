//! One self-contained HTML page: the figures as tables, latency over percentiles as inline SVG.
//!
//! It must never load anything: no script, no font, no image from elsewhere.

use std::fmt::Write as _;

use super::compare;
use super::table::number;
use super::{PhaseReport, Report, Sample};
use crate::latency::Summary;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1d2430}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.5rem;border-top:1px solid #d8dde6;padding-top:1rem}\
table{border-collapse:collapse;margin:.75rem 0}td,th{padding:.15rem .8rem .15rem 0;text-align:right;font-variant-numeric:tabular-nums}\
td:first-child,th:first-child{text-align:left}th{font-weight:600;border-bottom:1px solid #d8dde6}\
.bad{color:#b3261e;font-weight:600}.good{color:#1b6e3c;font-weight:600}.note{color:#5b6472}\
svg{background:#fbfcfe;border:1px solid #e3e7ee;margin:.4rem .8rem .4rem 0}svg text{font:11px system-ui,sans-serif;fill:#5b6472}\
.key{display:inline-block;width:1.2rem;height:3px;vertical-align:middle;margin-right:.4rem}";

/// Colours of the two sides.
const COLORS: [&str; 2] = ["#1f5fbf", "#c2571a"];
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 62.0;
const BOTTOM: f64 = 28.0;
const TOP: f64 = 24.0;
/// The curve ends where 1 in 10,000 values lies beyond.
const TAIL: f64 = 4.0;

/// The page for one report or for two sides of a comparison.
pub fn render(reports: &[&Report]) -> String {
    let mut out = String::from("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    let title: Vec<String> = reports.iter().map(|report| escape(&report.label)).collect();
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "<title>{} · {}</title><style>{STYLE}</style></head><body><h1>{}: {}</h1>",
        escape(&reports[0].scenario),
        title.join(" / "),
        escape(&reports[0].scenario),
        title.join(" and ")
    );
    let _ = write!(out, "<p>{}</p>", escape(&reports[0].about));
    conditions(reports, &mut out);
    if let [a, b] = reports {
        for difference in compare::differences(a, b) {
            let _ = write!(out, "<p class=\"note\">{}</p>", escape(&difference));
        }
    }
    overview(reports, &mut out);
    for phase in &reports[0].phases {
        let sides: Vec<&PhaseReport> =
            reports.iter().filter_map(|report| report.phases.iter().find(|other| other.name == phase.name)).collect();
        phase_section(reports, &sides, &mut out);
    }
    out.push_str("</body></html>\n");
    out
}

fn conditions(reports: &[&Report], out: &mut String) {
    out.push_str("<table><tr><th></th><th>URL</th><th>machine</th><th>corpus</th><th>seed</th><th>result</th></tr>");
    for (side, report) in reports.iter().enumerate() {
        let class = if report.violations() == 0 { "good" } else { "bad" };
        let mut verdict = format!("<span class=\"{class}\">{}</span>", escape(&super::table::verdict(report)));
        if let Some(reason) = &report.incomplete {
            let _ = write!(verdict, "<br><span class=\"bad\">incomplete: {}</span>", escape(reason));
        }
        let _ = write!(
            out,
            "<tr><td>{}{}</td><td>{}</td><td>{}</td><td>{} events, mean {:.0} B</td><td>{}</td><td>{verdict}</td></tr>",
            key(side),
            escape(&report.label),
            escape(&report.url),
            escape(&report.machine),
            report.corpus_events,
            report.corpus_mean_bytes,
            report.seed
        );
    }
    out.push_str("</table>");
}

fn key(side: usize) -> String {
    format!("<span class=\"key\" style=\"background:{}\"></span>", COLORS[side % 2])
}

fn overview(reports: &[&Report], out: &mut String) {
    out.push_str("<table><tr><th>phase</th>");
    for report in reports {
        let label = escape(&report.label);
        let _ = write!(out, "<th>{label}<br>per s</th><th>p50 ms</th><th>p99 ms</th><th>relay µs</th>");
    }
    out.push_str("</tr>");
    for phase in &reports[0].phases {
        let _ = write!(out, "<tr><td>{}</td>", escape(&phase.name));
        for report in reports {
            match report.phases.iter().find(|other| other.name == phase.name) {
                Some(side) => overview_cells(side, out),
                None => out.push_str("<td></td><td></td><td></td><td></td>"),
            }
        }
        out.push_str("</tr>");
    }
    out.push_str("</table><p class=\"note\">relay µs: CPU time of the relay per unit of work</p>");
}

fn overview_cells(side: &PhaseReport, out: &mut String) {
    let latency = super::table::main_latency(side);
    let ms = |us: Option<f64>| us.map_or("–".to_string(), |us| format!("{:.2}", us / 1000.0));
    let cpu = side.relay_cpu_us_per_unit.map_or("–".to_string(), |us| format!("{us:.2}"));
    let _ = write!(
        out,
        "<td>{}</td><td>{}</td><td>{}</td><td>{cpu}</td>",
        number(side.per_second.round()),
        ms(latency.map(|summary| summary.p50_us)),
        ms(latency.map(|summary| summary.p99_us)),
    );
}

fn phase_section(reports: &[&Report], sides: &[&PhaseReport], out: &mut String) {
    let first = sides[0];
    let _ = write!(out, "<h2>{}</h2>", escape(&first.name));
    for name in first.latency.keys() {
        let curves: Vec<&Summary> = sides.iter().filter_map(|side| side.latency.get(name)).collect();
        out.push_str(&latency_chart(name, &curves));
    }
    for (title, pick) in SERIES {
        let series: Vec<Vec<(f64, f64)>> = sides.iter().map(|side| points(&side.samples, pick)).collect();
        if series.iter().any(|series| series.len() > 1) {
            out.push_str(&time_chart(title, &series));
        }
    }
    figures_table(reports, sides, out);
    for side in sides {
        for (name, count) in &side.violations {
            let _ = write!(out, "<p class=\"bad\">{}: {count}</p>", escape(name));
        }
        let deviations = side.deviations.iter().map(|(name, count)| format!("deviation {name}: {count}"));
        let refusals = side.refusals.iter().map(|(name, count)| format!("refused {name}: {count}"));
        let fitted = side.fitted.iter().map(|text| format!("not comparable, fitted to the relay's limits: {text}"));
        let texts = side.notes.iter().chain(&side.examples).chain(&side.notices).cloned();
        for text in deviations.chain(refusals).chain(fitted).chain(texts) {
            let _ = write!(out, "<p class=\"note\">{}</p>", escape(&text));
        }
    }
}

fn figures_table(reports: &[&Report], sides: &[&PhaseReport], out: &mut String) {
    let side = |report: &Report, phase: &PhaseReport| Report { phases: vec![phase.clone()], ..report.clone() };
    let a = side(reports[0], sides[0]);
    let b = sides.get(1).map(|phase| side(reports[1], phase));
    let lines = compare::lines(&a, b.as_ref().unwrap_or(&a));
    out.push_str("<table><tr><th></th>");
    reports.iter().take(sides.len()).enumerate().for_each(|(number, report)| {
        let _ = write!(out, "<th>{}{}</th>", key(number), escape(&report.label));
    });
    out.push_str(if b.is_some() { "<th>ratio</th></tr>" } else { "</tr>" });
    for line in lines {
        let _ = write!(out, "<tr><td>{}</td><td>{}</td>", escape(&line.figure), number(line.a));
        if b.is_some() {
            let ratio = line.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
            let _ = write!(out, "<td>{}</td><td>{ratio}</td>", number(line.b));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table>");
}

/// Latency over percentiles. The horizontal axis is logarithmic in the tail: each step to the right is ten times rarer.
fn latency_chart(name: &str, curves: &[&Summary]) -> String {
    let at = |quantile: f64| (-(1.0 - quantile).log10()).clamp(0.0, TAIL) / TAIL;
    let series: Vec<Vec<(f64, f64)>> = curves
        .iter()
        .map(|summary| {
            let inside = summary.curve.iter().filter(|(quantile, _)| *quantile <= 0.9999);
            inside.map(|&(quantile, us)| (at(quantile), us / 1000.0)).collect()
        })
        .collect();
    let marks = [("0", 0.0), ("90 %", 0.25), ("99 %", 0.5), ("99.9 %", 0.75), ("99.99 %", 1.0)];
    chart(&format!("{name}, ms"), &series, &marks)
}

/// What a long phase samples.
type Pick = fn(&Sample) -> Option<f64>;
const SERIES: [(&str, Pick); 6] = [
    ("anonymous memory, MiB", |sample| sample.anon_kib.map(|kib| kib as f64 / 1024.0)),
    ("data on disk, MiB", |sample| sample.disk_bytes.map(|bytes| bytes as f64 / 1_048_576.0)),
    ("relay CPU, cores", |sample| sample.relay_cores),
    ("EVENT to OK p99, ms", |sample| sample.ok_p99_us.map(|us| us / 1000.0)),
    ("REQ to EOSE p99, ms", |sample| sample.eose_p99_us.map(|us| us / 1000.0)),
    ("EVENT to delivery p99, ms", |sample| sample.delivery_p99_us.map(|us| us / 1000.0)),
];

fn points(samples: &[Sample], pick: Pick) -> Vec<(f64, f64)> {
    samples.iter().filter_map(|sample| Some((sample.at_s, pick(sample)?))).collect()
}

fn time_chart(title: &str, series: &[Vec<(f64, f64)>]) -> String {
    let end = series.iter().flatten().map(|point| point.0).fold(1.0, f64::max);
    let scaled: Vec<Vec<(f64, f64)>> =
        series.iter().map(|series| series.iter().map(|&(at, value)| (at / end, value)).collect()).collect();
    let (half, whole) = (format!("{:.0} s", end / 2.0), format!("{end:.0} s"));
    chart(title, &scaled, &[("0", 0.0), (&half, 0.5), (&whole, 1.0)])
}

/// Lines through points whose first coordinate is already in 0..=1.
fn chart(title: &str, series: &[Vec<(f64, f64)>], marks: &[(&str, f64)]) -> String {
    let top = round_up(series.iter().flatten().map(|point| point.1).fold(0.0, f64::max));
    let x = |at: f64| LEFT + at * (WIDTH - LEFT - 24.0);
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP);
    let mut svg = format!("<svg width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\"><title>{}</title>", escape(title));
    let _ = write!(svg, "<text x=\"{LEFT}\" y=\"15\">{}</text>", escape(title));
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let (left, right, line) = (x(0.0), x(1.0), y(value));
        let _ = write!(svg, "<path d=\"M{left} {line:.1}H{right}\" stroke=\"#e3e7ee\"/>");
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            line + 4.0,
            tick(value)
        );
    }
    for (label, at) in marks {
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", x(*at), HEIGHT - 9.0);
    }
    for (side, series) in series.iter().enumerate() {
        let path: Vec<String> = series.iter().map(|&(at, value)| format!("{:.1} {:.1}", x(at), y(value))).collect();
        if !path.is_empty() {
            let color = COLORS[side % 2];
            let _ =
                write!(svg, "<path d=\"M{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>", path.join("L"));
        }
    }
    svg.push_str("</svg>");
    svg
}

fn tick(value: f64) -> String {
    if value >= 100.0 || value == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// The next 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|&step| step >= value).unwrap_or(power * 10.0)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latency;
    use std::time::Duration;

    fn report(label: &str) -> Report {
        let mut latency = Latency::new();
        (1..1000).for_each(|us| latency.record(Duration::from_micros(us)));
        let summary = latency.summary().expect("values");
        let sample = |at_s: f64| Sample { at_s, anon_kib: Some(2048), ..Sample::default() };
        let phase = PhaseReport {
            name: "p".into(),
            unit: "query".into(),
            latency: [("REQ to EOSE".to_string(), summary)].into(),
            samples: vec![sample(1.0), sample(2.0)],
            examples: vec!["<script>".into()],
            ..PhaseReport::default()
        };
        Report {
            version: "1".into(),
            scenario: "s".into(),
            about: "a".into(),
            url: "ws://x".into(),
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
    fn a_page_shows_both_sides_and_loads_nothing() {
        let (a, b) = (report("one"), report("two & more"));
        let page = render(&[&a, &b]);
        assert_eq!(page.matches("<svg").count(), 2, "a latency curve and the memory over time");
        for text in ["one", "two &amp; more", COLORS[0], COLORS[1], "&lt;script&gt;"] {
            assert!(page.contains(text), "{text}");
        }
        for text in ["<script", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(text), "{text}");
        }
    }

    #[test]
    fn a_page_for_one_report_has_one_curve() {
        let page = render(&[&report("one")]);
        assert_eq!(page.matches("stroke-width=\"2\"").count(), 2);
        assert!(!page.contains("ratio"));
    }

    #[test]
    fn axes_end_on_round_numbers() {
        let rounded: Vec<f64> = [0.0, 0.013, 1.0, 3.0, 51.0].into_iter().map(round_up).collect();
        assert_eq!(rounded, [1.0, 0.02, 1.0, 5.0, 100.0]);
    }
}
