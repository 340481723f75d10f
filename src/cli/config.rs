//! `weir config`: prints or checks the configuration.

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
  weir config print > weir.toml               every key with its default, as a starting point
  weir config print --config weir.toml        every key, with the values of a file
  weir config check --config weir.toml        list mistakes with line and column; exits with 1 if there are any"
)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Print every key with its value, as a configuration file
    Print,
    /// List mistakes in the file, and the memory that the relay may use
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
                writeln!(out, "{}\nthe configuration is valid", memory_ceiling(&config))?;
                ExitCode::SUCCESS
            }
            // The mistakes are the result, in a form that editors understand.
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
