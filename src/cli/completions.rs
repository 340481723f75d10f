//! `weir completions` and `weir man`: what shells and `man` know about the commands, generated from their arguments.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::output;

/// Arguments of `weir completions`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir completions bash > /usr/share/bash-completion/completions/weir
  weir completions zsh > /usr/share/zsh/vendor-completions/_weir
  weir completions fish > /usr/share/fish/vendor_completions.d/weir.fish

The Debian package has all three.")]
pub struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

/// Arguments of `weir man`.
#[derive(clap::Args)]
pub struct Man {
    /// The directory of the pages, which is created if missing
    directory: PathBuf,
}

/// Prints a script that completes the commands and their options in a shell.
pub fn run(arguments: &Completions) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "weir", &mut script);
    let mut out = output::stdout();
    out.write_all(&script)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for `weir` and for each of its commands.
pub fn write_pages(arguments: &Man) -> anyhow::Result<ExitCode> {
    let directory = &arguments.directory;
    let write = || {
        std::fs::create_dir_all(directory)?;
        clap_mangen::generate_to(super::Arguments::command(), directory)
    };
    write().with_context(|| format!("cannot write the pages to {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
