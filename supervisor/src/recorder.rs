//! Where the gateway's and the HostAPI's decisions become records of the audit trail.

use std::sync::Arc;

use pinfold_gateway::{Actor, Audit, AuditRecord};
use pinfold_hostapi::{AuditEntry, AuditSink};
use pinfold_policy::PluginId;

use crate::meters::{Meters, PluginMeter};
use crate::store::audit::{HostCall, HostCalls, Trail};

/// Turns decisions into records, and counts those about calls of the host.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    pub(crate) trail: Trail,
    pub(crate) meters: Arc<Meters>,
}

impl AuditSink for Recorder {
    fn of(self: Arc<Self>, plugin: &PluginId) -> Arc<dyn AuditSink> {
        Arc::new(OfPlugin {
            calls: self.trail.of_plugin(plugin),
            meter: self.meters.get(plugin),
        })
    }

    fn record(&self, entry: AuditEntry<'_>) {
        Arc::new(self.clone()).of(entry.plugin).record(entry);
    }
}

/// The same for one plugin: what its calls need is at hand, and no other plugin's calls wait for it.
#[derive(Debug)]
struct OfPlugin {
    calls: Arc<HostCalls>,
    /// Absent where the plugin was taken away meanwhile: then nothing is counted.
    meter: Option<Arc<PluginMeter>>,
}

impl AuditSink for OfPlugin {
    fn of(self: Arc<Self>, _: &PluginId) -> Arc<dyn AuditSink> {
        self
    }

    fn record(&self, entry: AuditEntry<'_>) {
        // The request is not kept: equal calls of one plugin are to be folded into a count.
        let AuditEntry {
            service,
            method,
            decision,
            permission,
            subject,
            ..
        } = entry;
        if let Some(meter) = &self.meter {
            meter.count_host(service, decision);
        }
        self.calls.record(&HostCall {
            service,
            method,
            decision: decision.as_str(),
            subject,
            permission,
        });
    }
}

impl Audit for Recorder {
    fn record(&self, record: AuditRecord) {
        self.trail.request(record);
    }
}

/// An actor as the trail names it.
pub(crate) fn actor_text(actor: &Actor) -> String {
    match actor {
        Actor::Anonymous => "anonymous".into(),
        Actor::User(user) => format!("user:{}", user.id),
        Actor::Process {
            uid,
            pid: Some(pid),
        } => format!("uid:{uid} pid:{pid}"),
        Actor::Process { uid, pid: None } => format!("uid:{uid}"),
    }
}
