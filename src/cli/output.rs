//! Where commands write, and how progress and numbers look.
//!
//! Nothing here fails or panics because nobody reads: a command goes on to its end without its reader, and its exit code
//! holds; one that only streams events (`weir export | head`) ends, quietly, by what [`is_broken_pipe`] tells.

use std::io::{BufWriter, ErrorKind, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Bytes gathered between writes.
const BUFFER_BYTES: usize = 64 << 10;

/// Standard output for what a command has to report, in large writes. To be flushed at the end, or errors go unseen.
///
/// A reader that has gone is no error: the exit code tells the rest.
pub fn stdout() -> BufWriter<impl Write> {
    BufWriter::with_capacity(BUFFER_BYTES, Unread(std::io::stdout().lock()))
}

/// Standard output for a stream of events, which is at its end when nobody reads on.
pub fn stream() -> BufWriter<impl Write> {
    BufWriter::with_capacity(BUFFER_BYTES, std::io::stdout().lock())
}

/// Takes what is written also when the reader has gone.
struct Unread<W>(W);

impl<W: Write> Write for Unread<W> {
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

/// Says something to the user on standard error. That nobody can read it is no reason to fail.
pub fn say(line: std::fmt::Arguments<'_>) {
    // One write, so that lines of several threads do not mix.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Whether an error says that nobody reads what we write.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_broken =
        |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<std::io::Error>().is_some_and(is_unread);
    error.chain().any(is_broken)
}

/// How far a command is, in bytes of a file or else in events. Drawn on a terminal only, on standard error.
pub fn progress(total: Option<u64>, in_bytes: bool) -> ProgressBar {
    let template = match (total, in_bytes) {
        (Some(_), true) => "{bar:30} {bytes} of {total_bytes}, {msg}{eta} left",
        (None, true) => "{spinner} {bytes}, {msg}{elapsed}",
        (Some(_), false) => "{bar:30} {human_pos} of {human_len} events, {rate}, {eta} left",
        (None, false) => "{spinner} {human_pos} events, {rate}, {elapsed}",
    };
    let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        // Writing to a string in memory does not fail.
        let _ = write!(out, "{:.0} a second", state.per_sec());
    };
    let style = ProgressStyle::with_template(template).expect("these templates are well formed").with_key("rate", rate);
    ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()).with_style(style)
}

/// How far a command is in so many of something.
pub fn progress_of(total: u64, what: &str) -> ProgressBar {
    let template = format!("{{bar:30}} {{human_pos}} of {{human_len}} {what}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).expect("the template is well formed");
    ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()).with_style(style)
}
