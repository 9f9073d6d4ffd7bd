//! Callers, and how long each of their calls took.

use std::time::{Duration, Instant};

use anyhow::ensure;
use pinfold_rpc::netrpc::Client;
use tokio::task::JoinSet;

use super::super::ours::echo;
use super::super::section::Values;

/// More calls a second than any host makes here: room is made for them beforehand.
const MOST_CALLS_PER_SECOND: f64 = 300_000.0;

/// Callers of one plugin.
pub(super) struct Load {
    client: Client,
    arguments: Vec<u8>,
    /// For each caller its times, nanoseconds. 32 bits hold four seconds, which is past every
    /// deadline of interest.
    times: Vec<Vec<u32>>,
}

impl Load {
    pub(super) fn new(client: Client, arguments: Vec<u8>, callers: usize, seconds: f64) -> Self {
        Self {
            client,
            arguments,
            times: (0..callers).map(|_| room(callers, seconds)).collect(),
        }
    }

    /// Calls from all callers for so long, and answers how long it was. What was noted before is
    /// forgotten.
    pub(super) async fn run(&mut self, time: Duration) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        let end = begin + time;
        let mut callers = JoinSet::new();
        for mut times in self.times.drain(..) {
            let (client, arguments) = (self.client.clone(), self.arguments.clone());
            callers.spawn(async move {
                times.clear();
                let mut now = Instant::now();
                while now < end {
                    echo(&client, &arguments).await?;
                    let after = Instant::now();
                    times.push(nanoseconds(after - now));
                    now = after;
                }
                anyhow::Ok(times)
            });
        }
        while let Some(times) = callers.join_next().await {
            self.times.push(times??);
        }
        Ok(begin.elapsed())
    }

    pub(super) fn figures(&self, lasted: Duration) -> anyhow::Result<Values> {
        figures(self.times.concat(), lasted)
    }
}

/// Room for one caller's times, each page of it touched.
pub(super) fn room(callers: usize, seconds: f64) -> Vec<u32> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a number of calls, far from any bound"
    )]
    let calls = (seconds.max(1.0) * MOST_CALLS_PER_SECOND / callers as f64) as usize;
    let mut times = vec![1; calls];
    times.clear();
    times
}

pub(in super::super) fn nanoseconds(time: Duration) -> u32 {
    u32::try_from(time.as_nanos()).unwrap_or(u32::MAX)
}

/// The figures of call times in nanoseconds.
pub(super) fn figures(mut times: Vec<u32>, lasted: Duration) -> anyhow::Result<Values> {
    ensure!(!times.is_empty(), "no call ended");
    times.sort_unstable();
    let at = |hundredths: usize| {
        let time = times.get((times.len() - 1) * hundredths / 100);
        f64::from(time.copied().unwrap_or_default()) / 1000.0
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of calls are far below 2^52"
    )]
    let calls = times.len() as f64;
    Ok(Values::from([
        ("calls".to_owned(), calls),
        ("calls_per_second".to_owned(), calls / lasted.as_secs_f64()),
        ("p50_us".to_owned(), at(50)),
        ("p99_us".to_owned(), at(99)),
    ]))
}
