//! The accounts of all addresses, and the bounds that the operator configures.

use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::account::Account;

/// Bounds on one kind of memory that clients can make the relay hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// Bytes per address, as `[rates]` counts addresses.
    pub per_address_bytes: u64,
    /// Bytes over all addresses.
    pub total_bytes: u64,
}

/// The `[memory]` section.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Filters of open subscriptions and of waiting or running queries, including their entries in the live index.
    pub filters: Bound,
    /// Partial messages, beyond the first 4 KiB of each connection.
    pub partial_messages: Bound,
    /// Events between the socket and the disk.
    pub waiting_events: Bound,
    /// Outgoing data.
    pub outboxes: Bound,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            filters: Bound { per_address_bytes: 64 << 20, total_bytes: 512 << 20 },
            partial_messages: Bound { per_address_bytes: 16 << 20, total_bytes: 128 << 20 },
            waiting_events: Bound { per_address_bytes: 16 << 20, total_bytes: 64 << 20 },
            outboxes: Bound { per_address_bytes: 128 << 20, total_bytes: 512 << 20 },
        }
    }
}

/// The accounts of all clients, and a table with those of each connected address.
#[derive(Debug)]
pub struct Ledger {
    options: Options,
    /// Filters of all clients.
    pub filters: Arc<Account>,
    /// Events of all clients between the socket and the disk.
    pub waiting_events: Arc<Account>,
    /// Outboxes of all clients.
    pub outboxes: Arc<Account>,
    addresses: Mutex<HashMap<IpAddr, Weak<Address>>>,
}

/// The accounts of one address, shared by its connections.
#[derive(Debug)]
pub struct Address {
    ledger: Arc<Ledger>,
    address: IpAddr,
    /// Its filters.
    pub filters: Arc<Account>,
    /// Its events between the socket and the disk, in bytes.
    pub waiting_events: Arc<Account>,
    /// Its outboxes.
    pub outboxes: Arc<Account>,
    /// The number of its events between the socket and the disk. Only the gate changes it, and bounds it.
    pub events: AtomicUsize,
}

impl Ledger {
    /// Empty accounts.
    #[must_use]
    pub fn new(options: Options) -> Arc<Self> {
        let all = |bound: Bound| Arc::new(Account::new(bound.total_bytes));
        Arc::new(Self {
            filters: all(options.filters),
            waiting_events: all(options.waiting_events),
            outboxes: all(options.outboxes),
            addresses: Mutex::default(),
            options,
        })
    }

    /// The bounds.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// The accounts of an address, which exist as long as somebody holds them.
    pub fn address(self: &Arc<Self>, address: IpAddr) -> Arc<Address> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = addresses.get(&address).and_then(Weak::upgrade) {
            return held;
        }
        let share = |all: &Arc<Account>, bound: Bound| Arc::new(Account::of_address(all, bound.per_address_bytes));
        let new = Arc::new(Address {
            ledger: Arc::clone(self),
            address,
            filters: share(&self.filters, self.options.filters),
            waiting_events: share(&self.waiting_events, self.options.waiting_events),
            outboxes: share(&self.outboxes, self.options.outboxes),
            events: AtomicUsize::new(0),
        });
        addresses.insert(address, Arc::downgrade(&new));
        new
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        let mut addresses = self.ledger.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        // A successor may have taken the place already.
        if addresses.get(&self.address).is_some_and(|held| held.strong_count() == 0) {
            addresses.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Hold, Scope};
    use super::*;

    fn entries(ledger: &Ledger) -> usize {
        ledger.addresses.lock().expect("no panic").len()
    }

    #[test]
    fn connections_of_one_address_share_its_accounts_and_the_table_drops_unused_ones() {
        let ledger =
            Ledger::new(Options { filters: Bound { per_address_bytes: 10, total_bytes: 15 }, ..Options::default() });
        let [a, b] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|address| ledger.address(address.into()));
        let connect = |address: &Address| Arc::new(Account::of_connection(&address.filters));
        let held = Hold::take(&connect(&a), 9, 0, 100).expect("room");
        let again = ledger.address([10, 0, 0, 1].into());
        assert_eq!(Hold::take(&connect(&again), 2, 0, 100).err(), Some(Scope::Address));
        assert_eq!(Hold::take(&connect(&b), 7, 0, 100).err(), Some(Scope::All));
        assert_eq!((entries(&ledger), ledger.filters.used_bytes()), (2, 9));
        drop((a, again, b));
        assert_eq!(entries(&ledger), 0);
        drop(held);
        assert_eq!(ledger.filters.used_bytes(), 0);
    }
}
