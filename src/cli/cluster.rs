//! `weir cluster status`: shows the nodes of the cluster, and how far each has come.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use indicatif::BinaryBytes;

use super::global::Global;
use super::output;
use crate::pipeline::now;
use crate::replication::{NodeStatus, cluster_status};

/// Arguments of `weir cluster`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show the nodes, and how far each has come
    #[command(after_help = "Examples:
  weir cluster status --config /etc/weir/weir.toml

Works on any machine that may reach NATS. Exits with 1 if a node does not answer.")]
    Status,
}

/// Runs the command.
pub fn run(global: &Global, Arguments { command: Command::Status }: &Arguments) -> anyhow::Result<ExitCode> {
    let config = global.config()?;
    anyhow::ensure!(config.cluster.is_on(), "cluster.servers is empty, so there is no cluster");
    let overview = cluster_status(&config.cluster).context("the cluster cannot be asked")?;
    let mut out = output::stdout();
    let (stream, messages, last) = (overview.stream, overview.messages, overview.last);
    writeln!(out, "{stream}: {messages} messages, {}, the last is {last}", BinaryBytes(overview.bytes))?;
    let head = ["node", "version", "arrived", "to publish", "to take", "compared"];
    let rows = overview.nodes.iter().map(|node| row(node, now().0));
    let rows: Vec<[String; 6]> = std::iter::once(head.map(Into::into)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 6] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    out.flush()?;
    let all_answer = overview.nodes.iter().all(|node| node.status.is_some());
    Ok(if all_answer { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is shown of a node.
fn row(node: &NodeStatus, now: u64) -> [String; 6] {
    let NodeStatus { name, waiting, status } = node;
    match status {
        None => [name.clone(), "no answer".into(), "-".into(), "-".into(), waiting.to_string(), "-".into()],
        Some(status) => {
            let compared = match status.compared_at {
                0 => "not yet".into(),
                at => format!("{} s ago", now.saturating_sub(at)),
            };
            let to_publish = status.arrived.saturating_sub(status.published).to_string();
            let version = status.version.chars().take(32).collect();
            [name.clone(), version, status.arrived.to_string(), to_publish, waiting.to_string(), compared]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::NodeReport;

    #[test]
    fn a_row_tells_what_is_left_to_do_and_who_does_not_answer() {
        let report = NodeReport { version: "0.1.0".into(), arrived: 9, published: 7, settled: 5, compared_at: 90 };
        let node = NodeStatus { name: "a".into(), waiting: 3, status: Some(report.clone()) };
        assert_eq!(row(&node, 100), ["a", "0.1.0", "9", "2", "3", "10 s ago"]);
        let fresh = NodeStatus { status: Some(NodeReport { compared_at: 0, ..report }), ..node.clone() };
        assert_eq!(row(&fresh, 100)[5], "not yet");
        assert_eq!(row(&NodeStatus { status: None, ..node }, 100), ["a", "no answer", "-", "-", "3", "-"]);
    }
}
