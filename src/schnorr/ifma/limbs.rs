//! The limbs of a field element: how many there are, how wide they are, and p in that form. Constants only.

/// Limbs of an element.
pub(super) const LIMBS: usize = 5;

/// The largest value of 52 bits: limbs 0 to 3.
pub(super) const LOW_52: u64 = (1 << 52) - 1;

/// The largest value of 48 bits: limb 4.
pub(super) const LOW_48: u64 = (1 << 48) - 1;

/// p in limbs.
pub(super) const P: [u64; LIMBS] = [0xF_FFFE_FFFF_FC2F, LOW_52, LOW_52, LOW_52, LOW_48];
