//! What weir understands of strfry's files, for operators who move: the syntax of its configuration (`syntax`) and what
//! each key means here (`settings`), and the streams of its router (`router`).
//!
//! Nothing here opens a store or a socket, and nothing is guessed: a key without a counterpart is named, and why.

mod router;
mod settings;
mod syntax;
#[cfg(test)]
mod tests;
mod value;

pub use router::{Remark, RouterFile, router};
pub use settings::{Leftover, Translation, translate};
pub use syntax::{MAX_BYTES, Outside, SyntaxError, parse};
pub use value::{Node, Position, Value};
