//! What one plugin may use of the host, over all its instances: a plugin that ends and is started
//! again, or reloaded, has no more of it than one that stays.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pinfold_policy::{PluginId, Rates};
use tokio::sync::Semaphore;

use crate::http::LOOKUPS_PER_PLUGIN;
use crate::quota::Meters;
use crate::under_way::UnderWay;

/// Rates, and what is under way, of one plugin.
#[derive(Debug)]
pub(crate) struct Allowance {
    rates: Rates,
    pub(crate) meters: Meters,
    pub(crate) plugin_calls: UnderWay,
    pub(crate) http_requests: UnderWay,
    pub(crate) lookups: Arc<Semaphore>,
}

impl Allowance {
    pub(crate) fn new(rates: &Rates) -> Self {
        Self {
            rates: rates.clone(),
            meters: Meters::new(rates),
            plugin_calls: UnderWay::default(),
            http_requests: UnderWay::default(),
            lookups: Arc::new(Semaphore::new(LOOKUPS_PER_PLUGIN)),
        }
    }
}

/// The allowances of the plugins that are there.
#[derive(Debug, Default)]
pub(crate) struct Allowances(Mutex<HashMap<PluginId, Arc<Allowance>>>);

impl Allowances {
    /// The plugin's allowance: the one that its earlier instances had, as long as its rates are the
    /// same.
    pub(crate) fn of(&self, plugin: &PluginId, rates: &Rates) -> Arc<Allowance> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(plugin) {
            Some(allowance) if allowance.rates == *rates => Arc::clone(allowance),
            _ => {
                let allowance = Arc::new(Allowance::new(rates));
                known.insert(plugin.clone(), Arc::clone(&allowance));
                allowance
            }
        }
    }

    pub(crate) fn forget(&self, plugin: &PluginId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(plugin);
    }
}
