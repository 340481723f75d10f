//! Deletion requests (NIP-09): which events they remove and which they keep out.
//!
//! Never removes another author's events, nor kinds 5 and 62.

use crate::nostr::{EventId, EventView, Kind, KindClass, Pubkey, TagElement, Timestamp, hex};
use crate::store::file::journal::Noted;
use crate::store::format::error::StoreError;
use crate::store::format::keys;
use crate::store::format::keys::Seq;
use crate::store::read::lookup;
use crate::store::write::transaction::Transaction;

/// One target of a deletion request.
enum Target<'a> {
    Event(EventId),
    Address(Address<'a>),
}

/// A coordinate, from the value of an `a` tag.
struct Address<'a> {
    kind: Kind,
    author: Pubkey,
    d: TagElement<'a>,
}

impl<'a> Address<'a> {
    /// Parses `<kind>:<pubkey>:<d>`; `None` when the kind has no coordinates.
    fn parse(text: &'a [u8]) -> Option<Self> {
        let mut parts = text.splitn(3, |&byte| byte == b':');
        let kind = Kind(std::str::from_utf8(parts.next()?).ok()?.parse().ok()?);
        let author = Pubkey::from_hex(parts.next()?)?;
        let d = parts.next();
        match kind.class() {
            // Some clients leave out the last colon.
            KindClass::Replaceable if d.is_none_or(<[u8]>::is_empty) => {
                Some(Self { kind, author, d: TagElement::Text(b"") })
            }
            KindClass::Addressable => Some(Self { kind, author, d: TagElement::Text(d?) }),
            _ => None,
        }
    }

    fn hash(&self, secret: &keys::Secret) -> [u8; 16] {
        let TagElement::Text(text) = self.d else { return secret.address(&self.author, self.kind, self.d) };
        match hex::decode(text) {
            Some(bytes) => secret.address(&self.author, self.kind, TagElement::Hex(&bytes)),
            None => secret.address(&self.author, self.kind, self.d),
        }
    }
}

/// The targets of a deletion request, in order. Malformed references are skipped.
fn targets(request: EventView<'_>) -> impl Iterator<Item = Target<'_>> {
    request.tags().indexed().filter_map(|(letter, value)| match (letter, value) {
        (b'e', TagElement::Hex(id)) => Some(Target::Event(EventId(*id))),
        (b'a', TagElement::Text(text)) => Address::parse(text).map(Target::Address),
        _ => None,
    })
}

impl Transaction<'_> {
    /// Applies a deletion request and remembers it. Returns false, and changes nothing, when none of its targets can be
    /// its author's.
    pub fn delete_targets(&mut self, request: EventView<'_>) -> Result<bool, StoreError> {
        let by = request.pubkey();
        let mut is_valid = false;
        for target in targets(request) {
            is_valid |= match target {
                Target::Event(id) => self.delete_id(id, by, request.created_at())?,
                Target::Address(address) if address.author == by => {
                    self.delete_address(&address, request.created_at())?;
                    true
                }
                Target::Address(_) => false,
            };
        }
        Ok(is_valid)
    }

    /// Deletes an event on behalf of its author or, for a gift wrap, of a recipient. If the store does not hold the
    /// event, remembers the id with the deleter. Returns false when the event is somebody else's.
    fn delete_id(&mut self, id: EventId, by: Pubkey, at: Timestamp) -> Result<bool, StoreError> {
        // An event that is waiting for its removal counts as removed, so the result does not depend on how far a purge
        // has come.
        if let Some((seq, event)) = self.by_id(&id)?
            && !self.lookup().is_vanished(seq, event)?
        {
            if event.pubkey() != by && !lookup::recipients(event).any(|recipient| recipient == by) {
                return Ok(false);
            }
            if lookup::is_immune(event.kind()) {
                return Ok(true);
            }
            self.remove(seq)?;
        }
        self.put_tombstone(&id, &by, at)?;
        Ok(true)
    }

    /// Keeps the event with this id from being stored, if `by` may delete it.
    pub fn put_tombstone(&mut self, id: &EventId, by: &Pubkey, at: Timestamp) -> Result<(), StoreError> {
        let key = self.store.inner.secret.deletion(id, by);
        self.put_row(Noted::Deleted, &key, &keys::six(at.0))
    }

    /// Deletes every version of a coordinate created at or before `until`.
    fn delete_address(&mut self, address: &Address<'_>, until: Timestamp) -> Result<(), StoreError> {
        let address = address.hash(&self.store.inner.secret);
        if self.lookup().deleted_until(&address)?.is_none_or(|before| before < until) {
            self.put_row(Noted::DeletedAddress, &address, &keys::six(until.0))?;
        }
        let held: Option<Seq> = self.lookup().holder(&address)?;
        if let Some(seq) = held
            && self.held(seq)?.created_at() <= until
        {
            self.remove(seq)?;
        }
        Ok(())
    }
}
