//! Several relays side by side: each is started by its command, does the same work in turn, and one page has the
//! results.
//!
//! It must never know one of the relays: whatever differs between them stands in the file.

mod chart;
mod page;
pub mod plan;
mod relay;
pub mod results;
pub mod run;
mod statistics;
mod sweep;
#[cfg(test)]
mod tests;
