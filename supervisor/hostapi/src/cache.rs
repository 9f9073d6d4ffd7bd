//! The cache service: a bounded key space of its own for each plugin, in this process.
//!
//! Plugins share no entries and no room: each has its own cache with its own eviction, so none can
//! read, replace or push out another's. Room is counted in bytes of keys and values plus a fixed
//! share for each entry.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use moka::Expiry;
use moka::policy::EvictionPolicy;
use pinfold_policy::PluginId;
use tokio::time::Instant;

use crate::HostError;

/// Longest key, in bytes.
pub const CACHE_KEY_LIMIT_BYTES: usize = 512;

/// Largest value, in bytes.
pub const CACHE_VALUE_LIMIT_BYTES: usize = 1024 * 1024;

/// Room of one plugin, in bytes; past it its own least recently used entries go.
pub const CACHE_PLUGIN_LIMIT_BYTES: u64 = 16 * 1024 * 1024;

/// Room of all plugins together, in bytes; past it what makes them hold more is refused. A plugin at
/// its own limit makes room as it goes, and may pass this by less than one value.
pub const CACHE_TOTAL_LIMIT_BYTES: u64 = 256 * 1024 * 1024;

/// Longest time to live: a year, past which the clock's arithmetic is not worth trusting.
const LONGEST_TTL: Duration = Duration::from_secs(366 * 24 * 3600);

/// What an entry costs beside its key and value, roughly: without it a plugin could hold millions
/// of empty ones.
const ENTRY_OVERHEAD_BYTES: u32 = 256;

/// The caches of all plugins.
#[derive(Debug, Default)]
pub struct Cache {
    spaces: Mutex<HashMap<PluginId, Arc<Space>>>,
    total: Arc<AtomicU64>,
}

impl Cache {
    /// Nothing cached.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) async fn get(&self, owner: Owner<'_>, key: &str) -> Option<Bytes> {
        let space = self.space(owner)?;
        let entry = space.entries.get(key).await;
        entry.filter(Entry::is_fresh).map(|entry| entry.value)
    }

    pub(crate) async fn set(
        &self,
        owner: Owner<'_>,
        key: String,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<(), HostError> {
        if value.len() > CACHE_VALUE_LIMIT_BYTES {
            return Err(HostError::TooLarge {
                what: "cache value",
                limit_bytes: CACHE_VALUE_LIMIT_BYTES,
            });
        }
        let space = self.space_or_new(owner);
        let entry = Entry {
            // A copy: what arrives is often a slice of a far larger message.
            value: Bytes::copy_from_slice(value),
            ttl: ttl.map(|ttl| ttl.min(LONGEST_TTL)),
            stored: Instant::now(),
        };
        let weight = u64::from(weigh(&key, &entry));
        let replaced = space.entries.get(&key).await;
        let replaced = replaced.map_or(0, |entry| u64::from(weigh(&key, &entry)));
        let growth = weight.saturating_sub(replaced);
        // A plugin at its own limit makes room by what it holds itself; another's never gives way.
        let full = self.total.load(Ordering::Relaxed) + growth > CACHE_TOTAL_LIMIT_BYTES;
        let grows = space.used.load(Ordering::Relaxed) + growth <= CACHE_PLUGIN_LIMIT_BYTES;
        if full && grows && growth > 0 {
            return Err(HostError::CacheFull);
        }
        space.used.fetch_add(weight, Ordering::Relaxed);
        self.total.fetch_add(weight, Ordering::Relaxed);
        space.entries.insert(key, entry).await;
        space.entries.run_pending_tasks().await;
        Ok(())
    }

    pub(crate) async fn delete(&self, owner: Owner<'_>, key: &str) {
        if let Some(space) = self.space(owner) {
            space.entries.invalidate(key).await;
            space.entries.run_pending_tasks().await;
        }
    }

    pub(crate) fn forget(&self, plugin: &PluginId) {
        self.spaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(plugin);
    }

    fn space(&self, owner: Owner<'_>) -> Option<Arc<Space>> {
        let mut place = owner.place.lock();
        if let Some(space) = place.upgrade() {
            return Some(space);
        }
        let spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        let space = Arc::clone(spaces.get(owner.plugin)?);
        *place = Arc::downgrade(&space);
        Some(space)
    }

    fn space_or_new(&self, owner: Owner<'_>) -> Arc<Space> {
        let mut place = owner.place.lock();
        if let Some(space) = place.upgrade() {
            return space;
        }
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        let space = spaces.entry(owner.plugin.clone());
        let space = space.or_insert_with(|| Arc::new(Space::new(Arc::clone(&self.total))));
        *place = Arc::downgrade(space);
        Arc::clone(space)
    }
}

/// Where a plugin's entries are, for as long as they are: once that is known its calls share no lock
/// with those of others.
#[derive(Debug, Default)]
pub(crate) struct CachePlace(Mutex<Weak<Space>>);

impl CachePlace {
    fn lock(&self) -> MutexGuard<'_, Weak<Space>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose entries are meant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    pub(crate) plugin: &'a PluginId,
    /// Its own, made for no other plugin.
    pub(crate) place: &'a CachePlace,
}

pub(crate) fn check_key(key: &str) -> Result<(), HostError> {
    if key.len() > CACHE_KEY_LIMIT_BYTES {
        return Err(HostError::TooLarge {
            what: "cache key",
            limit_bytes: CACHE_KEY_LIMIT_BYTES,
        });
    }
    Ok(())
}

/// One plugin's entries.
#[derive(Debug)]
struct Space {
    entries: moka::future::Cache<String, Entry>,
    used: Arc<AtomicU64>,
    total: Arc<AtomicU64>,
}

impl Space {
    fn new(total: Arc<AtomicU64>) -> Self {
        let used = Arc::new(AtomicU64::new(0));
        let (used_too, total_too) = (Arc::clone(&used), Arc::clone(&total));
        let entries = moka::future::Cache::builder()
            .max_capacity(CACHE_PLUGIN_LIMIT_BYTES)
            // The default policy may refuse a new entry in favour of often used ones, and a plugin
            // that has just set a key expects to find it.
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|key: &String, entry: &Entry| weigh(key, entry))
            .expire_after(OwnTtl)
            .eviction_listener(move |key: Arc<String>, entry: Entry, _cause| {
                let weight = u64::from(weigh(&key, &entry));
                used_too.fetch_sub(weight, Ordering::Relaxed);
                total_too.fetch_sub(weight, Ordering::Relaxed);
            })
            .build();
        Self {
            entries,
            used,
            total,
        }
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // Entries that go with the whole cache are not reported one by one.
        self.total
            .fetch_sub(self.used.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[derive(Clone, Debug)]
struct Entry {
    value: Bytes,
    ttl: Option<Duration>,
    stored: Instant,
}

impl Entry {
    /// By the runtime's clock. The cache's own clock takes expired entries away, at its leisure.
    fn is_fresh(&self) -> bool {
        self.ttl.is_none_or(|ttl| self.stored.elapsed() < ttl)
    }
}

fn weigh(key: &str, entry: &Entry) -> u32 {
    u32::try_from(key.len() + entry.value.len())
        .unwrap_or(u32::MAX)
        .saturating_add(ENTRY_OVERHEAD_BYTES)
}

/// Each entry's own time to live, counted anew when it is replaced.
struct OwnTtl;

impl Expiry<String, Entry> for OwnTtl {
    fn expire_after_create(
        &self,
        _key: &String,
        entry: &Entry,
        _created: std::time::Instant,
    ) -> Option<Duration> {
        entry.ttl
    }

    fn expire_after_update(
        &self,
        _key: &String,
        entry: &Entry,
        _updated: std::time::Instant,
        _left: Option<Duration>,
    ) -> Option<Duration> {
        entry.ttl
    }
}

#[cfg(test)]
#[path = "cache/tests.rs"]
mod tests;
