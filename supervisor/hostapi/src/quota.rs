//! Rates: token buckets of one plugin, one for each service.

use std::num::NonZeroU32;
use std::ops::Add;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use pinfold_policy::Rates;
use tokio::time::Instant;

use crate::HostError;

/// Calls a second of each service where the policy says nothing: far above what a plugin needs,
/// far below what the host would notice.
pub const DEFAULT_CALLS_PER_SECOND: u32 = 1_000;

/// HTTP requests a minute where the policy says nothing: GoatFlow's figure.
pub const DEFAULT_REQUESTS_PER_MINUTE: u32 = 60;

/// The buckets of one plugin, over all its instances. They start full and hold as much as the rate allows at once: a
/// second's worth of calls, a minute's worth of queries.
#[derive(Debug)]
pub(crate) struct Meters {
    db: Meter,
    cache: Meter,
    log: Meter,
    config: Meter,
    http: Meter,
    plugin: Meter,
    /// What no service answers.
    other: Meter,
    queries: Option<Meter>,
    requests: Meter,
}

impl Meters {
    pub(crate) fn new(rates: &Rates) -> Self {
        let calls = rates
            .host_calls_per_second
            .unwrap_or(DEFAULT_CALLS_PER_SECOND);
        let service = || Meter::new(calls, Quota::per_second);
        Self {
            db: service(),
            cache: service(),
            log: service(),
            config: service(),
            http: service(),
            plugin: service(),
            other: service(),
            requests: Meter::new(
                rates
                    .http_requests_per_minute
                    .unwrap_or(DEFAULT_REQUESTS_PER_MINUTE),
                Quota::per_minute,
            ),
            queries: rates
                .queries_per_minute
                .map(|rate| Meter::new(rate, Quota::per_minute)),
        }
    }

    /// Takes what one call of this service costs.
    pub(crate) fn draw(&self, service: &'static str) -> Result<(), HostError> {
        let meter = match service {
            "db" => &self.db,
            "cache" => &self.cache,
            "log" => &self.log,
            "http" => &self.http,
            "plugin" => &self.plugin,
            "config" => &self.config,
            _ => &self.other,
        };
        let limited = |retry_after| HostError::RateLimited {
            service,
            retry_after,
        };
        meter.draw().map_err(limited)?;
        match (service, &self.queries) {
            ("db", Some(queries)) => queries.draw().map_err(limited),
            ("http", _) => self.draw_request(),
            _ => Ok(()),
        }
    }

    /// Takes what one HTTP request costs that is part of a call: where a redirect leads.
    pub(crate) fn draw_request(&self) -> Result<(), HostError> {
        self.requests
            .draw()
            .map_err(|retry_after| HostError::RateLimited {
                service: "http",
                retry_after,
            })
    }
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, RuntimeClock, NoOpMiddleware<Moment>>;

#[derive(Debug)]
enum Meter {
    /// A rate of zero: nothing passes.
    Closed,
    Bucket(Box<Bucket>),
}

impl Meter {
    fn new(rate: u32, quota: impl Fn(NonZeroU32) -> Quota) -> Self {
        match NonZeroU32::new(rate) {
            Some(rate) => Self::Bucket(Box::new(RateLimiter::direct_with_clock(
                quota(rate),
                RuntimeClock::start(),
            ))),
            None => Self::Closed,
        }
    }

    /// `Err` says after how long it is worth trying again; `None` is never.
    fn draw(&self) -> Result<(), Option<Duration>> {
        let Self::Bucket(bucket) = self else {
            return Err(None);
        };
        bucket
            .check()
            .map_err(|not_yet| Some(not_yet.wait_time_from(bucket.clock().now())))
    }
}

/// The runtime's clock, which tests can pause.
#[derive(Clone, Debug)]
struct RuntimeClock {
    origin: Instant,
}

impl RuntimeClock {
    fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl Clock for RuntimeClock {
    type Instant = Moment;
    fn now(&self) -> Moment {
        Moment(self.origin.elapsed())
    }
}

/// Time since the clock's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(Duration);

impl Add<Nanos> for Moment {
    type Output = Self;
    fn add(self, other: Nanos) -> Self {
        Self(self.0.saturating_add(other.into()))
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0).into()
    }
    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.checked_sub(duration.into()).unwrap_or(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_starts_full_and_fills_at_its_rate() {
        let rates = Rates {
            host_calls_per_second: Some(10),
            ..Rates::default()
        };
        let meters = Meters::new(&rates);
        assert_eq!(
            (0..100).filter(|_| meters.draw("cache").is_ok()).count(),
            10
        );
        assert_eq!(
            (0..100).filter(|_| meters.draw("db").is_ok()).count(),
            10,
            "own bucket"
        );
        let Err(HostError::RateLimited {
            service: "cache",
            retry_after: Some(after),
        }) = meters.draw("cache")
        else {
            panic!("over the rate");
        };
        assert!(after <= Duration::from_millis(100), "{after:?}");
        tokio::time::advance(after).await;
        assert!(meters.draw("cache").is_ok());
        assert!(meters.draw("cache").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn queries_have_a_rate_of_their_own_where_the_policy_states_one() {
        let rates = Rates {
            queries_per_minute: Some(6),
            ..Rates::default()
        };
        let meters = Meters::new(&rates);
        assert_eq!((0..100).filter(|_| meters.draw("db").is_ok()).count(), 6);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(meters.draw("db").is_ok());
        assert!(meters.draw("db").is_err());
        assert!(meters.draw("cache").is_ok());
    }

    #[tokio::test]
    async fn a_rate_of_zero_lets_nothing_pass() {
        let rates = Rates {
            host_calls_per_second: Some(0),
            ..Rates::default()
        };
        let refused = Meters::new(&rates).draw("cache");
        assert!(matches!(
            refused,
            Err(HostError::RateLimited {
                retry_after: None,
                ..
            })
        ));
    }
}
