//! The rules that events of an import must pass.
//!
//! They are read again for each piece: those of a running relay change while events arrive.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::policy::Settings;
use crate::retention::{Horizons, resolve};
use crate::store::{Store, StoreError};
use crate::trust::trusted;

/// The rules, shared with whoever changes them.
#[derive(Clone)]
pub struct Rules {
    /// The settings: limits, lists, rules, and the relay's own URLs for vanish requests.
    pub settings: Arc<ArcSwap<Settings>>,
    /// How far the retention rules have evicted, so that evicted events are not imported again.
    pub horizons: Arc<Horizons>,
}

impl Rules {
    /// The rules of a process that runs no relay. What depends on stored events is read now, and stays so.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn load(settings: Settings, store: &Store) -> Result<Self, StoreError> {
        let settings = resolved(settings, store)?;
        let horizons = Arc::new(Horizons::load(&settings.retention, store)?);
        Ok(Self { settings: Arc::new(ArcSwap::from_pointee(settings)), horizons })
    }

    /// Puts other settings in force, and reads again what depends on stored events.
    ///
    /// # Errors
    /// When the store cannot be read; then nothing has changed.
    pub fn renew(&self, settings: Settings, store: &Store) -> Result<(), StoreError> {
        let settings = resolved(settings, store)?;
        self.horizons.resume(&settings.retention, store)?;
        self.settings.store(Arc::new(settings));
        Ok(())
    }
}

/// The settings, with what depends on stored events read from the store.
fn resolved(mut settings: Settings, store: &Store) -> Result<Settings, StoreError> {
    settings.retention = resolve(settings.retention, store)?;
    settings.trusted = trusted(store, &settings.policy.trust)?;
    Ok(settings)
}
