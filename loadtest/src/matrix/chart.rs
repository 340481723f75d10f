//! The charts of a page as SVG files, on logarithmic axes, for light and dark backgrounds.
//!
//! It must never draw a median without its spread.

use std::fmt::Write as _;

use super::plan::slug;
use super::results::{Pick, Results};
use super::statistics::Spread;

/// All lengths in pixels.
const WIDTH: f64 = 800.0;
const PLOT_LEFT: f64 = 210.0;
const PLOT_RIGHT: f64 = 780.0;
const HEAD: f64 = 66.0;
const ROW: f64 = 15.0;
const GROUP_GAP: f64 = 12.0;
const FOOT: f64 = 36.0;
const CURVE_LEFT: f64 = 80.0;
const CURVE_HEIGHT: f64 = 420.0;

/// One color per relay; with more relays they begin again.
const COLORS: [&str; 6] = ["#0969da", "#bc4c00", "#1a7f37", "#8250df", "#818b98", "#bf3989"];

const STYLE: &str = "text{font:13px system-ui,-apple-system,\"Segoe UI\",\"Liberation Sans\",sans-serif;fill:#1f2328}\
.title{font-size:15px;font-weight:600}.quiet{fill:#59636e}.end{text-anchor:end}.middle{text-anchor:middle}\
.grid{stroke:#d1d9e0}.line{fill:none;stroke-width:2}\
@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.quiet{fill:#9198a1}.grid{stroke:#3d444d}}";

/// A figure that is drawn for every phase of a scenario.
struct Figure {
    key: &'static str,
    title: &'static str,
    pick: Pick,
}

const FIGURES: [Figure; 2] = [
    Figure {
        key: "cpu",
        title: "CPU time of the relay per unit of work, us: less is better",
        pick: |phase| phase.relay_cpu_us_per_unit,
    },
    Figure { key: "rate", title: "Units of work per second: more is better", pick: |phase| Some(phase.per_second) },
];

/// Every chart with its file name.
pub fn all(results: &Results) -> Vec<(String, String)> {
    let mut charts = Vec::new();
    for (scenario, _) in results.scenarios() {
        for figure in &FIGURES {
            if let Some(svg) = dots(results, scenario, figure) {
                charts.push((format!("{}-{}.svg", slug(scenario), figure.key), svg));
            }
        }
    }
    for sweep in &results.sweeps {
        let points = |relay: usize| sweep.relays[relay].iter().map(|step| (step.per_second, step.p99_ms)).collect();
        let series: Vec<(&str, Vec<(f64, f64)>)> =
            results.relays.iter().enumerate().map(|(at, relay)| (relay.name.as_str(), points(at))).collect();
        let title = format!("{}: 99th percentile of the latency over throughput", sweep.scenario);
        charts.push((sweep_file(&sweep.scenario), curves(&title, &sweep.unit, &series)));
    }
    charts
}

/// The file of a sweep's chart.
pub fn sweep_file(scenario: &str) -> String {
    format!("{}-sweep.svg", slug(scenario))
}

/// A logarithmic axis.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Over all values above 0, from pixel `from` to pixel `to`.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = values
            .filter(|value| *value > 0.0 && value.is_finite())
            .fold((f64::MAX, 0.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
        let (low, high) = if high > 0.0 { (low, high) } else { (1.0, 10.0) };
        Self { low: (low / 1.25).ln(), high: (high * 1.25).ln(), from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.max(f64::MIN_POSITIVE).ln() - self.low) / (self.high - self.low);
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round numbers within the axis.
    fn ticks(&self) -> Vec<f64> {
        let decades =
            (self.low / std::f64::consts::LN_10).floor() as i32..=(self.high / std::f64::consts::LN_10).ceil() as i32;
        let all = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(decade)));
        let within: Vec<f64> = all.filter(|tick| (self.low..=self.high).contains(&tick.ln())).collect();
        let powers = |tick: &f64| (tick.log10() - tick.log10().round()).abs() < 1e-9;
        if within.len() > 9 { within.into_iter().filter(powers).collect() } else { within }
    }
}

/// One line for each relay in a group for each phase: its median as a dot, its spread as a line.
fn dots(results: &Results, scenario: &str, figure: &Figure) -> Option<String> {
    let phases = results.phases(scenario);
    let spreads = |phase: &str| -> Vec<Option<Spread>> {
        (0..results.relays.len()).map(|relay| results.spread(relay, scenario, phase, figure.pick)).collect()
    };
    let groups: Vec<(&str, Vec<Option<Spread>>)> = phases.iter().map(|(phase, _)| (*phase, spreads(phase))).collect();
    let known = || groups.iter().flat_map(|(_, spreads)| spreads).flatten();
    known().next()?;
    let axis = Axis::over(known().flat_map(|spread| [spread.low, spread.high]), PLOT_LEFT, PLOT_RIGHT);
    let group = ROW * results.relays.len() as f64 + GROUP_GAP;
    let bottom = HEAD + group * groups.len() as f64;
    let names: Vec<&str> = results.relays.iter().map(|relay| relay.name.as_str()).collect();
    let mut svg = open(&format!("{scenario}. {}", figure.title), bottom + FOOT);
    legend(&names, &mut svg);
    for tick in axis.ticks() {
        let x = axis.place(tick);
        // Writing to a String cannot fail.
        let _ = write!(svg, "<path d=\"M{x:.1} {}V{bottom:.1}\" class=\"grid\"/>", HEAD - 8.0);
        text(x, bottom + 18.0, &number(tick), "quiet middle", &mut svg);
    }
    for (at, (phase, spreads)) in groups.iter().enumerate() {
        let top = HEAD + group * at as f64;
        text(PLOT_LEFT - 12.0, top + (group - GROUP_GAP) / 2.0 + 4.5, phase, "end", &mut svg);
        for (relay, spread) in spreads.iter().enumerate() {
            let Some(spread) = spread else { continue };
            let (y, color) = (top + ROW * (relay as f64 + 0.5), COLORS[relay % COLORS.len()]);
            let [low, middle, high] = [spread.low, spread.median, spread.high].map(|value| axis.place(value));
            let _ = write!(svg, "<path d=\"M{low:.1} {y:.1}H{high:.1}\" stroke=\"{color}\" stroke-width=\"3\"/>");
            let _ = write!(svg, "<circle cx=\"{middle:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{color}\"/>");
            let label = if high > PLOT_RIGHT - 60.0 { (low - 8.0, "quiet end") } else { (high + 8.0, "quiet") };
            text(label.0, y + 4.5, &number(spread.median), label.1, &mut svg);
        }
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// Latency in milliseconds over throughput, a line for each relay.
fn curves(title: &str, unit: &str, series: &[(&str, Vec<(f64, f64)>)]) -> String {
    let points = || series.iter().flat_map(|(_, points)| points);
    let x = Axis::over(points().map(|point| point.0), CURVE_LEFT, PLOT_RIGHT);
    let y = Axis::over(points().map(|point| point.1), CURVE_HEIGHT, HEAD);
    let mut svg = open(title, CURVE_HEIGHT + 2.0 * FOOT);
    legend(&series.iter().map(|(name, _)| *name).collect::<Vec<_>>(), &mut svg);
    for tick in x.ticks() {
        let at = x.place(tick);
        let _ = write!(svg, "<path d=\"M{at:.1} {HEAD}V{CURVE_HEIGHT}\" class=\"grid\"/>");
        text(at, CURVE_HEIGHT + 18.0, &number(tick), "quiet middle", &mut svg);
    }
    for tick in y.ticks() {
        let at = y.place(tick);
        let _ = write!(svg, "<path d=\"M{CURVE_LEFT} {at:.1}H{PLOT_RIGHT}\" class=\"grid\"/>");
        text(CURVE_LEFT - 8.0, at + 4.5, &format!("{} ms", number(tick)), "quiet end", &mut svg);
    }
    text(PLOT_RIGHT, CURVE_HEIGHT + 40.0, &format!("answered per second ({unit}), logarithmic"), "quiet end", &mut svg);
    for (relay, (_, points)) in series.iter().enumerate() {
        let color = COLORS[relay % COLORS.len()];
        let places: Vec<(f64, f64)> = points.iter().map(|point| (x.place(point.0), y.place(point.1))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        if !path.is_empty() {
            let _ = write!(svg, "<path d=\"M{}\" class=\"line\" stroke=\"{color}\"/>", path.join("L"));
        }
        for (x, y) in places {
            let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{color}\"/>");
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn open(title: &str, height: f64) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\"><title>{}</title><style>{STYLE}</style>",
        escape(title)
    );
    text(0.0, 18.0, title, "title", &mut svg);
    svg
}

fn legend(names: &[&str], svg: &mut String) {
    let mut x = 0.0;
    for (relay, name) in names.iter().enumerate() {
        let color = COLORS[relay % COLORS.len()];
        let _ = write!(svg, "<circle cx=\"{:.1}\" cy=\"40\" r=\"4.5\" fill=\"{color}\"/>", x + 5.0);
        text(x + 15.0, 44.5, name, "", svg);
        x += 40.0 + 7.5 * name.chars().count() as f64;
    }
}

fn text(x: f64, y: f64, words: &str, class: &str, svg: &mut String) {
    let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{}</text>", escape(words));
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Three significant digits, with commas between thousands.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size == 0.0 || size >= 100.0 || !size.is_finite() => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) =
        text.split_once('.').map_or((text.as_str(), ""), |(whole, rest)| (whole, rest.trim_end_matches('0')));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        let left = whole.len() - at;
        if at > 0 && left % 3 == 0 && grouped != "-" {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if rest.is_empty() { grouped } else { format!("{grouped}.{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_three_digits_that_say_something() {
        let cases =
            [(0.0, "0"), (0.1234, "0.123"), (1.5, "1.5"), (12.34, "12.3"), (999.6, "1,000"), (-1234.0, "-1,234")];
        for (value, expected) in cases {
            assert_eq!(number(value), expected);
        }
        assert_eq!(number(1_234_567.0), "1,234,567");
    }

    #[test]
    fn equal_factors_are_equal_lengths_on_an_axis() {
        let axis = Axis::over([10.0, 1000.0].into_iter(), 0.0, 100.0);
        let steps = [10.0, 100.0, 1000.0].map(|value| axis.place(value));
        assert!((steps[1] - steps[0] - (steps[2] - steps[1])).abs() < 1e-9, "{steps:?}");
        assert_eq!(axis.ticks(), [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]);
        // Nothing to draw is no reason to fail.
        assert_eq!(Axis::over(std::iter::empty(), 0.0, 1.0).ticks(), [1.0, 2.0, 5.0, 10.0]);
    }
}
