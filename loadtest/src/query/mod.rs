//! The questions a run asks: filters, the shapes clients use, and the answers the corpus gives.
//!
//! It must never open a connection: it is pure and prepared before the clock runs.

pub mod answer;
pub mod filter;
pub mod shape;
