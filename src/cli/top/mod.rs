//! `weir top`: what the running relay does, over its local socket.
//!
//! The relay is asked once in each interval and does nothing for it in between. The terminal is restored however this
//! ends: by a key, a signal, an error or a panic.

mod figures;
mod sample;
mod screen;
mod state;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::{DefaultTerminal, Terminal};
use serde_json::json;

use super::global::Global;
use super::{interrupt, output};
use crate::management::socket::Client;
use figures::Figures;
use sample::Sample;
use state::{KeyEffect, State};

/// How many connections the relay is asked for.
const CONNECTIONS: usize = 200;

/// How often a signal is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// The size of a picture that is printed, in columns and lines.
const PRINTED: (u16, u16) = (120, 50);

/// Arguments of `weir top`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir top --data /var/lib/weir                     watch the relay; q quits
  weir top --data /var/lib/weir --once --json       print the figures of one interval, for a script

Rates and latencies are those of the last interval. The CPU seconds of a connection count from when it opened.")]
pub struct Arguments {
    /// Seconds between two samples
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    interval: u64,
    /// Print one snapshot after one interval, and exit
    #[arg(long)]
    once: bool,
    /// With --once: print the figures as JSON
    #[arg(long, requires = "once")]
    json: bool,
}

/// Shows the running relay.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let data = global.config()?.storage.data;
    let mut client = Client::connect(&data)
        .with_context(|| format!("cannot reach the relay on the store in {}", data.display()))?
        .with_context(|| format!("no relay runs on the store in {}", data.display()))?;
    let interval = Duration::from_secs(arguments.interval);
    if arguments.once {
        return once(&mut client, interval, arguments.json);
    }
    anyhow::ensure!(std::io::stdout().is_terminal(), "standard output is not a terminal; use --once");
    let before = sample(&mut client)?;
    // `restore` is called by a panic too: `init` sees to that.
    let mut terminal = ratatui::init();
    let ended = watch(&mut terminal, &mut client, before, interval);
    ratatui::restore();
    ended.map(|()| ExitCode::SUCCESS)
}

fn sample(client: &mut Client) -> anyhow::Result<Sample> {
    let answer = client.call("view", json!([CONNECTIONS]), |_| {}).context("the relay does not answer")?;
    Sample::read(answer.map_err(|error| anyhow!(error))?, Instant::now()).context("the relay's answer cannot be read")
}

fn once(client: &mut Client, interval: Duration, as_json: bool) -> anyhow::Result<ExitCode> {
    let (stop, before) = (interrupt::watch(), sample(client)?);
    while before.at.elapsed() < interval {
        if stop.load(Ordering::Acquire) {
            return Ok(interrupt::EXIT_CODE.into());
        }
        std::thread::park_timeout(LOOK);
    }
    let figures = Figures::between(&before, &sample(client)?);
    let mut out = output::stdout();
    if as_json {
        serde_json::to_writer(&mut out, &figures)?;
        out.write_all(b"\n")?;
    } else {
        out.write_all(printed(&figures)?.as_bytes())?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The picture as lines of text.
fn printed(figures: &Figures) -> anyhow::Result<String> {
    let (columns, lines) = PRINTED;
    let mut terminal = Terminal::new(TestBackend::new(columns, lines))?;
    terminal.draw(|frame| screen::draw(frame, figures, &State::default()))?;
    let cells = terminal.backend().buffer().content().chunks(usize::from(columns));
    let lines = cells.map(|line| line.iter().map(ratatui::buffer::Cell::symbol).collect::<String>());
    Ok(lines.map(|line| line.trim_end().to_owned() + "\n").collect())
}

/// Draws and handles keys until the operator or a signal ends it.
fn watch(
    terminal: &mut DefaultTerminal,
    client: &mut Client,
    mut before: Sample,
    interval: Duration,
) -> anyhow::Result<()> {
    let stop = interrupt::watch();
    let (mut state, mut figures) = (State::default(), Figures::between(&before, &before));
    let mut due = Instant::now() + interval;
    while !stop.load(Ordering::Acquire) {
        if Instant::now() >= due {
            let after = sample(client)?;
            figures = Figures::between(&before, &after);
            state.keep_within(&figures);
            (before, due) = (after, Instant::now() + interval);
        }
        terminal.draw(|frame| screen::draw(frame, &figures, &state))?;
        // A signal is looked for even when no key comes.
        if !event::poll(LOOK.min(due.saturating_duration_since(Instant::now())))? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind == KeyEventKind::Press => match state.press(key, &figures) {
                KeyEffect::Draw => {}
                KeyEffect::Quit => return Ok(()),
                KeyEffect::Call(act) => {
                    let done = client.call(act.method, act.params, |_| {}).context("the relay does not answer")?;
                    state.message = done.map_or_else(|error| format!("it failed: {error}"), |_| "done".into());
                }
            },
            _ => {}
        }
    }
    Ok(())
}
