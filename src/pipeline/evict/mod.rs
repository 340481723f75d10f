//! Removing what the retention rules no longer keep, beside clients: the `retention` thread executes the plan of
//! [`retention`](crate::retention) in slices, and the writer removes what it finds with its commits.
//!
//! Never holds a transaction between slices (INV-9), and never makes the writer wait.

mod error;
pub mod evicting;
pub mod evictor;
mod former_rules;
mod pending_rules;
pub mod removals;
#[cfg(test)]
mod tests;
