//! The bounds of an outbox, and the results of a push: whether to continue, and which bound a slow client exceeded.
//!
//! Plain values only.

/// The bounds of one [`Outbox`](super::Outbox). A frame counts as unsent until the socket has taken all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxOptions {
    /// A live event closes the connection if more bytes than this are unsent.
    pub max_bytes: usize,
    /// A live event closes the connection if this many frames are unsent.
    pub max_frames: usize,
    /// A scan is parked once this many bytes are unsent.
    pub high_water_bytes: usize,
    /// Parked scans resume once no more than this many bytes are unsent. Below `high_water_bytes`.
    pub low_water_bytes: usize,
}

impl Default for OutboxOptions {
    fn default() -> Self {
        Self { max_bytes: 8 << 20, max_frames: 4096, high_water_bytes: 1 << 20, low_water_bytes: 256 << 10 }
    }
}

/// The result of pushing rows of a scan. The rows were queued unless it is `Closed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum RowsPush {
    /// Continue.
    More,
    /// Enough for now: [`Outbox::park`](super::Outbox::park) the job before its next slice.
    Park,
    /// The stream or the connection has ended: cancel the job.
    Closed,
}

/// The result of pushing a live event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum LivePush {
    /// Queued.
    Taken,
    /// The client is too slow, and this push closed it: count it and drop its subscriptions.
    Overflowed(Overflow),
    /// The stream or the connection had already ended.
    Closed,
}

/// Which bound a slow consumer exceeded.
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
