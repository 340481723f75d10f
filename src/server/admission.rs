//! Counts sockets from accept on, in all and by address. It never waits.
//!
//! A socket without an answered request is *half-open*: it has sent nothing, half a request, or asks for the document.
//! When there are too many in all or of one address, the oldest socket of the greediest address gives way (`Pool`).

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use tokio::sync::Notify;

use crate::ledger::{EvictedPlace, Key, Pool};
use crate::metrics::TurnedAway;

/// Half-open sockets that an address may have even when it has all its connections, so that it can be refused
/// properly and can ask for the document.
const LEAST_HALF_OPEN: usize = 8;

/// The counters, shared by all io threads.
pub struct Admission {
    max: usize,
    max_per_address: usize,
    state: Mutex<State>,
}

struct State {
    open: usize,
    open_by_address: HashMap<IpAddr, usize>,
    /// Half-open sockets: those of clients and those of trusted proxies. The second pool has no limit by address,
    /// because a proxy's client is unknown until its request is read.
    half_open: [Pool<Arc<Notify>>; 2],
}

/// Who opened a socket. Each source has a pool of half-open sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketSource {
    /// Clients that connect directly.
    Clients {
        /// Whether the address is exempt from the limit by address.
        is_exempt: bool,
    },
    /// Proxies in `server.trusted_proxies`.
    Proxies,
}

/// A place among the connections, released when dropped.
pub struct OpenPlace {
    admission: Arc<Admission>,
    address: IpAddr,
}

/// A place among the half-open sockets, released when dropped.
pub struct HalfOpenPlace {
    admission: Arc<Admission>,
    source: SocketSource,
    address: IpAddr,
    key: Key,
    leave: Arc<Notify>,
}

impl Admission {
    /// Counters for `max` connections in all and `max_per_address`, and for `max_half_open` sockets of each source.
    pub fn new(max: usize, max_per_address: usize, max_half_open: usize) -> Arc<Self> {
        let half_open = [max_half_open, max_half_open].map(|max| Pool::new(max as u64));
        let state = State { open: 0, open_by_address: HashMap::new(), half_open };
        Arc::new(Self { max, max_per_address, state: Mutex::new(state) })
    }

    /// Takes a place among the half-open sockets for one from the network `address`. Returns which sockets had to
    /// leave for it, and why.
    pub fn arrive(
        self: &Arc<Self>,
        address: IpAddr,
        source: SocketSource,
    ) -> (HalfOpenPlace, Vec<(TurnedAway, IpAddr)>) {
        let leave = Arc::new(Notify::new());
        let mut state = self.state();
        let max_of_address = match source {
            SocketSource::Clients { is_exempt: false } => {
                let open = state.open_by_address.get(&address).copied().unwrap_or_default();
                self.max_per_address.saturating_sub(open).max(LEAST_HALF_OPEN) as u64
            }
            SocketSource::Clients { is_exempt: true } | SocketSource::Proxies => u64::MAX,
        };
        let (key, gone) = state.pool(source).enter(address, 1, max_of_address, Arc::clone(&leave));
        drop(state);
        let waiting = HalfOpenPlace { admission: Arc::clone(self), source, address, key, leave };
        (waiting, gone.into_iter().map(send_away).collect())
    }

    /// Sends away the oldest half-open socket of the greediest address, to free its descriptor.
    pub fn make_room(&self) -> Option<(TurnedAway, IpAddr)> {
        let mut state = self.state();
        let gone = state.half_open.iter_mut().find_map(Pool::evict_largest);
        drop(state);
        gone.map(send_away)
    }

    /// How many sockets are half-open.
    pub fn half_open(&self) -> u64 {
        self.state().half_open.iter().map(Pool::units).sum()
    }

    /// Takes a place among the connections for a client from the network `address`.
    ///
    /// # Errors
    /// When the relay is full, or the address has all the connections that it may.
    pub fn enter(self: &Arc<Self>, address: IpAddr, is_exempt: bool) -> Result<OpenPlace, TurnedAway> {
        let mut state = self.state();
        if state.open >= self.max {
            return Err(TurnedAway::Full);
        }
        let own = state.open_by_address.entry(address).or_default();
        if *own >= self.max_per_address && !is_exempt {
            return Err(TurnedAway::Address);
        }
        *own += 1;
        state.open += 1;
        Ok(OpenPlace { admission: Arc::clone(self), address })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn pool(&mut self, source: SocketSource) -> &mut Pool<Arc<Notify>> {
        match source {
            SocketSource::Clients { .. } => &mut self.half_open[0],
            SocketSource::Proxies => &mut self.half_open[1],
        }
    }
}

fn send_away(gone: EvictedPlace<Arc<Notify>>) -> (TurnedAway, IpAddr) {
    gone.owner.notify_one();
    let reason = if gone.address_is_full { TurnedAway::Address } else { TurnedAway::HalfOpen };
    (reason, gone.address)
}

impl HalfOpenPlace {
    /// Resolves when this socket must make room for another one.
    pub async fn is_sent_away(&self) {
        self.leave.notified().await;
    }
}

impl Drop for HalfOpenPlace {
    fn drop(&mut self) {
        self.admission.state().pool(self.source).leave(self.address, self.key);
    }
}

impl Drop for OpenPlace {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        state.open -= 1;
        if let Some(own) = state.open_by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                state.open_by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENTS: SocketSource = SocketSource::Clients { is_exempt: false };

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn is_sent_away(waiting: &HalfOpenPlace) -> bool {
        let mut told = std::pin::pin!(waiting.is_sent_away());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        told.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn places_are_limited_in_all_and_by_address_and_come_back() {
        let admission = Admission::new(3, 2, 9);
        let [a, b] = [1, 2].map(address);
        let first = admission.enter(a, false).map_err(drop).expect("a place");
        let _second = admission.enter(a, false).map_err(drop).expect("a place");
        assert_eq!(admission.enter(a, false).err(), Some(TurnedAway::Address));
        let exempt = admission.enter(a, true).map_err(drop).expect("a place");
        assert_eq!(admission.enter(b, false).err(), Some(TurnedAway::Full));
        drop((first, exempt));
        assert!(admission.enter(b, false).is_ok());
        assert!(admission.enter(a, false).is_ok());
    }

    #[test]
    fn the_oldest_half_open_socket_of_the_greediest_address_makes_room_for_a_stranger() {
        let admission = Admission::new(99, 99, 3);
        let greedy: Vec<_> = (0..3).map(|_| admission.arrive(address(1), CLIENTS)).collect();
        assert!(greedy.iter().all(|(_, told)| told.is_empty()));
        let (stranger, told) = admission.arrive(address(2), CLIENTS);
        assert_eq!(told, [(TurnedAway::HalfOpen, address(1))]);
        assert_eq!(greedy.iter().map(|(waiting, _)| is_sent_away(waiting)).collect::<Vec<_>>(), [true, false, false]);
        assert!(!is_sent_away(&stranger));
        assert_eq!(admission.half_open(), 3);
        drop((greedy, stranger));
        assert_eq!(admission.half_open(), 0);
    }

    #[test]
    fn half_open_sockets_take_of_the_share_of_their_address_and_a_few_are_left_for_a_word() {
        let admission = Admission::new(99, 20, 99);
        let state: Vec<_> =
            (0..11).map(|_| admission.enter(address(1), false).map_err(drop).expect("a place")).collect();
        let nine: Vec<_> = (0..9).map(|_| admission.arrive(address(1), CLIENTS)).collect();
        assert!(nine.iter().all(|(_, told)| told.is_empty()), "11 open and 9 half-open are 20");
        let (_tenth, told) = admission.arrive(address(1), CLIENTS);
        assert_eq!((told, is_sent_away(&nine[0].0)), (vec![(TurnedAway::Address, address(1))], true));
        let more: Vec<_> = (0..9).map(|_| admission.enter(address(1), false).map_err(drop).expect("a place")).collect();
        let (_last, told) = admission.arrive(address(1), CLIENTS);
        assert_eq!(told, [(TurnedAway::Address, address(1)); 2], "8 stay where 20 are open");
        assert_eq!(admission.half_open(), 8);
        drop((state, more));
    }

    #[test]
    fn a_trusted_proxy_is_not_limited_as_one_client_nor_sent_away_for_clients() {
        let admission = Admission::new(99, 2, 20);
        let proxied: Vec<_> = (0..20).map(|_| admission.arrive(address(1), SocketSource::Proxies)).collect();
        let direct: Vec<_> = (2..23).map(|last| admission.arrive(address(last), CLIENTS)).collect();
        assert!(proxied.iter().all(|(waiting, told)| told.is_empty() && !is_sent_away(waiting)));
        assert_eq!(direct[20].1, [(TurnedAway::HalfOpen, address(2))]);
    }
}
