//! From the network to the import: messages, collected into pieces that the cores check together.
//!
//! Bounded: while [`AHEAD`] pieces wait, the connection is not read.

use tokio::sync::mpsc;

use super::error::SyncError;
use crate::import::Piece;

/// Pieces that wait to be checked.
const AHEAD: usize = 16;

/// A piece of so many events or bytes is passed on. Signatures are cheaper by the hundred.
const PIECE_EVENTS: usize = 128;
const PIECE_BYTES: usize = 128 << 10;

/// Both ends.
#[must_use]
pub fn feed() -> (Feed, Pieces) {
    let (pieces, waiting) = mpsc::channel::<Piece>(AHEAD);
    (Feed { pieces, piece: Piece::empty(1) }, Pieces(waiting))
}

/// The network's end.
pub struct Feed {
    pieces: mpsc::Sender<Piece>,
    piece: Piece,
}

impl Feed {
    /// Adds a message. Waits while the import is behind.
    ///
    /// # Errors
    /// When the import is over.
    pub async fn push(&mut self, text: &str) -> Result<(), SyncError> {
        self.piece.push(text.as_bytes());
        if self.piece.values.len() >= PIECE_EVENTS || self.piece.text.len() >= PIECE_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Passes on what was added.
    ///
    /// # Errors
    /// When the import is over.
    pub async fn flush(&mut self) -> Result<(), SyncError> {
        if self.piece.values.is_empty() {
            return Ok(());
        }
        let next = Piece::empty(self.piece.next_line);
        let piece = std::mem::replace(&mut self.piece, next);
        self.pieces.send(piece).await.map_err(|_| SyncError::ImportOver)
    }
}

/// The import's end.
pub struct Pieces(mpsc::Receiver<Piece>);

impl Pieces {
    /// Waits for a piece; `None` when there will be no more.
    pub fn next_piece(&mut self) -> Option<Piece> {
        self.0.blocking_recv()
    }
}
