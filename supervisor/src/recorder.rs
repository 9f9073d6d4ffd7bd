//! Where the gateway's and the HostAPI's decisions become records of the audit trail.

use std::sync::Arc;

use pinfold_gateway::{Actor, Audit, AuditRecord, Decision};
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
        let AuditRecord {
            actor,
            method,
            route,
            plugin,
            decision,
            ..
        } = record;
        let (decision, permission) = match decision {
            Decision::Allow => ("allow", None),
            Decision::Deny { code } => ("deny", Some(code.to_owned())),
        };
        let plugin = plugin.map_or_else(String::new, |(plugin, _)| format!(" ({plugin})"));
        self.trail.record(Entry {
            actor: actor_text(&actor),
            action: "http.request".into(),
            subject: format!(
                "{method} {}{plugin}",
                route.as_deref().unwrap_or("no route")
            ),
            decision,
            permission,
            request_id: None,
        });
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
