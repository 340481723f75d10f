//! What can go wrong with a journal, for the operator and for the admin who asks.

use std::io;
use std::path::PathBuf;

use super::subject::Subject;

/// Why an act could not be recorded, or the journal not be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file or the directory cannot be read or written.
    #[error("{}: {source}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not as it was written. Nothing is dropped: decisions might be among it.
    #[error("{}:{line}: {text}; restore the file, or move its directory away to begin without decisions", file.display())]
    Damaged {
        /// Which.
        file: PathBuf,
        /// Where.
        line: u64,
        /// What is wrong.
        text: String,
    },
    /// A file is gone.
    #[error("{}: the file is missing; restore it, or move its directory away to begin without decisions", .0.display())]
    Missing(PathBuf),
    /// The directory of the decisions is another one.
    #[error(
        "{} holds decisions, but management.state names {}; move its files there, or move it away",
        here.display(), state.display()
    )]
    Hidden {
        /// What has decisions too.
        here: PathBuf,
        /// What is configured.
        state: PathBuf,
    },
    /// There are as many decisions of this kind as there may be.
    #[error("there are already {0} decisions of this kind, the most that are kept")]
    Full(usize),
    /// A copy holds a file that is none of a journal.
    #[error("{0:?} is not a file of decisions")]
    Foreign(String),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// There is no act of this number any more.
    #[error("the audit has no act {0}")]
    NoSuchAct(u64),
    /// The act changed no decision.
    #[error("act {0} changed no decision: there is nothing to undo")]
    NotUndoable(u64),
    /// Another act followed.
    #[error("{subject} was decided again by act {by}; undo that first")]
    Superseded {
        /// What about.
        subject: Subject,
        /// The later act.
        by: u64,
    },
}
