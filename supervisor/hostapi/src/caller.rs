//! Who is calling.

use std::sync::Arc;

use pinfold_policy::{Effective, Generation, PluginId, Rates};
use tokio::sync::Semaphore;

use crate::http::LOOKUPS_PER_PLUGIN;
use crate::quota::Meters;
use crate::under_way::UnderWay;

/// Who is calling: made when the instance's connection is made, never from anything that the
/// plugin says. A new instance has a new one, with full buckets.
#[derive(Debug)]
pub struct Caller {
    /// The plugin.
    pub plugin: PluginId,
    /// Which of its instances.
    pub generation: Generation,
    /// What it effectively may do.
    pub permissions: Arc<Effective>,
    pub(crate) meters: Meters,
    pub(crate) plugin_calls: UnderWay,
    pub(crate) http_requests: UnderWay,
    pub(crate) lookups: Arc<Semaphore>,
}

impl Caller {
    /// The identity of one instance. `rates` that are absent are 1,000 calls a second for each
    /// service, and 60 HTTP requests a minute; a rate of zero lets nothing pass.
    #[must_use]
    pub fn new(
        plugin: PluginId,
        generation: Generation,
        permissions: Arc<Effective>,
        rates: &Rates,
    ) -> Self {
        Self {
            plugin,
            generation,
            permissions,
            meters: Meters::new(rates),
            plugin_calls: UnderWay::default(),
            http_requests: UnderWay::default(),
            lookups: Arc::new(Semaphore::new(LOOKUPS_PER_PLUGIN)),
        }
    }
}
