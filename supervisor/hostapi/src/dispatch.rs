//! The dispatcher: every call of every plugin, in every dialect, passes here.
//!
//! Identify by connection (the [`Caller`] is bound to it), meter, authorise, run with a deadline,
//! audit. Whatever becomes of a call, it is metered before anything of it is read or compared: what
//! reading and refusing cost cannot be had without end. A statement's tables are known only once it is
//! parsed, and parsing costs: so the service is authorised first, then the statement.

mod proxied;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pinfold_policy::{CallContext, Effective, Generation, PluginId, Rates};

use crate::allowance::Allowances;
use crate::audit::{AuditEntry, AuditSink, Decision, recordable, recordable_chain};
use crate::authorize;
use crate::cache::{self, Cache};
use crate::call::{HostCall, HostReply};
use crate::config;
use crate::db::{Databases, STATEMENT_TIME_LIMIT, Statement};
use crate::http::HttpClient;
use crate::log::{LogSink, bounded_fields, bounded_message};
use crate::plugin::{self, PluginCalls};
use crate::{Caller, HostError};

/// What calls are carried out with.
pub struct Services {
    /// Databases of the application, by name.
    pub databases: Databases,
    /// The plugins' caches.
    pub cache: Cache,
    /// Values that `config_get` gives out, each only to a plugin that may read its key.
    pub config: BTreeMap<String, String>,
    /// Where plugins' log lines go.
    pub logs: Arc<dyn LogSink>,
    /// How plugins reach servers elsewhere.
    pub http: HttpClient,
    /// How plugins reach each other.
    pub plugins: Arc<dyn PluginCalls>,
}

/// The dispatcher with its services. Shared behind an `Arc`; calls of one plugin run concurrently,
/// and none holds a lock while it waits.
pub struct HostApi {
    services: Services,
    audit: Arc<dyn AuditSink>,
    allowances: Allowances,
}

impl HostApi {
    /// The dispatcher over `services`; each call's decision goes to `audit`.
    #[must_use]
    pub fn new(services: Services, audit: Arc<dyn AuditSink>) -> Self {
        Self {
            services,
            audit,
            allowances: Allowances::default(),
        }
    }

    /// The identity of one instance. Its allowance is the plugin's, whichever instance it is, until
    /// its rates change or [`forget`](Self::forget) drops it.
    #[must_use]
    pub fn caller(
        &self,
        plugin: PluginId,
        generation: Generation,
        permissions: Arc<Effective>,
        rates: &Rates,
    ) -> Caller {
        let allowance = self.allowances.of(&plugin, rates);
        Caller {
            plugin,
            generation,
            permissions,
            allowance,
        }
    }

    /// Carries out one call of `caller`, made while it served `context`. For whoever has it at hand, as tests do: the
    /// daemon's dialect asks by [`call_unread`](Self::call_unread).
    ///
    /// # Errors
    /// [`HostError`]; a call that was refused has had no effect. After [`HostError::Deadline`] a
    /// statement was interrupted and rolled back, or had just ended.
    ///
    /// # Cancellation
    /// Dropping the future interrupts a running statement, and is recorded as such.
    pub async fn call(
        &self,
        caller: &Caller,
        call: HostCall,
        context: &CallContext,
    ) -> Result<HostReply, HostError> {
        let named = (call.service(), call.method());
        self.call_unread(caller, named, move || Ok(call), context)
            .await
    }

    /// The same of a call whose arguments are yet to be read, of which the dialect knows what
    /// [`HostCall::service`] and [`HostCall::method`] will say: over its service's rate it is not read. Any
    /// other service than theirs is one that no host has, whose calls `read` refuses.
    ///
    /// # Errors
    /// As [`call`](Self::call), and [`HostError::Unread`] with what `read` says.
    ///
    /// # Cancellation
    /// As [`call`](Self::call).
    pub async fn call_unread(
        &self,
        caller: &Caller,
        (service, method): (&'static str, &'static str),
        read: impl FnOnce() -> Result<HostCall, String>,
        context: &CallContext,
    ) -> Result<HostReply, HostError> {
        let mut record = Record::start(self, caller, (service, method), &context.request_id);
        let metered = caller.allowance.meters.draw(service);
        let call = metered.and_then(|()| read().map_err(|text| HostError::Unread { text }));
        let result = match call {
            Ok(call) => {
                debug_assert_eq!((service, method), (call.service(), call.method()));
                self.decide_and_run(caller, call, context, &mut record.subject)
                    .await
            }
            Err(error) => Err(error),
        };
        record.outcome = Some(Outcome::of(&result));
        result
    }

    /// Drops what is held for a plugin that is no longer there: its cache, its share of the
    /// databases and what it has used of its rates.
    pub async fn forget(&self, plugin: &PluginId) {
        self.allowances.forget(plugin);
        self.services.cache.forget(plugin);
        self.services.databases.forget(plugin);
    }

    /// Ends the connections to the databases, writing back what they hold; calls made after it fail.
    pub async fn close(&self) {
        self.services.databases.close().await;
    }

    async fn decide_and_run(
        &self,
        caller: &Caller,
        call: HostCall,
        context: &CallContext,
        subject: &mut String,
    ) -> Result<HostReply, HostError> {
        match &call {
            HostCall::CacheGet { key }
            | HostCall::CacheSet { key, .. }
            | HostCall::CacheDelete { key }
            | HostCall::ConfigGet { key } => subject.clone_from(key),
            HostCall::PluginCall {
                plugin, function, ..
            } => *subject = format!("{plugin}/{function}"),
            HostCall::DbQuery { .. }
            | HostCall::DbExec { .. }
            | HostCall::Log { .. }
            | HostCall::HttpRequest(_)
            | HostCall::SendEmail => {}
        }
        // A key is compared and repeated in refusals: its length comes first.
        check_key(&call)?;
        authorize::service(&caller.permissions, &call)?;
        if context.deadline <= Instant::now() {
            return Err(HostError::Deadline);
        }
        let services = &self.services;
        let passed = |writes, database, sql, parameters| Statement {
            writes,
            database,
            sql,
            parameters,
        };
        // Large futures are boxed: every call's has room for the largest of what is not.
        match call {
            HostCall::DbQuery {
                database,
                sql,
                parameters,
            } => {
                let statement = passed(false, database, sql, parameters);
                let limit = deadline(context);
                Box::pin(services.databases.run(caller, statement, limit, subject)).await
            }
            HostCall::DbExec {
                database,
                sql,
                parameters,
            } => {
                let statement = passed(true, database, sql, parameters);
                let limit = deadline(context);
                Box::pin(services.databases.run(caller, statement, limit, subject)).await
            }
            HostCall::CacheGet { key } => {
                let value = services.cache.get(caller.cache(), &key).await;
                Ok(HostReply::Cached(value))
            }
            HostCall::CacheSet { key, value, ttl } => {
                let ttl = ttl.filter(|ttl| *ttl > Duration::ZERO);
                services.cache.set(caller.cache(), key, &value, ttl).await?;
                Ok(HostReply::Done)
            }
            HostCall::CacheDelete { key } => {
                services.cache.delete(caller.cache(), &key).await;
                Ok(HostReply::Done)
            }
            HostCall::Log {
                level,
                message,
                fields,
                left_out,
            } => {
                let fields = bounded_fields(fields, left_out);
                services
                    .logs
                    .record(caller, level, bounded_message(&message), &fields);
                Ok(HostReply::Done)
            }
            HostCall::ConfigGet { key } => config::get(&services.config, &key).map(HostReply::Text),
            HostCall::HttpRequest(request) => {
                let run = services
                    .http
                    .run(caller, request, context.deadline, subject);
                Box::pin(run).await.map(HostReply::Http)
            }
            HostCall::PluginCall {
                plugin: target,
                function,
                arguments,
            } => {
                let target = (target, function);
                let call = plugin::call(&services.plugins, caller, target, arguments, context);
                Box::pin(call).await.map(HostReply::Json)
            }
            HostCall::SendEmail => Err(HostError::NotServed { service: "email" }),
        }
    }
}

pub(crate) fn check_key(call: &HostCall) -> Result<(), HostError> {
    match call {
        HostCall::ConfigGet { key } => config::check_key(key),
        HostCall::CacheGet { key }
        | HostCall::CacheSet { key, .. }
        | HostCall::CacheDelete { key } => cache::check_key(key),
        HostCall::PluginCall {
            plugin, function, ..
        } => plugin::check_names(plugin, function),
        HostCall::DbQuery { .. }
        | HostCall::DbExec { .. }
        | HostCall::Log { .. }
        | HostCall::HttpRequest(_)
        | HostCall::SendEmail => Ok(()),
    }
}

/// What became of a call, for its record.
struct Outcome {
    decision: Decision,
    permission: Option<String>,
    code: Option<&'static str>,
}

impl Outcome {
    fn of<T>(result: &Result<T, HostError>) -> Self {
        match result {
            Ok(_) => Self {
                decision: Decision::Allow,
                permission: None,
                code: None,
            },
            Err(error) => Self {
                decision: Decision::of(error),
                permission: match error {
                    HostError::Refused(refusal) => {
                        Some(recordable(&refusal.permission()).into_owned())
                    }
                    _ => None,
                },
                code: Some(error.code()),
            },
        }
    }
}

/// Code of the record of a call whose future was dropped.
const CANCELLED: &str = "hostapi.cancelled";

/// Writes a call's one record when it goes out of scope, whichever way the call ends.
struct Record<'a> {
    api: &'a HostApi,
    caller: &'a Caller,
    request_id: &'a str,
    service: &'static str,
    method: &'static str,
    arrived: Instant,
    subject: String,
    outcome: Option<Outcome>,
}

impl<'a> Record<'a> {
    fn start(
        api: &'a HostApi,
        caller: &'a Caller,
        (service, method): (&'static str, &'static str),
        request_id: &'a str,
    ) -> Self {
        Self {
            api,
            caller,
            request_id,
            service,
            method,
            arrived: Instant::now(),
            subject: String::new(),
            outcome: None,
        }
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        let Outcome {
            decision,
            permission,
            code,
        } = self.outcome.take().unwrap_or(Outcome {
            decision: Decision::Error,
            permission: None,
            code: Some(CANCELLED),
        });
        let entry = AuditEntry {
            plugin: &self.caller.plugin,
            generation: self.caller.generation,
            service: self.service,
            method: self.method,
            decision,
            permission: permission.map(Cow::Owned),
            // What others ask about may look like a chain, and is none.
            subject: match self.service {
                "http" => recordable_chain(&self.subject),
                _ => recordable(&self.subject),
            },
            code,
            request_id: recordable(self.request_id),
            duration: self.arrived.elapsed(),
        };
        tracing::debug!(
            plugin.id = %entry.plugin,
            plugin.generation = entry.generation.0,
            request.id = %entry.request_id,
            hostapi.service = entry.service,
            hostapi.method = entry.method,
            hostapi.decision = entry.decision.as_str(),
            permission = entry.permission.as_deref(),
            error.code = entry.code,
            duration_ms = entry.duration.as_secs_f64() * 1_000.0,
            "host call answered"
        );
        let allowance = &self.caller.allowance;
        allowance
            .audit(&self.api.audit, &self.caller.plugin)
            .record(entry);
    }
}

/// The earlier of the call's own deadline and the limit of one statement.
fn deadline(context: &CallContext) -> Instant {
    context.deadline.min(Instant::now() + STATEMENT_TIME_LIMIT)
}
