//! What all readers of one commit find alike: looked up by the first of them, and kept until the next commit.
//!
//! A query by id reads five rows of LMDB's own tables before it comes to the event; this spares it all of them. Nothing
//! here is ever told of another commit than the one that a transaction sees.

use heed::{Env, RoTxn};

use crate::store::file::schema::Tables;
use crate::store::format::error::StoreError;
use crate::store::format::keys::{Index, Seq};
use crate::store::format::slots::Slots;

/// Bytes of a table's row in LMDB's unnamed table.
const ROW: usize = 48;

/// A table's row in LMDB's unnamed table, see `read/pages.rs`.
pub(in crate::store) type TableRow = [u8; ROW];

/// One commit.
pub(in crate::store) struct Commit {
    /// LMDB's number of it.
    pub txn: usize,
    /// A page of the file that is not before any page of the commit.
    pub last_page: u64,
    /// The number of the latest event; `None` when its row is damaged.
    pub last_seq: Option<Seq>,
    /// Whether events wait for their removal that a vanish request covers.
    pub is_purging: bool,
    /// The event table.
    pub events: Option<TableRow>,
    /// The index of ids.
    pub ids: Option<TableRow>,
    /// The index of authors.
    pub authors: Option<TableRow>,
}

impl Commit {
    /// What is known of a store of which nothing has been read.
    pub const NONE: Self = Self {
        txn: usize::MAX,
        last_page: 0,
        last_seq: None,
        is_purging: false,
        events: None,
        ids: None,
        authors: None,
    };

    /// Looks up the commit that a transaction sees.
    pub fn look(env: &Env<Slots>, tables: &Tables, txn: &RoTxn<'_, Slots>) -> Result<Self, StoreError> {
        let row = |row: Result<Option<&[u8]>, StoreError>| row.ok().flatten()?.try_into().ok();
        Ok(Self {
            txn: txn.id(),
            last_page: env.info().last_page_number as u64,
            last_seq: tables.next_seq(txn).ok().and_then(|next| next.checked_sub(1)).map(Seq),
            is_purging: !tables.purge.is_empty(txn)?,
            events: row(tables.event_row(txn)),
            ids: row(tables.index_row(Index::Id, txn)),
            authors: row(tables.index_row(Index::Author, txn)),
        })
    }
}
