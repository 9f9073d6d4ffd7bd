//! Step 5: how much. Calls a second where a plugin has such a limit, and requests under way, which
//! every plugin has.

use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::config::GatewayConfig;
use crate::meter::{CallCounts, Counts};
use crate::plugin::CallError;
use crate::refusal::Refusal;

/// How many requests may be under way to plugins: to each, and to all of them together.
#[derive(Debug)]
pub struct Capacity {
    in_all: Arc<Places>,
    per_plugin: usize,
}

impl Capacity {
    /// What the settings say.
    #[must_use]
    pub fn new(config: &GatewayConfig) -> Self {
        Self {
            in_all: Arc::new(Places::new(config.max_in_flight)),
            per_plugin: config.max_in_flight_per_plugin,
        }
    }

    /// A meter for one more plugin.
    #[must_use]
    pub fn meter(&self) -> Arc<Meter> {
        Arc::new(Meter {
            in_all: Arc::clone(&self.in_all),
            places: Places::new(self.per_plugin),
            rate: ArcSwapOption::empty(),
            counts: Counts::default(),
        })
    }
}

/// What one plugin uses and has used. Whoever starts plugins keeps it for each and puts the same
/// one into every generation's entry, so that a reload gives no fresh allowance and loses no count.
///
/// Nothing in it waits or locks.
#[derive(Debug)]
pub struct Meter {
    in_all: Arc<Places>,
    places: Places,
    rate: ArcSwapOption<Rate>,
    counts: Counts,
}

impl Meter {
    /// A place among the requests under way, whatever the rate.
    ///
    /// # Errors
    /// [`CallError::Overloaded`] where there is none.
    pub(crate) fn place(self: &Arc<Self>) -> Result<Place, CallError> {
        self.occupy().map_err(|_| CallError::Overloaded)
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.places.held()
    }

    /// What its calls came to.
    #[must_use]
    pub fn counts(&self) -> CallCounts {
        self.counts.read()
    }

    /// Lets a request through to the plugin, or says why not.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Place, Refusal> {
        let place = self.occupy()?;
        if let Some(rate) = &*self.rate.load() {
            rate.bucket.check().map_err(|not_until| {
                self.counts.refused(2);
                Refusal::Rate {
                    wait: not_until.wait_time_from(rate.bucket.clock().now()),
                }
            })?;
        }
        Ok(place)
    }

    /// Sets the limit of calls a second. One that stays the same keeps what is left of it.
    pub(crate) fn set_rate(&self, calls_per_second: Option<u32>) {
        let before = self.rate.load().as_ref().map(|rate| rate.calls_per_second);
        if before != calls_per_second {
            self.rate.store(calls_per_second.map(|calls_per_second| {
                Arc::new(Rate {
                    calls_per_second,
                    bucket: bucket(calls_per_second),
                })
            }));
        }
    }

    /// The same, refused as the gateway refuses.
    pub(crate) fn occupy(self: &Arc<Self>) -> Result<Place, Refusal> {
        if !self.places.take() {
            self.counts.refused(0);
            return Err(Refusal::InFlight);
        }
        if !self.in_all.take() {
            self.places.give_back();
            self.counts.refused(1);
            return Err(Refusal::Busy);
        }
        Ok(Place(Arc::clone(self)))
    }
}

/// A request's place among those under way, given back when this goes.
#[derive(Debug)]
pub(crate) struct Place(Arc<Meter>);

impl Place {
    /// Begins to count a call of the plugin.
    #[must_use]
    pub(crate) fn call(&self) -> Call<'_> {
        Call {
            counts: Some(&self.0.counts),
            started: std::time::Instant::now(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.give_back();
        self.0.in_all.give_back();
    }
}

/// A call under way. One that is dropped before its end was given up by its caller.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    counts: Option<&'a Counts>,
    started: std::time::Instant,
}

impl Call<'_> {
    /// Counts how it ended.
    pub(crate) fn ended<T>(mut self, result: &Result<T, CallError>) {
        if let Some(counts) = self.counts.take() {
            counts.ended(result.as_ref().err(), self.started.elapsed());
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(counts) = self.counts {
            counts.cancelled();
        }
    }
}

/// A number of places.
#[derive(Debug)]
struct Places {
    held: AtomicUsize,
    most: usize,
}

impl Places {
    const fn new(most: usize) -> Self {
        Self {
            held: AtomicUsize::new(0),
            most,
        }
    }

    fn take(&self) -> bool {
        let one_more = |held| (held < self.most).then_some(held + 1);
        self.held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .is_ok()
    }

    fn give_back(&self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }

    fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Rate {
    calls_per_second: u32,
    bucket: Bucket,
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, RuntimeClock, NoOpMiddleware<RuntimeInstant>>;

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

    #[test]
    fn places_are_of_the_plugin_and_of_all_and_come_back() {
        let capacity = Capacity::new(&GatewayConfig {
            max_in_flight: 3,
            max_in_flight_per_plugin: 2,
            ..GatewayConfig::default()
        });
        let (one, other) = (capacity.meter(), capacity.meter());
        let held = [one.enter().unwrap(), one.enter().unwrap()];
        assert!(matches!(one.enter(), Err(Refusal::InFlight)));
        let last = other.place().unwrap();
        assert!(matches!(other.enter(), Err(Refusal::Busy)));
        assert_eq!(other.place().unwrap_err(), CallError::Overloaded);
        assert_eq!((one.in_flight(), other.in_flight()), (2, 1));
        drop(held);
        let again = other.enter().unwrap();
        drop((last, again));
        assert_eq!((one.in_flight(), other.in_flight()), (0, 0));
        assert_eq!(one.counts().refusals, [1, 0, 0]);
        assert_eq!(other.counts().refusals, [0, 2, 0]);
    }

    #[test]
    fn rate_that_stays_the_same_keeps_what_is_left_of_it() {
        let meter = Capacity::new(&GatewayConfig::default()).meter();
        let rate = || meter.rate.load_full().unwrap();
        meter.set_rate(Some(1));
        let first = rate();
        meter.set_rate(Some(1));
        assert!(Arc::ptr_eq(&first, &rate()));
        meter.set_rate(Some(2));
        assert_eq!(rate().calls_per_second, 2);
        meter.set_rate(None);
        assert!(meter.rate.load().is_none());
    }

    #[test]
    fn call_that_is_dropped_was_given_up() {
        let meter = Capacity::new(&GatewayConfig::default()).meter();
        let place = meter.place().unwrap();
        place.call().ended(&Ok(()));
        drop(place.call());
        let counts = meter.counts();
        assert_eq!((counts.outcomes[0], counts.outcomes[1]), (1, 1));
        assert_eq!((counts.calls(), counts.failures()), (2, 0));
    }

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
