//! What happened between two looks.

use pinfold_gateway::admin::dto::{LatencyBucket, PluginUsage, UsageView};
use pinfold_policy::PluginId;
use serde::Serialize;
use tokio::time::Instant;

/// What happened between two looks, for each plugin by name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Rates {
    /// Time between the looks.
    pub(super) seconds: f64,
    pub(super) plugins: Vec<PluginRates>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct PluginRates {
    pub(super) id: PluginId,
    pub(super) state: String,
    pub(super) calls_per_second: f64,
    /// Half of the calls took no longer; within the bucket it is interpolated.
    pub(super) p50_seconds: Option<f64>,
    /// 99 of 100 calls took no longer.
    pub(super) p99_seconds: Option<f64>,
    pub(super) failures_per_second: f64,
    pub(super) refused_per_second: f64,
    pub(super) in_flight: u64,
    pub(super) memory_bytes: Option<u64>,
    /// Of one processor.
    pub(super) cpu_percent: Option<f64>,
    pub(super) host_calls_per_second: f64,
    pub(super) restarts: u64,
}

impl Rates {
    pub(super) fn between(before: &(Instant, UsageView), after: &(Instant, UsageView)) -> Self {
        let seconds = after.0.saturating_duration_since(before.0).as_secs_f64();
        // The launcher is asked less often, and by its own clock: what it says is of another time.
        let counted = after.1.resources_time.zip(before.1.resources_time);
        let counted = counted.map_or(0.0, |(after, before)| {
            (after - before).as_seconds_f64().max(0.0)
        });
        let plugins = after.1.plugins.iter().map(|plugin| {
            let known = before.1.plugins.iter().find(|other| other.id == plugin.id);
            PluginRates::between(known.unwrap_or(plugin), plugin, seconds, counted)
        });
        Self {
            seconds,
            plugins: plugins.collect(),
        }
    }

    /// With the processor time of the looks before where the launcher was not asked again.
    pub(super) fn keeping(mut self, before: &Self) -> Self {
        for plugin in &mut self.plugins {
            if plugin.cpu_percent.is_none() && plugin.memory_bytes.is_some() {
                let known = before.plugins.iter().find(|other| other.id == plugin.id);
                plugin.cpu_percent = known.and_then(|known| known.cpu_percent);
            }
        }
        self
    }
}

impl PluginRates {
    fn between(before: &PluginUsage, after: &PluginUsage, seconds: f64, counted: f64) -> Self {
        // A plugin that was removed and put in again counts anew.
        let grown = |before: u64, after: u64| after.saturating_sub(before);
        let rate = |before: u64, after: u64| per(as_float(grown(before, after)), seconds);
        let buckets: Vec<LatencyBucket> = after
            .latency
            .iter()
            .enumerate()
            .map(|(at, bucket)| LatencyBucket {
                calls: grown(before.latency.get(at).map_or(0, |b| b.calls), bucket.calls),
                ..*bucket
            })
            .collect();
        let cpu = after.cpu_seconds.zip(before.cpu_seconds);
        let cpu = cpu.filter(|_| counted > 0.0);
        Self {
            id: after.id.clone(),
            state: after.state.clone(),
            calls_per_second: rate(before.calls, after.calls),
            p50_seconds: quantile(&buckets, 0.5),
            p99_seconds: quantile(&buckets, 0.99),
            failures_per_second: rate(before.failures, after.failures),
            refused_per_second: rate(before.refused, after.refused),
            in_flight: after.in_flight,
            memory_bytes: after.memory_bytes,
            cpu_percent: cpu.map(|(after, before)| 100.0 * per((after - before).max(0.0), counted)),
            host_calls_per_second: rate(before.host_calls, after.host_calls),
            restarts: after.restarts,
        }
    }
}

fn per(count: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

/// Exact up to 2^32, which nothing grows by between two looks.
fn as_float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The time that this part of the calls did not exceed, interpolated within its bucket as
/// Prometheus does; for the last bucket its lower bound. `None` where there are no calls.
fn quantile(buckets: &[LatencyBucket], part: f64) -> Option<f64> {
    let all = as_float(buckets.iter().map(|bucket| bucket.calls).sum());
    if all == 0.0 {
        return None;
    }
    let rank = part * all;
    let (mut below, mut lower) = (0.0, 0.0);
    for bucket in buckets {
        let calls = as_float(bucket.calls);
        let Some(upper) = bucket.up_to_seconds else {
            break;
        };
        if calls > 0.0 && below + calls >= rank {
            return Some(lower + (upper - lower) * (rank - below) / calls);
        }
        below += calls;
        lower = upper;
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{DateTime, TimeDelta};

    use super::*;

    fn buckets(calls: [u64; 3]) -> Vec<LatencyBucket> {
        let bounds = [Some(0.1), Some(0.2), None];
        let both = bounds.into_iter().zip(calls);
        both.map(|(up_to_seconds, calls)| LatencyBucket {
            up_to_seconds,
            calls,
        })
        .collect()
    }

    fn usage(calls: [u64; 3], cpu: f64) -> PluginUsage {
        PluginUsage {
            id: "hello".parse().unwrap(),
            state: "ready".into(),
            restarts: 0,
            in_flight: 1,
            calls: calls.iter().sum(),
            failures: 0,
            refused: 0,
            latency: buckets(calls),
            host_calls: 2 * calls.iter().sum::<u64>(),
            host_calls_refused: 0,
            memory_bytes: Some(1),
            memory_limit_bytes: None,
            cpu_seconds: Some(cpu),
            tasks: None,
        }
    }

    #[test]
    fn rates_are_of_the_time_between_and_of_what_came_meanwhile() {
        let start = Instant::now();
        let time = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let look = |after: u64, asked: i64, plugin| {
            let view = UsageView {
                time,
                resources_time: Some(time + TimeDelta::milliseconds(asked)),
                plugins: vec![plugin],
            };
            (start + Duration::from_secs(after), view)
        };
        let first = look(0, 0, usage([100, 5, 0], 1.0));
        let second = look(2, 1000, usage([110, 5, 10], 1.5));
        let rates = Rates::between(&first, &second);
        let plugin = &rates.plugins[0];
        assert_eq!(
            (plugin.calls_per_second, plugin.host_calls_per_second),
            (10.0, 20.0)
        );
        assert_eq!(plugin.cpu_percent, Some(50.0));
        assert_eq!(
            (plugin.p50_seconds, plugin.p99_seconds),
            (Some(0.1), Some(0.2))
        );
        // The launcher was not asked in between: what was known of it goes on.
        let third = look(3, 1000, usage([110, 5, 10], 1.5));
        let next = Rates::between(&second, &third);
        assert_eq!(next.plugins[0].cpu_percent, None);
        assert_eq!(next.plugins[0].p50_seconds, None);
        assert_eq!(next.keeping(&rates).plugins[0].cpu_percent, Some(50.0));
        // Counters that begin anew are no negative rates.
        let again = Rates::between(&second, &look(4, 2000, usage([1, 0, 0], 0.0)));
        assert_eq!(again.plugins[0].calls_per_second, 0.0);
        assert_eq!(again.plugins[0].cpu_percent, Some(0.0));
    }

    #[test]
    fn quantiles_are_interpolated_within_their_bucket() {
        assert_eq!(quantile(&buckets([10, 10, 0]), 0.5), Some(0.1));
        assert_eq!(
            quantile(&buckets([0, 10, 0]), 0.5),
            Some(0.15000000000000002)
        );
        assert_eq!(quantile(&buckets([0, 0, 3]), 0.5), Some(0.2));
        assert_eq!(quantile(&buckets([0, 0, 0]), 0.5), None);
        assert_eq!(quantile(&[], 0.5), None);
    }
}
