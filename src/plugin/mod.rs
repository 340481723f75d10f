//! Write-policy plugins: programs of the operator that judge events, in strfry's protocol, so that existing ones run
//! unchanged.
//!
//! The relay writes one line of JSON for each event to the program's standard input ([`request`]) and reads one with
//! the verdict from its standard output ([`answer`]). A program that hangs, dies, floods or answers rubbish costs its
//! events a verdict and nobody else anything: every buffer here is bounded, every wait has an end, and nothing blocks.
//!
//! [`worker`] keeps one process running and asks it, [`conversation`] knows which answers it owes, `process` is the
//! process, and `complaints` are what it says on standard error.

pub mod answer;
mod complaints;
pub mod conversation;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod process;
pub mod queue;
pub mod request;
mod stamp;
pub mod worker;

pub use answer::Verdict;
pub use queue::{Candidate, Queue};
pub use request::Origin;
pub use stamp::FileVersion;
pub use worker::{Worker, WorkerSignal, pass_on_panic};
