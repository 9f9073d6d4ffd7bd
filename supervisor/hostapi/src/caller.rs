//! Who is calling.

use std::sync::Arc;

use pinfold_policy::{Effective, Generation, PluginId, Rates};

use crate::allowance::Allowance;
use crate::cache::Owner;

/// Who is calling: made when the instance's connection is made, never from anything that the
/// plugin says.
#[derive(Debug)]
pub struct Caller {
    /// The plugin.
    pub plugin: PluginId,
    /// Which of its instances.
    pub generation: Generation,
    /// What it effectively may do.
    pub permissions: Arc<Effective>,
    pub(crate) allowance: Arc<Allowance>,
}

impl Caller {
    /// The identity of one instance for one dispatcher, with an allowance of its own.
    /// [`crate::HostApi::caller`] makes one that shares it with the plugin's other instances. `rates`
    /// that are absent are 1,000 calls a second for each service, and 60 HTTP requests a minute; a
    /// rate of zero lets nothing pass.
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
            allowance: Arc::new(Allowance::new(rates)),
        }
    }

    /// Whose entries of the cache it may reach: its plugin's own.
    pub(crate) fn cache(&self) -> Owner<'_> {
        Owner {
            plugin: &self.plugin,
            place: &self.allowance.cache,
        }
    }
}
