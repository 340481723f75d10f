//! Who is connected, for operators who look: every open connection by its number.
//!
//! A connection enters once and leaves once. Nothing that a client sends comes here.

use hashbrown::HashMap;

use super::handle::ClientHandle;
use crate::sync::{Arc, Mutex, MutexGuard};

/// The open connections; `server.max_connections` bounds them.
#[derive(Default)]
pub struct ClientRegistry {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    clients: HashMap<u64, Arc<ClientHandle>>,
}

impl ClientRegistry {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the registry")
    }

    /// Enters a connection; returns its number, which no later one gets.
    pub fn enter(&self, client: &Arc<ClientHandle>) -> u64 {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.clients.insert(number, Arc::clone(client));
        number
    }

    /// Removes a connection.
    pub fn leave(&self, number: u64) {
        self.state().clients.remove(&number);
    }

    /// All of them, in no order.
    #[must_use]
    pub fn clients(&self) -> Vec<(u64, Arc<ClientHandle>)> {
        self.state().clients.iter().map(|(number, client)| (*number, Arc::clone(client))).collect()
    }

    /// The connection with this number, if it is still open.
    #[must_use]
    pub fn find(&self, number: u64) -> Option<Arc<ClientHandle>> {
        self.state().clients.get(&number).map(Arc::clone)
    }
}
