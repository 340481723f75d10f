//! What an engine is given and what it answers: one signature, one verdict. Plain values.

/// What a signature is checked against: NIP-01's `id`, `pubkey` and `sig`, decoded from hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The event id, the message that is signed.
    pub id: &'a [u8; 32],
    /// The author's key, an x coordinate (BIP-340); it need not be valid.
    pub pubkey: &'a [u8; 32],
    /// r, then s (BIP-340); they need not be in range.
    pub signature: &'a [u8; 64],
}

/// What the fast engine says of one signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Reject,
    /// Its formulas do not cover the case.
    Undecided,
}
