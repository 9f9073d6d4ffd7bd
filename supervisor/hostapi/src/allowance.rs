//! What one plugin may use of the host, and what is kept for it, over all its instances: a plugin that ends and is started
//! again, or reloaded, has no more of it than one that stays.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pinfold_policy::{PluginId, Rates};
use tokio::sync::Semaphore;

use crate::audit::AuditSink;
use crate::cache::CachePlace;
use crate::db::KnownStatements;
use crate::http::LOOKUPS_PER_PLUGIN;
use crate::quota::Meters;
use crate::under_way::UnderWay;

/// Rates, and what is under way, of one plugin.
pub(crate) struct Allowance {
    rates: Rates,
    pub(crate) meters: Meters,
    pub(crate) statements: KnownStatements,
    pub(crate) cache: CachePlace,
    audit: OnceLock<Arc<dyn AuditSink>>,
    pub(crate) plugin_calls: UnderWay,
    pub(crate) http_requests: Arc<UnderWay>,
    pub(crate) http_tunnels: Arc<UnderWay>,
    pub(crate) lookups: Arc<Semaphore>,
}

impl Allowance {
    pub(crate) fn new(rates: &Rates) -> Self {
        Self {
            rates: rates.clone(),
            meters: Meters::new(rates),
            statements: KnownStatements::default(),
            cache: CachePlace::default(),
            audit: OnceLock::new(),
            plugin_calls: UnderWay::default(),
            http_requests: Arc::default(),
            http_tunnels: Arc::default(),
            lookups: Arc::new(Semaphore::new(LOOKUPS_PER_PLUGIN)),
        }
    }

    /// Where the plugin's records go: `all`'s for `plugin`, whose allowance this is.
    pub(crate) fn audit(&self, all: &Arc<dyn AuditSink>, plugin: &PluginId) -> &dyn AuditSink {
        let of_plugin = || Arc::clone(all).of(plugin);
        self.audit.get_or_init(of_plugin).as_ref()
    }
}

impl fmt::Debug for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allowance")
            .field("rates", &self.rates)
            .finish_non_exhaustive()
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
