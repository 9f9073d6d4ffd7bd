//! What is counted of each plugin, over all its generations: its calls, which the gateway counts,
//! and the calls that it makes of the host.
//!
//! Whoever counts keeps the counters of its plugin; looking them up takes no lock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use pinfold_gateway::{Capacity, GatewayConfig, Meter};
use pinfold_hostapi::Decision;
use pinfold_policy::PluginId;

/// Services of the host by the names that records of calls have, and one for what is not named
/// here.
pub(crate) const SERVICES: [&str; 7] = ["db", "cache", "log", "config", "http", "plugin", "other"];

/// What can become of a call of the host.
pub(crate) const DECISIONS: [Decision; 4] = [
    Decision::Allow,
    Decision::Deny,
    Decision::Limit,
    Decision::Error,
];

/// Calls of the host by service and decision, in the order of [`SERVICES`] and [`DECISIONS`].
pub(crate) type HostCounts = [[u64; DECISIONS.len()]; SERVICES.len()];

/// The counters of one plugin.
#[derive(Debug)]
pub(crate) struct PluginMeter {
    /// What the gateway counts and limits.
    pub(crate) calls: Arc<Meter>,
    host: [[AtomicU64; DECISIONS.len()]; SERVICES.len()],
}

/// The counters of every plugin that is there.
#[derive(Debug)]
pub(crate) struct Meters {
    capacity: Capacity,
    by_plugin: ArcSwap<HashMap<PluginId, Arc<PluginMeter>>>,
    /// Held by whoever adds or takes away.
    changing: Mutex<()>,
}

impl Meters {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        Self {
            capacity: Capacity::new(config),
            by_plugin: ArcSwap::default(),
            changing: Mutex::default(),
        }
    }

    /// The counters of one plugin, made where it has none yet.
    pub(crate) fn of(&self, plugin: &PluginId) -> Arc<PluginMeter> {
        let _held = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.by_plugin.load_full();
        if let Some(meter) = known.get(plugin) {
            return Arc::clone(meter);
        }
        let meter = Arc::new(PluginMeter {
            calls: self.capacity.meter(),
            host: Default::default(),
        });
        let mut more = HashMap::clone(&known);
        more.insert(plugin.clone(), Arc::clone(&meter));
        self.by_plugin.store(Arc::new(more));
        meter
    }

    /// The counters of one plugin that is there.
    pub(crate) fn get(&self, plugin: &PluginId) -> Option<Arc<PluginMeter>> {
        self.by_plugin.load().get(plugin).map(Arc::clone)
    }

    /// Calls of plugins that are under way.
    pub(crate) fn in_flight(&self) -> usize {
        let meters = self.by_plugin.load();
        meters.values().map(|meter| meter.calls.in_flight()).sum()
    }

    /// Drops the counters of a plugin that is no longer there.
    pub(crate) fn forget(&self, plugin: &PluginId) {
        let _held = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fewer = HashMap::clone(&self.by_plugin.load());
        if fewer.remove(plugin).is_some() {
            self.by_plugin.store(Arc::new(fewer));
        }
    }
}

impl PluginMeter {
    /// Its calls of the host so far.
    pub(crate) fn host_calls(&self) -> HostCounts {
        self.host
            .each_ref()
            .map(|row| row.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }

    /// Counts a call of the host.
    pub(crate) fn count_host(&self, service: &str, decision: Decision) {
        let row = SERVICES.iter().position(|known| *known == service);
        let row = self.host.get(row.unwrap_or(SERVICES.len() - 1));
        let column = DECISIONS.iter().position(|known| *known == decision);
        if let Some(count) = row.zip(column).and_then(|(row, column)| row.get(column)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_outlive_generations_and_end_with_the_plugin() {
        let meters = Meters::new(&GatewayConfig::default());
        let plugin: PluginId = "hello".parse().unwrap();
        let meter = meters.of(&plugin);
        for (service, decision) in [
            ("db", Decision::Allow),
            ("db", Decision::Allow),
            ("cache", Decision::Deny),
            ("telepathy", Decision::Error),
        ] {
            meter.count_host(service, decision);
        }
        assert!(Arc::ptr_eq(&meter, &meters.of(&plugin)));
        let mut expected = HostCounts::default();
        expected[0][0] = 2;
        expected[1][1] = 1;
        expected[6][3] = 1;
        assert_eq!(meter.host_calls(), expected);
        meters.forget(&plugin);
        assert_eq!(meters.of(&plugin).host_calls(), HostCounts::default());
    }
}
