//! The picture: figures in, cells out. It decides nothing.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph, Row, Table, Wrap};

use super::figures::{Figures, Latency, Queue};
use super::state::{List, State};

const HELP: &str = "q quit  tab list  up/down select  k close connection  b ban address  p ban key  e explain query";

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, figures: &Figures, state: &State) {
    let [head, middle, reasons, lists, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(12),
        Constraint::Length(6),
        Constraint::Min(4),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let [rates, latencies, queues, storage] = Layout::horizontal([
        Constraint::Percentage(24),
        Constraint::Percentage(28),
        Constraint::Percentage(24),
        Constraint::Percentage(24),
    ])
    .areas(middle);
    frame.render_widget(Line::styled(title(figures), Modifier::BOLD), head);
    list(frame, rates, "per second", figures.rates.iter().map(|(name, rate)| pair(name, &rate_of(name, *rate), rates)));
    list(
        frame,
        latencies,
        "milliseconds, median and 99 %",
        figures.latencies.iter().map(|(name, latency)| pair(name, &latency_text(latency), latencies)),
    );
    list(frame, queues, "queues", figures.queues.iter().map(|queue| pair(&queue.queue, &fill(queue), queues)));
    list(frame, storage, "storage and memory", stored(figures).map(|(name, text)| pair(name, &text, storage)));
    list(
        frame,
        reasons,
        "refusals per second, by reason",
        figures.refusals.iter().map(|(what, reasons)| {
            let told: Vec<String> = reasons.iter().map(|(reason, rate)| format!("{reason} {}", short(*rate))).collect();
            format!("{what}: {}", if told.is_empty() { "none".into() } else { told.join(", ") })
        }),
    );
    match state.list {
        List::Connections => connections(frame, lists, figures, state),
        List::SlowQueries => slow_queries(frame, lists, figures, state),
    }
    let said = match &state.asked {
        Some(act) => format!("{} y/n", act.question),
        None if state.message.is_empty() => HELP.into(),
        None => state.message.clone(),
    };
    frame.render_widget(Line::raw(said), foot);
    if state.explains {
        explain(frame, figures, state);
    }
}

fn title(figures: &Figures) -> String {
    let now = |name| short(figures.now.get(name).copied().unwrap_or_default());
    format!(
        "weir {}  process {}  {} connections ({} held)  {} subscriptions  {} events",
        figures.version,
        figures.pid,
        now("connections"),
        now("held"),
        now("subscriptions"),
        now("events")
    )
}

fn list(frame: &mut Frame<'_>, area: Rect, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<Line<'_>> = lines.map(Line::raw).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(title)), area);
}

/// A name on the left of an area and a text on its right.
fn pair(name: &str, text: &str, area: Rect) -> String {
    let name = name.replace('_', " ");
    let room = usize::from(area.width.saturating_sub(2)).saturating_sub(name.chars().count());
    format!("{name}{text:>room$}")
}

fn rate_of(name: &str, rate: f64) -> String {
    match name {
        "cpu" => format!("{rate:.2} cores"),
        _ if name.ends_with("_bytes") => bytes(rate),
        _ => short(rate),
    }
}

fn latency_text(latency: &Latency) -> String {
    let text = |ms: Option<f64>| ms.map_or("-".into(), |ms| format!("{ms:.2}"));
    format!("{:>7} {:>8}", text(latency.p50_ms), text(latency.p99_ms))
}

/// How full a queue is.
fn fill(queue: &Queue) -> String {
    format!("{} of {}", short(queue.entries), short(queue.bound))
}

fn stored(figures: &Figures) -> impl Iterator<Item = (&'static str, String)> {
    let now = |name| figures.now.get(name).copied().unwrap_or_default();
    let is_writable = if now("writable") > 0.0 { "yes" } else { "NO: FULL" };
    [
        ("in use", bytes(now("used_bytes"))),
        ("full at", bytes(now("full_bytes"))),
        ("data file", bytes(now("file_bytes"))),
        ("disk free", bytes(now("disk_free_bytes"))),
        ("accepts events", is_writable.into()),
        ("memory", bytes(now("private_bytes"))),
    ]
    .into_iter()
}

fn connections(frame: &mut Frame<'_>, area: Rect, figures: &Figures, state: &State) {
    let rows = figures.connections.iter().map(|cost| {
        let one = &cost.connection;
        [
            one.id.to_string(),
            one.address.clone(),
            format!("{:.1}", cost.cpu * 100.0),
            format!("{:.1}", one.cpu_us as f64 / 1e6),
            one.queries.to_string(),
            one.unanswered.to_string(),
            bytes(one.unsent_bytes as f64),
            bytes(one.filter_bytes as f64),
            one.key.chars().take(16).collect(),
        ]
    });
    let head = ["id", "address", "cpu %", "cpu s", "queries", "no OK yet", "unsent", "filters", "key"];
    let widths = [8, 24, 7, 8, 8, 10, 10, 10, 16].map(Constraint::Length);
    table(frame, area, "connections, the most expensive first", (head, rows, widths), state.selected);
}

fn slow_queries(frame: &mut Frame<'_>, area: Rect, figures: &Figures, state: &State) {
    let rows = figures.slow_queries.iter().map(|one| {
        [
            one.worked_ms.to_string(),
            one.waited_ms.to_string(),
            one.rows.to_string(),
            one.verb.clone(),
            one.address.clone(),
            one.filters.clone(),
        ]
    });
    let head = ["worked ms", "waited ms", "rows", "verb", "address", "filters"];
    let lengths = [10, 10, 10, 6, 24].map(Constraint::Length);
    let [a, b, c, d, e] = lengths;
    let widths = [a, b, c, d, e, Constraint::Fill(1)];
    table(frame, area, "slow queries, the latest first", (head, rows, widths), state.selected);
}

fn table<const N: usize>(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    (head, rows, widths): ([&str; N], impl Iterator<Item = [String; N]>, [Constraint; N]),
    selected: usize,
) {
    // The selected row stays in sight: borders and head take three lines.
    let seen = usize::from(area.height.saturating_sub(3)).max(1);
    let first = (selected + 1).saturating_sub(seen);
    let rows = rows.enumerate().skip(first).take(seen).map(|(number, row)| {
        let style = if number == selected { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        Row::new(row).style(style)
    });
    let table =
        Table::new(rows, widths).header(Row::new(head).style(Modifier::BOLD)).block(Block::bordered().title(title));
    frame.render_widget(table, area);
}

fn explain(frame: &mut Frame<'_>, figures: &Figures, state: &State) {
    let Some(query) = figures.slow_queries.get(state.selected) else { return };
    let area = frame.area().inner(ratatui::layout::Margin { horizontal: 4, vertical: 4 });
    let lines = [
        format!("{} from {}", query.verb, query.address),
        format!("filters: {}", query.filters),
        format!("plan: {}", query.plan),
        format!(
            "{} rows and ranges; threads worked {} ms, the client waited {} ms",
            query.rows, query.worked_ms, query.waited_ms
        ),
    ];
    let text: Vec<Line<'_>> = lines.into_iter().map(Line::raw).collect();
    let block = Block::bordered().title("explained; esc closes this");
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }).block(block), area);
}

/// A number in at most six characters.
fn short(number: f64) -> String {
    const STEPS: [(f64, &str); 3] = [(1e9, "G"), (1e6, "M"), (1e4, "k")];
    match STEPS.into_iter().find(|(step, _)| number >= *step) {
        Some((1e4, unit)) => format!("{:.1}{unit}", number / 1e3),
        Some((step, unit)) => format!("{:.1}{unit}", number / step),
        None if number.fract() == 0.0 => format!("{number:.0}"),
        None => format!("{number:.1}"),
    }
}

/// A size in at most ten characters.
fn bytes(number: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let step = (0..UNITS.len() - 1).take_while(|step| number >= 1024_f64.powi(*step as i32 + 1)).count();
    match step {
        0 => format!("{number:.0} B"),
        _ => format!("{:.1} {}", number / 1024_f64.powi(step as i32), UNITS[step]),
    }
}
