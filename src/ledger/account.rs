//! Bytes in use by one connection, by one address and by all clients, each within a bound.
//!
//! Counting takes one atomic addition per account and never blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The owner of a bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// One connection.
    Connection,
    /// All connections of one address.
    Address,
    /// All clients.
    All,
}

/// Bytes in use. Bytes counted here also count in the parent account.
#[derive(Debug)]
pub struct Account {
    used_bytes: AtomicU64,
    max_bytes: u64,
    scope: Scope,
    parent: Option<Arc<Self>>,
}

impl Account {
    /// The account of all clients, with at most `max_bytes`.
    #[must_use]
    pub const fn new(max_bytes: u64) -> Self {
        Self { used_bytes: AtomicU64::new(0), max_bytes, scope: Scope::All, parent: None }
    }

    /// The account of one address, with at most `max_bytes` of the account of all.
    #[must_use]
    pub fn of_address(all: &Arc<Self>, max_bytes: u64) -> Self {
        Self { used_bytes: AtomicU64::new(0), max_bytes, scope: Scope::Address, parent: Some(Arc::clone(all)) }
    }

    /// The account of one connection within that of its address. Its bound is passed with each [`Hold`].
    #[must_use]
    pub fn of_connection(address: &Arc<Self>) -> Self {
        let used_bytes = AtomicU64::new(0);
        Self { used_bytes, max_bytes: u64::MAX, scope: Scope::Connection, parent: Some(Arc::clone(address)) }
    }

    /// Bytes in use now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Whether more bytes are in use than the bound allows, here or in a parent.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.used_bytes() > self.max_bytes || self.parent.as_ref().is_some_and(|parent| parent.is_over())
    }

    /// The bound in bytes.
    #[must_use]
    pub const fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Whether more than seven eighths of the bound are in use, here or in a parent: the time to slow down, before
    /// anything has to be dropped.
    #[must_use]
    pub fn is_nearly_full(&self) -> bool {
        self.used_bytes() > self.max_bytes / 8 * 7 || self.parent.as_ref().is_some_and(|parent| parent.is_nearly_full())
    }

    /// Counts bytes regardless of the bound.
    pub fn add(&self, bytes: u64) {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.add(bytes);
        }
    }

    /// Releases bytes that were counted.
    pub fn sub(&self, bytes: u64) {
        let before = self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "INV-12: more bytes released than counted");
        if let Some(parent) = &self.parent {
            parent.sub(bytes);
        }
    }

    /// Counts bytes if they fit here and in every parent; otherwise returns whose bound they exceed. `spare_bytes` are
    /// about to be released, so they do not count against the bound.
    fn try_add(&self, bytes: u64, spare_bytes: u64, max_bytes: u64) -> Result<(), Scope> {
        let before = self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes).saturating_sub(spare_bytes) <= max_bytes;
        let added = match &self.parent {
            _ if !fits => Err(self.scope),
            Some(parent) => parent.try_add(bytes, spare_bytes, parent.max_bytes),
            None => Ok(()),
        };
        if added.is_err() {
            self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        added
    }

    /// Counts bytes if they fit, or if nothing else is counted: otherwise something larger than the bound would wait
    /// forever. One of `kept_parts` parts of the bound of all clients stays free.
    pub fn try_add_or_alone(&self, bytes: u64, kept_parts: u64) -> bool {
        let before = self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        let kept_bytes = if self.scope == Scope::All { self.max_bytes / kept_parts } else { 0 };
        let fits = before == 0 || before.saturating_add(bytes) <= self.max_bytes - kept_bytes;
        let added = fits && self.parent.as_ref().is_none_or(|parent| parent.try_add_or_alone(bytes, kept_parts));
        if !added {
            self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        added
    }
}

/// Bytes of one connection, counted until this is dropped.
#[derive(Debug)]
pub struct Hold {
    account: Arc<Account>,
    bytes: u64,
}

impl Hold {
    /// Counts `bytes` in a connection's account, whose bound is `max_bytes`. `spare_bytes` of it are about to be
    /// released.
    ///
    /// # Errors
    /// The owner of the bound that would be exceeded; nothing is counted then.
    pub fn take(account: &Arc<Account>, bytes: u64, spare_bytes: u64, max_bytes: u64) -> Result<Self, Scope> {
        account.try_add(bytes, spare_bytes, max_bytes)?;
        Ok(Self { account: Arc::clone(account), bytes })
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.account.sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> [Arc<Account>; 3] {
        let all = Arc::new(Account::new(100));
        let address = Arc::new(Account::of_address(&all, 50));
        let connection = Arc::new(Account::of_connection(&address));
        [all, address, connection]
    }

    fn used(accounts: &[Arc<Account>]) -> Vec<u64> {
        accounts.iter().map(|account| account.used_bytes()).collect()
    }

    #[test]
    fn bytes_of_a_connection_count_for_its_address_and_for_all_until_they_are_dropped() {
        let accounts = accounts();
        let [all, address, connection] = &accounts;
        let hold = Hold::take(connection, 30, 0, 30).expect("room");
        assert_eq!((used(&accounts), hold.bytes()), (vec![30, 30, 30], 30));
        assert_eq!(Hold::take(connection, 1, 0, 30).err(), Some(Scope::Connection));
        let second = Arc::new(Account::of_connection(address));
        assert_eq!(Hold::take(&second, 21, 0, 30).err(), Some(Scope::Address));
        let stranger = Arc::new(Account::of_connection(&Arc::new(Account::of_address(all, 90))));
        assert_eq!(Hold::take(&stranger, 71, 0, 90).err(), Some(Scope::All));
        assert_eq!((used(&accounts), second.used_bytes(), stranger.used_bytes()), (vec![30, 30, 30], 0, 0));
        drop(hold);
        assert_eq!(used(&accounts), [0, 0, 0]);
    }

    #[test]
    fn bytes_about_to_be_released_do_not_block_their_replacement() {
        let accounts = accounts();
        let connection = &accounts[2];
        let old = Hold::take(connection, 40, 0, 50).expect("room");
        assert_eq!(Hold::take(connection, 40, 0, 50).err(), Some(Scope::Connection));
        let new = Hold::take(connection, 45, old.bytes(), 50).expect("the old one makes room");
        assert_eq!(
            Hold::take(connection, 45, new.bytes(), 50).err(),
            Some(Scope::Connection),
            "the old one still stands"
        );
        drop(old);
        assert_eq!(used(&accounts), [45, 45, 45]);
    }

    #[test]
    fn bytes_counted_regardless_of_the_bound_put_the_account_over_it() {
        let accounts = accounts();
        let [all, address, _] = &accounts;
        address.add(51);
        assert_eq!([address.is_over(), all.is_over()], [true, false]);
        let other = Account::of_address(all, 90);
        other.add(50);
        assert!(other.is_over(), "all together are over");
        address.sub(51);
        assert!(!other.is_over() && !address.is_over());
    }

    #[test]
    fn something_larger_than_the_bound_fits_alone() {
        let [all, address, _] = accounts();
        assert!(address.try_add_or_alone(70, u64::MAX));
        assert!(!address.try_add_or_alone(1, u64::MAX));
        assert!(!Account::of_address(&all, 50).try_add_or_alone(31, u64::MAX));
        address.sub(70);
        assert!(address.try_add_or_alone(1, u64::MAX));
        assert_eq!(all.used_bytes(), 1);
    }

    #[test]
    fn a_part_of_the_bound_of_all_clients_stays_free_where_that_is_asked_for() {
        let [all, address, _] = accounts();
        let other = Account::of_address(&all, 90);
        assert!(other.try_add_or_alone(60, 10));
        assert!(!address.try_add_or_alone(31, 10), "90 of 100");
        assert!(address.try_add_or_alone(30, 10) && !address.try_add_or_alone(1, 10));
        assert!(address.try_add_or_alone(10, u64::MAX) && !address.try_add_or_alone(1, u64::MAX));
        assert_eq!((all.used_bytes(), other.used_bytes(), address.used_bytes()), (100, 60, 40));
    }
}
