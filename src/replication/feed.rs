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

/// A piece of this many events or bytes is passed on. Signatures are cheaper by the hundred.
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

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Whether a push is done without waiting. One that is not gives up its place.
    fn is_pushed(feed: &mut Feed, text: &str) -> bool {
        let pushed = pin!(feed.push(text)).poll(&mut Context::from_waker(Waker::noop()));
        matches!(pushed, Poll::Ready(Ok(())))
    }

    #[test]
    fn a_feed_waits_while_its_window_is_full_and_another_into_the_same_queue_does_not() {
        let (pieces, mut waiting) = mpsc::channel::<(Origin, Piece)>(8);
        let windows = [(); 2].map(|()| Arc::new(Semaphore::new(2)));
        let [mut one, mut two] =
            [0, 1].map(|n: usize| Feed::new(pieces.clone(), Origin::File, Some(Arc::clone(&windows[n]))));
        let whole_piece = "x".repeat(PIECE_BYTES);
        assert_eq!([(); 3].map(|()| is_pushed(&mut one, &whole_piece)), [true, true, false]);
        assert!(is_pushed(&mut two, &whole_piece));
        assert_eq!((one.passed, two.passed, waiting.len()), (2, 1, 3));
        // A piece is committed.
        windows[0].add_permits(1);
        assert!(is_pushed(&mut one, &whole_piece));
        assert_eq!((one.passed, waiting.len()), (3, 4));
        drop((one, two, pieces));
        let sizes: Vec<usize> =
            std::iter::from_fn(|| waiting.blocking_recv()).map(|(_, piece)| piece.text.len()).collect();
        // What waited for room went with what came next.
        assert_eq!(sizes, [PIECE_BYTES, PIECE_BYTES, PIECE_BYTES, 2 * PIECE_BYTES]);
    }
}
