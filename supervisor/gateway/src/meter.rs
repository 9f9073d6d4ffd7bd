//! What is counted of a plugin's calls: how they ended and how long they took. Atomics alone, for
//! this is on the way of each request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::plugin::CallError;

/// How a call ended: answered, given up by its caller, or the code of its [`CallError`].
pub const OUTCOMES: [&str; 13] = [
    "ok",
    "cancelled",
    "call.plugin",
    "call.bad_request",
    "call.deadline",
    "call.gone",
    "call.not_ready",
    "call.disabled",
    "call.overloaded",
    "call.too_large",
    "call.unsupported",
    "call.protocol",
    "call.host",
];
const OK: usize = 0;
const CANCELLED: usize = 1;

/// Why the gateway sent a request to no plugin: too many under way to this one, or to all of them
/// together, or too many in a second.
pub const REFUSALS: [&str; 3] = ["in_flight", "busy", "rate"];

/// Upper bounds of the histogram of latencies, in microseconds; the last bucket has none. A call
/// over a pipe takes a tenth of a millisecond, the usual time-out is 30 s.
const BOUNDS_US: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    2_500_000, 10_000_000, 30_000_000,
];

/// Counters of one plugin, over all its generations.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    outcomes: [AtomicU64; OUTCOMES.len()],
    refusals: [AtomicU64; REFUSALS.len()],
    /// Calls by latency, each in one bucket.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

/// What a plugin's calls came to, at one moment. Numbers only grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallCounts {
    /// Calls by how they ended, in the order of [`OUTCOMES`].
    pub outcomes: [u64; OUTCOMES.len()],
    /// Requests that were refused, in the order of [`REFUSALS`].
    pub refusals: [u64; REFUSALS.len()],
    /// Upper bound and number of calls in each bucket of latency; the last has no bound. Calls that
    /// their caller gave up are not among them.
    pub buckets: Vec<(Option<Duration>, u64)>,
    /// Time that those calls took together.
    pub sum: Duration,
}

impl CallCounts {
    /// Calls that were made of the plugin, however they ended.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// Those of them that gave no result; not those that their caller gave up.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.outcomes.iter().skip(CANCELLED + 1).sum()
    }
}

impl Counts {
    pub(crate) fn ended(&self, error: Option<&CallError>, took: Duration) {
        count(&self.outcomes, error.map_or(OK, outcome));
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // A bound belongs to its bucket, as Prometheus has it.
        count(
            &self.buckets,
            BOUNDS_US.partition_point(|bound| *bound < micros),
        );
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(crate) fn cancelled(&self) {
        count(&self.outcomes, CANCELLED);
    }

    pub(crate) fn refused(&self, refusal: usize) {
        count(&self.refusals, refusal);
    }

    pub(crate) fn read(&self) -> CallCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let bounds = BOUNDS_US.map(|micros| Some(Duration::from_micros(micros)));
        CallCounts {
            outcomes: self.outcomes.each_ref().map(read),
            refusals: self.refusals.each_ref().map(read),
            buckets: bounds
                .into_iter()
                .chain([None])
                .zip(self.buckets.iter().map(read))
                .collect(),
            sum: Duration::from_nanos(read(&self.sum_ns)),
        }
    }
}

fn count(counters: &[AtomicU64], at: usize) {
    if let Some(counter) = counters.get(at) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Place of an error among [`OUTCOMES`].
const fn outcome(error: &CallError) -> usize {
    match error {
        CallError::Plugin { .. } => 2,
        CallError::BadRequest { .. } => 3,
        CallError::Deadline => 4,
        CallError::Gone { .. } => 5,
        CallError::NotReady { .. } => 6,
        CallError::Disabled => 7,
        CallError::Overloaded => 8,
        CallError::TooLarge { .. } => 9,
        CallError::Unsupported { .. } => 10,
        CallError::Protocol { .. } => 11,
        CallError::Host { .. } => 12,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_is_counted_under_its_code() {
        let text = String::new;
        let errors = [
            CallError::Plugin { text: text() },
            CallError::BadRequest { text: text() },
            CallError::Deadline,
            CallError::Gone { cause: text() },
            CallError::NotReady { state: text() },
            CallError::Disabled,
            CallError::Overloaded,
            CallError::TooLarge {
                what: "reply",
                bytes: 2,
                limit_bytes: 1,
            },
            CallError::Unsupported { what: "http" },
            CallError::Protocol { text: text() },
            CallError::Host { text: text() },
        ];
        let counts = Counts::default();
        for error in &errors {
            assert_eq!(OUTCOMES[outcome(error)], error.code());
            counts.ended(Some(error), Duration::ZERO);
        }
        counts.ended(None, Duration::ZERO);
        counts.cancelled();
        let read = counts.read();
        assert_eq!(read.outcomes, [1; OUTCOMES.len()]);
        assert_eq!((read.calls(), read.failures()), (13, 11));
    }

    #[test]
    fn a_latency_is_in_the_first_bucket_that_holds_it() {
        let counts = Counts::default();
        for micros in [0, 100, 101, 30_000_000, 30_000_001] {
            counts.ended(None, Duration::from_micros(micros));
        }
        let read = counts.read();
        let filled: Vec<_> = read.buckets.iter().filter(|(_, n)| *n > 0).collect();
        let bound = |micros| Some(Duration::from_micros(micros));
        assert_eq!(
            filled,
            [
                &(bound(100), 2),
                &(bound(250), 1),
                &(bound(30_000_000), 1),
                &(None, 1)
            ]
        );
        assert_eq!(read.sum, Duration::from_micros(60_000_202));
    }
}
