//! What plugins' jails use, as the launcher reads it from their groups.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use pinfold_policy::{InstanceId, PluginId};
use pinfold_sandbox::protocol::{Reply, Request, Stats};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::launcher::Launcher;
use crate::state::Snapshot;

/// For how long an answer of the launcher is used again. It has one thread, and who scrapes too
/// often, or with many, is not to keep it from starting plugins.
pub(super) const MAX_AGE: Duration = Duration::from_secs(1);
/// Questions to the launcher at once.
const AT_ONCE: usize = 16;
/// How long the launcher may take for all of them; what is not known by then is left out.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// What one plugin uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourceUsage {
    /// Of the instance that runs; `None` where none does, or its group does not tell.
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) memory_limit_bytes: Option<u64>,
    pub(crate) tasks: Option<u64>,
    /// Of all instances so far, as far as it was seen; `None` where it never was.
    pub(crate) cpu: Option<Duration>,
}

/// What was last read of each plugin.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    /// Held while the launcher is asked: whoever comes meanwhile waits and takes that answer.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    read: Option<Instant>,
    /// The same for others to see; it is set by people.
    time: Option<DateTime<Utc>>,
    by_plugin: HashMap<PluginId, Reading>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    usage: ResourceUsage,
    /// The instance that was last seen, and what it had used by then.
    latest: Option<(InstanceId, Duration)>,
    /// What its predecessors had used when they were last seen.
    before: Duration,
}

impl Resources {
    /// What each of these plugins uses, and when that was, at most [`MAX_AGE`] ago.
    pub(crate) async fn read(
        &self,
        launcher: &Launcher,
        plugins: &[Arc<Snapshot>],
    ) -> (HashMap<PluginId, ResourceUsage>, Option<DateTime<Utc>>) {
        let mut known = self.known.lock().await;
        if known.read.is_none_or(|read| read.elapsed() >= MAX_AGE) {
            let stats = ask(launcher, plugins).await;
            known.take(plugins, &stats);
            known.read = Some(Instant::now());
            known.time = Some(Utc::now());
        }
        let usage = known.by_plugin.iter();
        let usage = usage.map(|(plugin, reading)| (plugin.clone(), reading.usage));
        (usage.collect(), known.time)
    }
}

impl Known {
    fn take(&mut self, plugins: &[Arc<Snapshot>], stats: &HashMap<InstanceId, Stats>) {
        self.by_plugin
            .retain(|plugin, _| plugins.iter().any(|known| known.plugin == *plugin));
        for snapshot in plugins {
            let reading = self.by_plugin.entry(snapshot.plugin.clone()).or_default();
            let running = snapshot.running.as_ref().map(|running| running.instance);
            let seen = running.and_then(|instance| Some((instance, *stats.get(&instance)?)));
            reading.take(seen);
        }
    }
}

impl Reading {
    fn take(&mut self, seen: Option<(InstanceId, Stats)>) {
        let stats = seen.map(|(_, stats)| stats);
        self.usage.memory_bytes = stats.and_then(|stats| stats.memory_current_bytes);
        self.usage.memory_limit_bytes = stats.and_then(|stats| stats.memory_limit_bytes);
        self.usage.tasks = stats.and_then(|stats| stats.tasks_current);
        let Some((instance, used_us)) =
            seen.and_then(|(instance, stats)| Some((instance, stats.cpu_usage_us?)))
        else {
            return;
        };
        let used = Duration::from_micros(used_us);
        if let Some((before, its)) = self.latest
            && before != instance
        {
            self.before += its;
        }
        self.latest = Some((instance, used));
        self.usage.cpu = Some(self.before + used);
    }
}

async fn ask(launcher: &Launcher, plugins: &[Arc<Snapshot>]) -> HashMap<InstanceId, Stats> {
    let instances: Vec<InstanceId> = plugins
        .iter()
        .filter_map(|snapshot| Some(snapshot.running.as_ref()?.instance))
        .collect();
    let answers = stream::iter(instances)
        .map(|instance| async move {
            // One that has just ended has no group any more.
            match launcher.ask(Request::Stats { instance }).await {
                Ok(Reply::Stats(stats)) => Some((instance, stats)),
                _ => None,
            }
        })
        .buffer_unordered(AT_ONCE);
    let deadline = tokio::time::sleep(ANSWER_LIMIT);
    answers
        .take_until(deadline)
        .filter_map(std::future::ready)
        .collect()
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(cpu_us: u64) -> Stats {
        Stats {
            memory_current_bytes: Some(4096),
            memory_peak_bytes: None,
            memory_limit_bytes: Some(8192),
            cpu_usage_us: Some(cpu_us),
            cpu_throttled_us: None,
            tasks_current: Some(3),
            tasks_refused: None,
            oom_kills: None,
        }
    }

    #[test]
    fn processor_time_grows_over_instances_and_memory_is_of_the_one_that_runs() {
        let mut reading = Reading::default();
        let mut cpu = |seen: Option<(u32, u64)>| {
            reading.take(seen.map(|(instance, us)| (InstanceId(instance.into()), stats(us))));
            (
                reading.usage.cpu.map(|cpu| cpu.as_micros()),
                reading.usage.memory_bytes,
            )
        };
        assert_eq!(cpu(None), (None, None));
        assert_eq!(cpu(Some((1, 500))), (Some(500), Some(4096)));
        assert_eq!(cpu(Some((1, 700))), (Some(700), Some(4096)));
        assert_eq!(cpu(None), (Some(700), None));
        assert_eq!(cpu(Some((2, 10))), (Some(710), Some(4096)));
        assert_eq!(cpu(Some((2, 20))), (Some(720), Some(4096)));
    }
}
