//! Why a negentropy message is refused.

/// Why a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NegError {
    /// The message is empty.
    #[error("the negentropy message is empty")]
    Empty,
    /// The first byte is not a version of the protocol (0x60 to 0x6f).
    #[error("{0:#04x} is not a negentropy version")]
    NotAVersion(u8),
    /// The other side speaks another version. Only an initiator fails for it; a session answers with its own version.
    #[error("the other side speaks negentropy version {0:#04x}")]
    OtherVersion(u8),
    /// The message ends in the middle of a range.
    #[error("the negentropy message ends too early")]
    EndsEarly,
    /// A number takes more than 64 bits.
    #[error("a number in the negentropy message is too large")]
    TooLarge,
    /// A bound has an id of more than 32 bytes.
    #[error("a bound has an id of {0} bytes")]
    LongId(u64),
    /// A bound is below the one before it.
    #[error("the bounds do not ascend")]
    NotAscending,
    /// A range has an unknown mode.
    #[error("{0} is not a mode of a range")]
    UnknownMode(u64),
}
