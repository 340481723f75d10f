//! How many negentropy sessions there are and how many records they hold, in all and by address (INV-12).
//!
//! It does not know what is in a session.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::negentropy::MIN_FRAME_BYTES;
use crate::nostr::{Prefix, Reason};

/// The `[negentropy]` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Whether negentropy is served and advertised.
    pub enabled: bool,
    /// Events in one session; a query that matches more is refused. Each event takes 41 bytes of memory.
    pub max_records: usize,
    /// Events in all sessions of one address, as `[rates]` counts addresses.
    pub max_records_per_address: usize,
    /// Events in all sessions together.
    pub max_records_total: usize,
    /// Sessions of one connection.
    pub max_sessions_per_connection: usize,
    /// Sessions of one address, as `[rates]` counts addresses.
    pub max_sessions_per_address: usize,
    /// Sessions in all.
    pub max_sessions: usize,
    /// Bytes of one answer before it is written in hex, which doubles it.
    pub frame_bytes: usize,
    /// Seconds without a message after which a session is ended.
    pub idle_timeout_s: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: true,
            max_records: 1_000_000,
            max_records_per_address: 2_000_000,
            max_records_total: 8_000_000,
            max_sessions_per_connection: 8,
            max_sessions_per_address: 32,
            max_sessions: 512,
            frame_bytes: 60_000,
            idle_timeout_s: 60,
        }
    }
}

impl Options {
    /// The least that [`Options::frame_bytes`] may be.
    pub const MIN_FRAME_BYTES: usize = MIN_FRAME_BYTES;
}

/// Counts sessions and their records, in all and by address.
pub struct Sessions {
    options: Options,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: usize,
    records: usize,
    by_address: HashMap<IpAddr, AddressUsage>,
}

/// What one address holds.
#[derive(Default)]
struct AddressUsage {
    sessions: usize,
    records: usize,
}

impl Sessions {
    /// No sessions yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, state: Mutex::default() }
    }

    /// What the operator chose.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Sessions and records now.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let state = self.state();
        (state.sessions, state.records)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a session.
    ///
    /// # Errors
    /// `rate-limited:` when there are too many.
    pub fn enter(&self, address: IpAddr) -> Result<(), Reason> {
        let mut state = self.state();
        if state.sessions >= self.options.max_sessions {
            return Err(busy("too many sessions are open at this relay"));
        }
        let own = state.by_address.entry(address).or_default();
        if own.sessions >= self.options.max_sessions_per_address {
            return Err(busy("too many sessions are open from this address"));
        }
        own.sessions += 1;
        state.sessions += 1;
        Ok(())
    }

    /// Frees a place and the records of its session.
    pub fn leave(&self, address: IpAddr, records: usize) {
        let mut state = self.state();
        state.sessions -= 1;
        state.records -= records;
        if let Some(own) = state.by_address.get_mut(&address) {
            own.sessions -= 1;
            own.records -= records;
            if own.sessions == 0 {
                state.by_address.remove(&address);
            }
        }
    }

    /// Takes room for more records of a session. Where there is none, splitting the query does not help, so no reason
    /// here may suggest it.
    ///
    /// # Errors
    /// `rate-limited:` when the sessions of the address, or all together, hold as many as they may.
    pub fn add_records(&self, address: IpAddr, records: usize) -> Result<(), Reason> {
        let mut state = self.state();
        if state.records + records > self.options.max_records_total {
            return Err(busy("all open sessions together hold as much as they may; try again later"));
        }
        let Some(own) = state.by_address.get_mut(&address) else {
            unreachable!("a session that takes records is counted");
        };
        if own.records + records > self.options.max_records_per_address {
            return Err(busy("all sessions of your address together hold as much as they may; try again later"));
        }
        own.records += records;
        state.records += records;
        Ok(())
    }
}

fn busy(text: &'static str) -> Reason {
    Reason::new(Prefix::RateLimited, text)
}
