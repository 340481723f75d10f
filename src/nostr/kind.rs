//! Event kinds, and the four classes of NIP-01 that say how long events of a kind are kept.

use std::fmt;

/// An event kind, 0 to 65535 (NIP-01).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Kind(pub u16);

/// How events of a kind are kept (NIP-01, "Kinds").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KindClass {
    /// Every event is kept. Kinds that NIP-01 does not classify (45 to 999, 40000 and above) are regular, too.
    Regular,
    /// Only the newest per author and kind is kept.
    Replaceable,
    /// Delivered but never stored.
    Ephemeral,
    /// Only the newest per author, kind and `d` tag is kept.
    Addressable,
}

impl Kind {
    /// Deletion request (NIP-09).
    pub const DELETION: Self = Self(5);
    /// Repost of a note (NIP-18).
    pub const REPOST: Self = Self(6);
    /// A seal, which is sent inside a gift wrap (NIP-59); never accepted as a published event by default.
    pub const SEAL: Self = Self(13);
    /// Repost of anything else (NIP-18).
    pub const GENERIC_REPOST: Self = Self(16);
    /// Request to vanish (NIP-62).
    pub const VANISH: Self = Self(62);
    /// Gift wrap (NIP-59).
    pub const GIFT_WRAP: Self = Self(1059);
    /// Ephemeral gift wrap (NIP-59).
    pub const EPHEMERAL_GIFT_WRAP: Self = Self(21059);
    /// A key became a member of this relay (NIP-43).
    pub const MEMBER_ADDED: Self = Self(8000);
    /// A key is no longer a member of this relay (NIP-43).
    pub const MEMBER_REMOVED: Self = Self(8001);
    /// The members of this relay (NIP-43).
    pub const MEMBERS: Self = Self(13534);
    /// A role that members may have (NIP-43).
    pub const ROLE: Self = Self(33534);
    /// Request to become a member (NIP-43).
    pub const JOIN: Self = Self(28934);
    /// An invite, made when a client asks for it (NIP-43).
    pub const INVITE: Self = Self(28935);
    /// Request to be a member no longer (NIP-43).
    pub const LEAVE: Self = Self(28936);
    /// Report of an event or a key (NIP-56).
    pub const REPORT: Self = Self(1984);
    /// Client authentication (NIP-42); never accepted as a published event.
    pub const CLIENT_AUTH: Self = Self(22242);
    /// Authorization of an HTTP request (NIP-98); never accepted as a published event by default.
    pub const HTTP_AUTH: Self = Self(27235);

    /// The class of this kind.
    #[must_use]
    pub const fn class(self) -> KindClass {
        match self.0 {
            0 | 3 | 10_000..=19_999 => KindClass::Replaceable,
            20_000..=29_999 => KindClass::Ephemeral,
            30_000..=39_999 => KindClass::Addressable,
            _ => KindClass::Regular,
        }
    }

    /// Whether events of this kind are never stored.
    #[must_use]
    pub const fn is_ephemeral(self) -> bool {
        matches!(self.class(), KindClass::Ephemeral)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_class_that_nip_01_gives_it() {
        use KindClass::*;
        let edges = [
            (0, Replaceable),
            (1, Regular),
            (2, Regular),
            (3, Replaceable),
            (4, Regular),
            (41, Regular),
            (45, Regular),
            (999, Regular),
            (1000, Regular),
            (9999, Regular),
            (10_000, Replaceable),
            (19_999, Replaceable),
            (20_000, Ephemeral),
            (29_999, Ephemeral),
            (30_000, Addressable),
            (39_999, Addressable),
            (40_000, Regular),
            (65_535, Regular),
        ];
        for (kind, class) in edges {
            assert_eq!(Kind(kind).class(), class, "kind {kind}");
        }
    }
}
