//! From the network to the import: messages, collected into pieces that the cores check together.
//!
//! Bounded: while [`AHEAD`] pieces of a sync wait, its connection is not read; nor is one of a stream while so many of
//! its pieces are not committed as its [`Window`] says.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::error::SyncError;
use crate::import::{Origin, Piece};

/// Pieces that wait to be checked.
const AHEAD: usize = 16;

/// A piece of so many events or bytes is passed on. Signatures are cheaper by the hundred.
const PIECE_EVENTS: usize = 128;
const PIECE_BYTES: usize = 128 << 10;

/// How many pieces of one connection may be on their way to the disk. Whoever learns that one is committed adds a
/// permit.
pub type Window = Arc<Semaphore>;

/// Both ends, for one connection alone.
#[must_use]
pub fn feed(origin: Origin) -> (Feed, Pieces) {
    let (pieces, waiting) = mpsc::channel::<(Origin, Piece)>(AHEAD);
    (Feed::new(pieces, origin, None), Pieces(waiting))
}

/// The network's end.
pub struct Feed {
    pieces: mpsc::Sender<(Origin, Piece)>,
    origin: Origin,
    piece: Piece,
    window: Option<Window>,
    /// Pieces passed on.
    pub passed: u64,
}

impl Feed {
    /// A feed of one connection into a queue that others may share.
    #[must_use]
    pub const fn new(pieces: mpsc::Sender<(Origin, Piece)>, origin: Origin, window: Option<Window>) -> Self {
        Self { pieces, origin, piece: Piece::empty(1), window, passed: 0 }
    }

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
        if let Some(window) = &self.window {
            // It comes back when the piece is committed. A closed window means that nothing will be.
            window.acquire().await.map_err(|_| SyncError::ImportOver)?.forget();
        }
        let next = Piece::empty(self.piece.next_line);
        let piece = std::mem::replace(&mut self.piece, next);
        self.passed += 1;
        self.pieces.send((self.origin.clone(), piece)).await.map_err(|_| SyncError::ImportOver)
    }
}

/// The import's end.
pub struct Pieces(mpsc::Receiver<(Origin, Piece)>);

impl Pieces {
    /// Waits for a piece; `None` when there will be no more.
    pub fn next_piece(&mut self) -> Option<(Origin, Piece)> {
        self.0.blocking_recv()
    }
}
