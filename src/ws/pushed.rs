//! The bounds of an outbox, and what a push into it tells: whether to go on, and which bound a slow client went over.
//!
//! Plain values; nothing here acts.

/// The bounds of one [`Outbox`](super::Outbox); sent means written to the socket in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxOptions {
    /// A live event that finds more unsent bytes than this closes the connection.
    pub max_bytes: usize,
    /// A live event that finds this many unsent frames closes the connection.
    pub max_frames: usize,
    /// Rows of scans park their job from this many unsent bytes on.
    pub high_water_bytes: usize,
    /// Parked jobs go on when no more than this is unsent; below `high_water_bytes`.
    pub low_water_bytes: usize,
}

impl Default for OutboxOptions {
    fn default() -> Self {
        Self { max_bytes: 8 << 20, max_frames: 4096, high_water_bytes: 1 << 20, low_water_bytes: 256 << 10 }
    }
}

/// The answer to a push of scan rows. The rows were taken unless it is `Closed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Rows {
    /// Go on.
    More,
    /// Enough for now: [`Outbox::park`](super::Outbox::park) the job before its next slice.
    Park,
    /// The stream or the connection is over: cancel the job.
    Closed,
}

/// The answer to a push of a live event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Live {
    /// Queued.
    Taken,
    /// This push found the client too slow and closed it: count it, drop its subscriptions.
    Overflowed(Overflow),
    /// The stream or the connection was over already.
    Closed,
}

/// Which bound a slow consumer went over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// [`OutboxOptions::max_bytes`].
    Bytes,
    /// [`OutboxOptions::max_frames`].
    Frames,
    /// The bound of its address or of all [`Outboxes`](super::Outboxes): it was the largest of the greediest address.
    Budget,
}

impl Overflow {
    /// The word for logs and for the metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Frames => "frames",
            Self::Budget => "budget",
        }
    }
}
