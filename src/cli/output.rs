//! Where commands write, and how progress and numbers look.
//!
//! A reader that goes away (`weir export | head`) ends a command quietly: [`is_broken_pipe`] tells such an error
//! from others.

use std::fmt::Write;
use std::io::{BufWriter, ErrorKind, StdoutLock};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Standard output, in large writes. To be flushed at the end, or errors go unseen.
pub fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(64 << 10, std::io::stdout().lock())
}

/// Whether an error says that nobody reads what we write.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_broken = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    };
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
    let rate = |state: &ProgressState, out: &mut dyn Write| {
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
