//! The input and the output of an engine: a signature and a verdict on it. Plain values.

/// A signature and what it is checked against: NIP-01's `id`, `pubkey` and `sig`, decoded from hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The event id: the message that is signed.
    pub id: &'a [u8; 32],
    /// The author's key, an x coordinate (BIP-340); it need not be valid.
    pub pubkey: &'a [u8; 32],
    /// r, then s (BIP-340); they need not be in range.
    pub signature: &'a [u8; 64],
}

/// The fast engine's verdict on one signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Reject,
    /// The engine's formulas do not cover the case.
    Undecided,
}
