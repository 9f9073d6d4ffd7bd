//! Where the gateway's and the HostAPI's decisions become records of the audit trail.

use std::sync::Arc;

use pinfold_gateway::{Actor, Audit, AuditRecord};
use pinfold_hostapi::{AuditEntry, AuditSink};

use crate::meters::Meters;
use crate::store::audit::{Entry, Trail};

/// Turns decisions into records, and counts those about calls of the host.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    pub(crate) trail: Trail,
    pub(crate) meters: Arc<Meters>,
}

impl AuditSink for Recorder {
    fn record(&self, entry: AuditEntry) {
        let AuditEntry {
            plugin,
            service,
            method,
            decision,
            permission,
            subject,
            ..
        } = entry;
        self.meters.host_call(&plugin, service, decision);
        self.trail.count(Entry {
            actor: format!("plugin:{plugin}"),
            action: format!("hostapi.{service}.{method}"),
            subject,
            decision: decision.as_str(),
            permission,
            // Not kept: equal calls of one plugin are to be folded into a count.
            request_id: None,
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
