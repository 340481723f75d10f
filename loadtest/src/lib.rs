//! Load generator for NIP-01 relays: a corpus, scenarios, and a run that measures and checks every answer.
//!
//! Nothing in here may know which relay is at the other end.
#![warn(clippy::too_many_lines)]

pub mod account;
pub mod cli;
pub mod corpus;
#[cfg(test)]
mod fake_relay;
pub mod latency;
pub mod limits;
pub mod machine;
pub mod matrix;
pub mod pace;
pub mod process;
pub mod query;
pub mod random;
pub mod report;
pub mod run;
pub mod scenario;
pub mod wire;
