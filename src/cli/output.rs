//! Output of commands and progress bars.
//!
//! A reader that goes away causes no failure and no panic: a command runs to its end without its reader, and its exit
//! code stays meaningful. A command that only streams events (`weir export | head`) stops quietly, see
//! [`is_broken_pipe`].

use std::io::{BufWriter, ErrorKind, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// The size of the output buffer.
const BUFFER_BYTES: usize = 64 << 10;

/// Standard output for the report of a command, buffered. It must be flushed at the end, or errors go unnoticed.
///
/// A reader that has gone away is not an error: the exit code tells the result.
pub fn stdout() -> BufWriter<impl Write> {
    BufWriter::with_capacity(BUFFER_BYTES, IgnoreBrokenPipe(std::io::stdout().lock()))
}

/// Standard output for a stream of events. It fails once nobody reads it any more.
pub fn stream() -> BufWriter<impl Write> {
    BufWriter::with_capacity(BUFFER_BYTES, std::io::stdout().lock())
}

/// Accepts output even when the reader has gone away.
struct IgnoreBrokenPipe<W>(W);

impl<W: Write> Write for IgnoreBrokenPipe<W> {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.write(text).or_else(|error| if is_unread(&error) { Ok(text.len()) } else { Err(error) })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush().or_else(|error| if is_unread(&error) { Ok(()) } else { Err(error) })
    }
}

fn is_unread(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::BrokenPipe
}

/// Prints a line for the user on standard error. It is no failure if nobody can read it.
pub fn say(line: std::fmt::Arguments<'_>) {
    // A single write, so that lines of several threads do not mix.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Whether the error means that the reader of our output has gone away.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_broken =
        |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<std::io::Error>().is_some_and(is_unread);
    error.chain().any(is_broken)
}

/// A progress bar that counts bytes of a file or else events. It is drawn on standard error, if that is a terminal.
pub fn progress(total: Option<u64>, in_bytes: bool) -> ProgressBar {
    let template = match (total, in_bytes) {
        (Some(_), true) => "{bar:30} {bytes} of {total_bytes}, {msg}{eta} left",
        (None, true) => "{spinner} {bytes}, {msg}{elapsed}",
        (Some(_), false) => "{bar:30} {human_pos} of {human_len} events, {rate}, {eta} left",
        (None, false) => "{spinner} {human_pos} events, {rate}, {elapsed}",
    };
    let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        // Writing to a string in memory does not fail.
        let _ = write!(out, "{:.0} per second", state.per_sec());
    };
    let style = ProgressStyle::with_template(template).expect("the templates are well formed").with_key("rate", rate);
    ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()).with_style(style)
}

/// A progress bar for work whose size shows only on the way.
pub fn watching() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} {msg}, {per_sec}, {elapsed}").expect("the template is well formed");
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}

/// A progress bar that counts up to `total` of `what`.
pub fn progress_of(total: u64, what: &str) -> ProgressBar {
    let template = format!("{{bar:30}} {{human_pos}} of {{human_len}} {what}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).expect("the template is well formed");
    ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()).with_style(style)
}
