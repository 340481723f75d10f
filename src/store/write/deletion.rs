//! Deletion requests (NIP-09): what they remove, and what they keep from coming back.
//!
//! Never removes what belongs to somebody else, nor kinds 5 and 62.

use crate::nostr::{EventId, EventView, Kind, KindClass, Pubkey, TagElement, Timestamp, hex};
use crate::store::file::journal::Noted;
use crate::store::format::error::StoreError;
use crate::store::format::keys;
use crate::store::format::keys::Seq;
use crate::store::read::lookup;
use crate::store::write::transaction::Transaction;

/// One thing that a deletion request names.
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
    /// Reads `<kind>:<pubkey>:<d>`; `None` when it names no kind that has a coordinate.
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

/// What a deletion request names, in order; malformed references are skipped.
fn targets(request: EventView<'_>) -> impl Iterator<Item = Target<'_>> {
    request.tags().indexed().filter_map(|(letter, value)| match (letter, value) {
        (b'e', TagElement::Hex(id)) => Some(Target::Event(EventId(*id))),
        (b'a', TagElement::Text(text)) => Address::parse(text).map(Target::Address),
        _ => None,
    })
}

impl Transaction<'_> {
    /// Obeys a deletion request and remembers it. False when nothing that it names could be its author's; then
    /// nothing was changed.
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

    /// Deletes an event by its author or, for a gift wrap, by a recipient; one that was not seen yet is
    /// remembered with the deleter. False when it is somebody else's.
    fn delete_id(&mut self, id: EventId, by: Pubkey, at: Timestamp) -> Result<bool, StoreError> {
        // What only waits for its removal counts as gone, so that nothing depends on how far a purge has come.
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

    /// Keeps an event from being stored (again).
    pub fn put_tombstone(&mut self, id: &EventId, by: &Pubkey, at: Timestamp) -> Result<(), StoreError> {
        let key = self.store.inner.secret.deletion(id, by);
        self.put_row(Noted::Deleted, &key, &keys::six(at.0))
    }

    /// Deletes every version of a coordinate up to and with `until`.
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
