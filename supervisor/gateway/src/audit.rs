//! Step 6: who asked for what, and whether it was let through. One record per decision.

use std::sync::Arc;

use http::Method;
use pinfold_policy::{Generation, PluginId, User};

use crate::access_log::AccessLog;
use crate::refusal::Refusal;
use crate::request_id::RequestId;
use crate::route::RoutePattern;

/// Where audit records go.
///
/// [`record`](Audit::record) is called on the way of each request and must not block; it queues.
/// Administrative actions are recorded by [`crate::admin::Control`], which commits them before it
/// answers.
pub trait Audit: Send + Sync + 'static {
    /// Takes one record.
    fn record(&self, record: AuditRecord);
}

/// One decision of the gateway. All of it is shared or static: nothing is copied for a record.
#[derive(Clone, Debug)]
pub struct AuditRecord {
    /// Id of the request.
    pub request_id: Arc<str>,
    /// Who asked.
    pub actor: Actor,
    /// HTTP method.
    pub method: &'static str,
    /// Pattern of the route, never the raw path; absent where none matched.
    pub route: Option<RoutePattern>,
    /// The plugin that the route belongs to.
    pub plugin: Option<(PluginId, Generation)>,
    /// What was decided.
    pub decision: Decision,
}

/// Who asked for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Nobody whom the gateway knows.
    Anonymous,
    /// The user behind an accepted token.
    User(Arc<User>),
    /// A process on the admin socket, as the kernel names it. The socket's file mode has let it
    /// in; this is for the record alone.
    Process {
        /// User id.
        uid: u32,
        /// Process id, where the kernel tells it.
        pid: Option<i32>,
    },
}

/// What was decided about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let through.
    Allow,
    /// Refused.
    Deny {
        /// The stable code of the reason, such as `gateway.admin_required`.
        code: &'static str,
    },
}

/// Records what the checks decided. A request that never came to a decision about its caller or a
/// plugin (no such path, malformed, a health check) leaves a line in the access log alone.
pub(crate) fn decided(
    audit: &dyn Audit,
    id: &RequestId,
    method: &Method,
    log: &AccessLog,
    outcome: Result<(), &Refusal>,
) {
    let decision = match outcome {
        Ok(()) if log.is_health_check() => return,
        Ok(()) => Decision::Allow,
        Err(refusal) if refusal.is_decision() => Decision::Deny {
            code: refusal.code(),
        },
        Err(_) => return,
    };
    audit.record(AuditRecord {
        request_id: id.text(),
        actor: log.actor.clone(),
        method: known_method(method),
        route: log.route.clone(),
        plugin: log.plugin.clone(),
        decision,
    });
}

/// The method as it stands in records and logs. One that HTTP does not define is whatever a client
/// made up, thousands of bytes long and another each time.
pub(crate) fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_that_clients_make_up_are_one() {
        assert_eq!(known_method(&Method::PATCH), "PATCH");
        let long = "X".repeat(5_000);
        for made_up in ["PROPFIND", "GETT", &long] {
            assert_eq!(known_method(&made_up.parse().unwrap()), "other");
        }
    }
}
