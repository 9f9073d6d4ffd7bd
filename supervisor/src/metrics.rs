//! What the daemon tells of itself in numbers: the same sample as metrics for Prometheus and as
//! the administration API's usage.

mod exposition;
mod process;
mod resources;

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pinfold_gateway::CallCounts;
use pinfold_gateway::admin::dto::{LatencyBucket, PluginUsage, UsageView};
use pinfold_hostapi::Decision;
use pinfold_sandbox::posture::Posture;

use crate::catalogue::Catalogue;
use crate::meters::{DECISIONS, HostCounts};
use crate::state::Snapshot;

pub(crate) use exposition::expose;
pub(crate) use process::ProcessUsage;
pub(crate) use resources::{ResourceUsage, Resources};

/// Everything that is counted, at one moment.
#[derive(Debug)]
pub(crate) struct Sample {
    /// When the launcher was asked for what jails use.
    pub(crate) resources_time: Option<DateTime<Utc>>,
    /// Each plugin that is there, by name.
    pub(crate) plugins: Vec<PluginSample>,
    /// Each control of the jail by the defaults of policies, and whether it is in force; none where that
    /// is not known yet.
    pub(crate) controls: Vec<(&'static str, bool)>,
    /// The daemon's own processes, by name; one that cannot be looked at is not among them.
    pub(crate) processes: Vec<(&'static str, ProcessUsage)>,
}

/// What is counted of one plugin.
pub(crate) struct PluginSample {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) calls: CallCounts,
    pub(crate) in_flight: usize,
    pub(crate) host: HostCounts,
    pub(crate) resources: ResourceUsage,
    pub(crate) dropped_records: u64,
}

impl fmt::Debug for PluginSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginSample")
            .field("plugin", &self.snapshot.plugin)
            .finish_non_exhaustive()
    }
}

impl Sample {
    /// What the administration API shows of it.
    pub(crate) fn view(&self) -> UsageView {
        UsageView {
            time: Utc::now(),
            resources_time: self.resources_time,
            plugins: self.plugins.iter().map(PluginSample::view).collect(),
        }
    }
}

impl PluginSample {
    fn view(&self) -> PluginUsage {
        let buckets = self.calls.buckets.iter();
        let refused = |decision: &Decision| matches!(decision, Decision::Deny | Decision::Limit);
        let host_refused = self.host.iter().flat_map(|row| {
            let counts = DECISIONS.iter().zip(row);
            counts.filter(|(decision, _)| refused(decision))
        });
        PluginUsage {
            id: self.snapshot.plugin.clone(),
            state: self.snapshot.state.as_str().into(),
            restarts: self.snapshot.restarts,
            in_flight: u64::try_from(self.in_flight).unwrap_or(u64::MAX),
            calls: self.calls.calls(),
            failures: self.calls.failures(),
            refused: self.calls.refusals.iter().sum(),
            latency: buckets
                .map(|(bound, calls)| LatencyBucket {
                    up_to_seconds: bound.map(|bound| bound.as_secs_f64()),
                    calls: *calls,
                })
                .collect(),
            host_calls: self.host.as_flattened().iter().sum(),
            host_calls_refused: host_refused.map(|(_, count)| count).sum(),
            memory_bytes: self.resources.memory_bytes,
            memory_limit_bytes: self.resources.memory_limit_bytes,
            cpu_seconds: self.resources.cpu.map(|cpu| cpu.as_secs_f64()),
            tasks: self.resources.tasks,
        }
    }
}

/// Takes a sample. What the launcher counts may be a second old.
pub(crate) async fn sample(
    catalogue: &Catalogue,
    resources: &Resources,
    launcher_pid: Option<u32>,
    posture: Option<&Posture>,
) -> Sample {
    let snapshots = catalogue.snapshots();
    let (resources, resources_time) = resources.read(catalogue.launcher(), &snapshots).await;
    // One that was taken away meanwhile is left out.
    let plugins = snapshots.into_iter().filter_map(|snapshot| {
        let meter = catalogue.meters().get(&snapshot.plugin)?;
        let handle = catalogue.handle(&snapshot.plugin)?;
        Some(PluginSample {
            calls: meter.calls.counts(),
            in_flight: meter.calls.in_flight(),
            host: meter.host_calls(),
            resources: resources.get(&snapshot.plugin).copied().unwrap_or_default(),
            dropped_records: handle.log().dropped_records(),
            snapshot,
        })
    });
    let processes = [
        ("pinfoldd", Some(std::process::id())),
        ("pinfold-launcher", launcher_pid),
    ];
    let controls = posture
        .iter()
        .flat_map(|posture| &posture.controls)
        .map(|control| (control.id.id(), control.state.satisfies()));
    Sample {
        resources_time,
        controls: controls.collect(),
        plugins: plugins.collect(),
        processes: processes
            .into_iter()
            .filter_map(|(name, pid)| Some((name, ProcessUsage::read(pid?)?)))
            .collect(),
    }
}
