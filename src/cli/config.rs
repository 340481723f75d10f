//! `weir config`: prints or checks the configuration, or writes one from strfry's.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::descriptors;
use super::global::Global;
use super::output::{say, stdout};
use crate::config::strfry::{self, Node, Outside};
use crate::config::{ConfigError, memory_ceiling};

/// Arguments of `weir config`.
#[derive(clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  weir config print > weir.toml               every key with its default, as a starting point
  weir config print --config weir.toml        every key, with the values of a file
  weir config check --config weir.toml        list mistakes with line and column; exits with 1 if there are any
  weir config from-strfry /etc/strfry.conf > weir.toml     the same settings, as weir has them"
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
    /// Write weir's configuration from strfry's; what has no counterpart is told, and a comment in the result
    FromStrfry {
        /// strfry's file [default: $STRFRY_CONFIG, /etc/strfry.conf or ./strfry.conf, the first that there is]
        file: Option<PathBuf>,
    },
}

/// Prints or checks the configuration.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut out = stdout();
    let code = match &arguments.action {
        Action::Print => {
            out.write_all(global.config()?.to_toml().as_bytes())?;
            ExitCode::SUCCESS
        }
        Action::Check => match global.config().and_then(|config| config.validate().map(|()| config)) {
            Ok(config) => {
                for warning in config.warnings().into_iter().chain(descriptors::warning(&config.server)) {
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
        Action::FromStrfry { file } => {
            out.write_all(from_strfry(file.as_deref())?.as_bytes())?;
            ExitCode::SUCCESS
        }
    };
    out.flush()?;
    Ok(code)
}

/// The text of weir.toml; what it cannot say goes to standard error.
fn from_strfry(file: Option<&Path>) -> anyhow::Result<String> {
    let file = match file {
        Some(file) => file.to_path_buf(),
        None => strfry_file().context("there is no strfry.conf in /etc nor here; name the file")?,
    };
    let name = file.display();
    let translation = strfry::translate(&name.to_string(), &read_strfry(&file)?);
    for leftover in &translation.leftovers {
        let strfry::Leftover { key, place, reason, .. } = leftover;
        say(format_args!("{name}:{}:{}: {key}: {reason}", place.line, place.column));
    }
    Ok(translation.toml)
}

/// Reads strfry's configuration.
pub fn read_strfry(file: &Path) -> anyhow::Result<Node> {
    let name = file.display().to_string();
    let text = read_some(file).with_context(|| format!("cannot read {name}"))?;
    let outside = Outside { variable: &|name| std::env::var(name).ok(), file: &|name| read_some(Path::new(name)) };
    Ok(strfry::parse(&name, &text, &outside)?)
}

/// Reads as much as is enough to see that it is too much.
fn read_some(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)?.take(strfry::MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Where strfry looks for its configuration.
pub fn strfry_file() -> Option<PathBuf> {
    let named = std::env::var_os("STRFRY_CONFIG").map(PathBuf::from);
    named.or_else(|| ["/etc/strfry.conf", "strfry.conf"].map(PathBuf::from).into_iter().find(|path| path.exists()))
}
