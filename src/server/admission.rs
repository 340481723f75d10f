//! How many connections there are, in all and by address. It counts; it never waits.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use crate::metrics::TurnedAway;

/// The counters, shared by all io threads.
pub struct Admission {
    max: usize,
    max_per_address: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place among the connections; given back when dropped.
pub struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    /// No connections yet. `max_per_address` of 0 does not limit.
    pub fn new(max: usize, max_per_address: usize) -> Arc<Self> {
        Arc::new(Self { max, max_per_address, held: Mutex::default() })
    }

    /// Takes a place for a client whose network is `address`.
    ///
    /// # Errors
    /// When the relay is full, or the address has too many.
    pub fn enter(self: &Arc<Self>, address: IpAddr, is_exempt: bool) -> Result<Place, TurnedAway> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.total >= self.max {
            return Err(TurnedAway::Full);
        }
        let own = held.by_address.entry(address).or_default();
        if *own >= self.max_per_address && self.max_per_address > 0 && !is_exempt {
            return Err(TurnedAway::Address);
        }
        *own += 1;
        held.total += 1;
        Ok(Place { admission: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.admission.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.total -= 1;
        if let Some(own) = held.by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                held.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_in_all_and_by_address_and_come_back() {
        let admission = Admission::new(3, 2);
        let [a, b] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let first = admission.enter(a, false).map_err(drop).expect("a place");
        let _second = admission.enter(a, false).map_err(drop).expect("a place");
        assert_eq!(admission.enter(a, false).err(), Some(TurnedAway::Address));
        let exempt = admission.enter(a, true).map_err(drop).expect("a place");
        assert_eq!(admission.enter(b, false).err(), Some(TurnedAway::Full));
        drop((first, exempt));
        assert!(admission.enter(b, false).is_ok());
        assert!(admission.enter(a, false).is_ok());
    }
}
