//! What a slice of a scan does with each row: renders it, or counts it.
//!
//! Nothing here waits, or sends.

use crate::nostr::EventView;
use crate::nostr::hll::Hll;
use crate::pipeline::query::row_block::RowBlock;
use crate::pipeline::query::visibility::Visibility;
use crate::store::{Flow, Seq, Visitor};

/// Renders the rows of a slice.
pub struct Sending<'a, 'b> {
    /// What the client may see.
    pub visibility: Visibility,
    /// Where they go.
    pub rows: &'a mut RowBlock<'b>,
}

impl Visitor for Sending<'_, '_> {
    fn admits(&mut self, event: EventView<'_>) -> bool {
        self.visibility.allows(event)
    }

    fn take(&mut self, _: Seq, event: EventView<'_>) -> Flow {
        self.rows.push(event);
        if self.rows.is_large() { Flow::Pause } else { Flow::Continue }
    }
}

/// Counts the rows of a slice.
pub struct Counting<'a> {
    /// What the client may see.
    pub visibility: Visibility,
    /// How many there are so far.
    pub count: &'a mut u64,
    /// Who wrote them, where that is asked for (NIP-45).
    pub hll: &'a mut Option<Box<Hll>>,
}

impl Visitor for Counting<'_> {
    fn admits(&mut self, event: EventView<'_>) -> bool {
        self.visibility.allows(event)
    }

    fn take(&mut self, _: Seq, event: EventView<'_>) -> Flow {
        *self.count += 1;
        if let Some(hll) = self.hll {
            hll.add(&event.pubkey());
        }
        Flow::Continue
    }
}
