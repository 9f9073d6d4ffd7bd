//! Step 5: how much. Calls a second where a plugin has such a limit, and requests under way, which
//! every plugin has.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use pinfold_policy::PluginId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::refusal::Refusal;
use crate::table::{Entry, Table};

/// What each plugin has used; it outlives the generations of a plugin, so that a reload gives no
/// fresh allowance.
#[derive(Debug)]
pub(crate) struct Limits {
    max_in_flight: usize,
    meters: Mutex<HashMap<PluginId, Arc<Meter>>>,
}

/// Holds a request's place among those under way.
#[derive(Debug)]
pub(crate) struct InFlight {
    _place: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Meter {
    calls_per_second: Option<u32>,
    rate: Option<Bucket>,
    places: Arc<Semaphore>,
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, RuntimeClock, NoOpMiddleware<RuntimeInstant>>;

impl Limits {
    pub(crate) fn new(max_in_flight: usize) -> Self {
        Self {
            max_in_flight,
            meters: Mutex::default(),
        }
    }

    /// Lets a request through to a plugin, or says why not.
    pub(crate) fn enter(&self, entry: &Entry, table: &Table) -> Result<InFlight, Refusal> {
        let meter = self.meter(entry, table);
        let place = Arc::clone(&meter.places)
            .try_acquire_owned()
            .map_err(|_| Refusal::InFlight)?;
        if let Some(rate) = &meter.rate {
            rate.check().map_err(|not_until| Refusal::Rate {
                wait: not_until.wait_time_from(rate.clock().now()),
            })?;
        }
        Ok(InFlight { _place: place })
    }

    fn meter(&self, entry: &Entry, table: &Table) -> Arc<Meter> {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let known = meters.get(&entry.plugin);
        if let Some(meter) = known
            && meter.calls_per_second == entry.calls_per_second
        {
            return Arc::clone(meter);
        }
        let places = known.map_or_else(
            || Arc::new(Semaphore::new(self.max_in_flight)),
            |meter| Arc::clone(&meter.places),
        );
        let meter = Arc::new(Meter {
            calls_per_second: entry.calls_per_second,
            rate: entry.calls_per_second.map(bucket),
            places,
        });
        // Seldom: a plugin is new, or its limit has changed. Forget those that are gone.
        meters.retain(|plugin, _| table.entry(plugin).is_some());
        meters.insert(entry.plugin.clone(), Arc::clone(&meter));
        meter
    }
}

/// A bucket that holds one second's calls and starts full. A limit of none a second lets one
/// through: a plugin that may not be called at all is disabled, not limited.
fn bucket(calls_per_second: u32) -> Bucket {
    let calls = NonZeroU32::new(calls_per_second).unwrap_or(NonZeroU32::MIN);
    RateLimiter::direct_with_clock(Quota::per_second(calls), RuntimeClock)
}

/// The runtime's clock, which tests can stop.
#[derive(Clone, Copy, Debug, Default)]
struct RuntimeClock;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RuntimeInstant(Instant);

impl Clock for RuntimeClock {
    type Instant = RuntimeInstant;
    fn now(&self) -> RuntimeInstant {
        RuntimeInstant(Instant::now())
    }
}

impl Reference for RuntimeInstant {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.checked_sub(duration.into()).unwrap_or(self.0))
    }
}

impl Add<Nanos> for RuntimeInstant {
    type Output = Self;
    fn add(self, nanos: Nanos) -> Self {
        Self(self.0 + Duration::from(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bucket's clock is the runtime's; here only its arithmetic is in question.
    #[test]
    fn time_of_the_runtime_is_counted_in_nanoseconds() {
        let start = RuntimeInstant(Instant::now());
        let later = start + Nanos::from(1_500_000_000);
        assert_eq!(later.duration_since(start).as_u64(), 1_500_000_000);
        assert_eq!(start.duration_since(later).as_u64(), 0);
        assert_eq!(later.saturating_sub(Nanos::from(1_500_000_000)), start);
    }

    #[test]
    fn bucket_starts_full_and_holds_a_seconds_calls() {
        let bucket = bucket(3);
        for _ in 0..3 {
            assert!(bucket.check().is_ok());
        }
        let wait = bucket
            .check()
            .unwrap_err()
            .wait_time_from(bucket.clock().now());
        assert!(wait <= Duration::from_millis(334), "{wait:?}");
    }
}
