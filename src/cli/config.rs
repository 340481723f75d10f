//! `weir config`: shows what is in force, and finds what is wrong in a file.

use std::io::Write as _;
use std::process::ExitCode;

use super::global::Global;
use super::output::stdout;
use crate::config::{ConfigError, memory_ceiling};

/// Arguments of `weir config`.
#[derive(clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  weir config print > weir.toml               every key at its default, to start from
  weir config print --config weir.toml        the defaults with the changes of a file
  weir config check --config weir.toml        what is wrong, with line and column; exits 1 if anything is"
)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Write every key with its value, as a configuration file
    Print,
    /// Tell what is wrong in the file, and how much memory it lets the relay use
    Check,
}

/// Prints or checks the configuration.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut out = stdout();
    let code = match arguments.action {
        Action::Print => {
            out.write_all(global.config()?.to_toml().as_bytes())?;
            ExitCode::SUCCESS
        }
        Action::Check => match global.config().and_then(|config| config.validate().map(|()| config)) {
            Ok(config) => {
                for warning in config.warnings() {
                    writeln!(out, "warning: {warning}")?;
                }
                writeln!(out, "{}\nthe configuration is good", memory_ceiling(&config))?;
                ExitCode::SUCCESS
            }
            // The findings are the result, in the form that editors read.
            Err(problems @ ConfigError::Wrong { .. }) => {
                writeln!(out, "{problems}")?;
                ExitCode::FAILURE
            }
            Err(error) => return Err(error.into()),
        },
    };
    out.flush()?;
    Ok(code)
}
