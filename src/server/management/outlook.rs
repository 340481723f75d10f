//! How long the room will last. Each request that asks reads a few events more, so that none pays for all of it.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::nostr::Timestamp;
use crate::policy::{Retention, Settings};
use crate::retention::{Estimate, Forecast, resolve};
use crate::store::{Store, StoreError};

/// How long a forecast is told again; one for which there were too few events, less long.
const FRESH: Duration = Duration::from_secs(600);
const UNSURE_FRESH: Duration = Duration::from_secs(60);

/// Places that a request looks at: about 0.2 ms of CPU.
const PART: u64 = 64;

/// The forecast that is told, and the estimate for the next one.
#[derive(Default)]
pub struct Outlook {
    told: RefCell<Option<(Instant, Value)>>,
    next: RefCell<Option<Unfinished>>,
}

/// An estimate, and the rules that it began with.
struct Unfinished {
    estimate: Estimate,
    rules: Retention,
    reload: u64,
}

impl Outlook {
    /// The forecast. Where its `read` is less than its `to_read`, it gets better if asked for again.
    ///
    /// # Errors
    /// When the store is damaged, in words.
    pub async fn forecast(&self, store: &Store, settings: Arc<Settings>, now: Timestamp) -> Result<Value, String> {
        if let Some((at, told)) = &*self.told.borrow() {
            let fresh = if told["is_sure"] == true { FRESH } else { UNSURE_FRESH };
            if at.elapsed() < fresh {
                return Ok(told.clone());
            }
        }
        let (store, begun) = (store.clone(), self.next.take().filter(|next| next.reload == settings.reload));
        // It reads events from all over the disk.
        let read = tokio::task::spawn_blocking(move || read_more(begun, &store, &settings, now)).await;
        let (next, forecast) = read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        if next.estimate.is_complete() {
            self.told.replace(Some((Instant::now(), forecast.clone())));
            return Ok(forecast);
        }
        // A former forecast is better than one that has read little.
        let mut told = self.told.borrow().as_ref().map_or_else(|| forecast.clone(), |(_, told)| told.clone());
        for key in ["read", "to_read"] {
            told[key] = forecast[key].clone();
        }
        self.next.replace(Some(next));
        Ok(told)
    }
}

fn read_more(
    begun: Option<Unfinished>,
    store: &Store,
    settings: &Settings,
    now: Timestamp,
) -> Result<(Unfinished, Value), StoreError> {
    let mut next = match begun {
        Some(next) => next,
        None => {
            let rules = resolve(settings.retention.clone(), store)?;
            Unfinished { estimate: Estimate::begin(store, &rules, now)?, rules, reload: settings.reload }
        }
    };
    next.estimate.read_more(store, &next.rules, PART)?;
    let (room, disk) = (store.room()?, store.disk_space()?.free_bytes);
    let forecast = Forecast::new(&next.estimate.usages(store)?, &next.rules, room, disk);
    let daily = |[events, bytes]: [f64; 2]| json!({ "events": events.round(), "bytes": bytes.round() });
    let told = json!({
        "added": daily(forecast.daily.added), "removed": daily(forecast.daily.removed),
        "limit": forecast.limit.key(), "limit_bytes": forecast.limit_bytes,
        "room_days": forecast.room_days, "full_days": forecast.full_days,
        "has_rules": !next.rules.is_empty(), "is_sure": next.estimate.shows_growth(),
        "read": next.estimate.looked(), "to_read": next.estimate.places(),
    });
    Ok((next, told))
}
