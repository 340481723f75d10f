//! The command line, as a user runs it: the built binary, its files, its output and its exit codes.

mod backup;
mod commands;
mod completions;
mod corpus;
mod formats;
mod home;
mod import;
mod log;
mod model;
mod serving;
mod strfry;
#[path = "../support/mod.rs"]
mod support;
mod upgrade;
mod usage;
