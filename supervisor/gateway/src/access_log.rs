//! One line for each request, under the target `pinfold::access`: answered or abandoned. Patterns
//! of routes, never raw paths; never a query, a header or a body.

use std::borrow::Cow;
use std::time::Instant;

use http::{Method, Response};
use hyper::body::Body;
use pinfold_policy::{Generation, PluginId};
use tracing::Level;

use crate::audit::{Actor, known_method};
use crate::request_id::RequestId;
use crate::respond::ErrorCode;
use crate::route::{RoutePattern, Target};

/// A request under way. Dropped without an answer it logs that the client has gone.
pub(crate) struct AccessLog {
    id: RequestId,
    method: Method,
    started: Instant,
    pub(crate) route: Option<RoutePattern>,
    pub(crate) plugin: Option<(PluginId, Generation)>,
    pub(crate) actor: Actor,
    is_health_check: bool,
    is_answered: bool,
}

impl AccessLog {
    pub(crate) fn begin(id: &RequestId, method: &Method) -> Self {
        Self {
            id: id.clone(),
            method: method.clone(),
            started: Instant::now(),
            route: None,
            plugin: None,
            actor: Actor::Anonymous,
            is_health_check: false,
            is_answered: false,
        }
    }

    /// Takes down where the request goes.
    pub(crate) fn note(&mut self, target: &Target) {
        self.route = Some(target.pattern());
        self.is_health_check = matches!(target, Target::Live | Target::Ready);
        if let Target::Plugin(matched) = target {
            self.plugin = Some((matched.entry.plugin.clone(), matched.entry.generation));
        }
    }

    pub(crate) const fn is_health_check(&self) -> bool {
        self.is_health_check
    }

    pub(crate) const fn started(&self) -> Instant {
        self.started
    }

    /// Logs the answer.
    pub(crate) fn answered<B: Body>(mut self, answer: &Response<B>) {
        self.is_answered = true;
        let code = answer.extensions().get::<ErrorCode>().map(|code| code.0);
        // What a router of its own found stands beside the answer.
        let pattern = answer.extensions().get::<RoutePattern>();
        let pattern = pattern.or(self.route.as_ref());
        tracing::event!(
            target: "pinfold::access",
            Level::INFO,
            request.id = self.id.as_str(),
            http.request.method = known_method(&self.method),
            http.route = pattern.map(RoutePattern::as_str),
            http.response.status_code = answer.status().as_u16(),
            http.response.body.size = answer.body().size_hint().exact(),
            plugin.id = self.plugin.as_ref().map(|(plugin, _)| plugin.as_str()),
            plugin.generation = self.plugin.as_ref().map(|(_, generation)| generation.0),
            user.id = self.user().as_deref(),
            error.code = code,
            duration_ms = self.duration_ms(),
            "request answered"
        );
    }

    fn user(&self) -> Option<Cow<'_, str>> {
        match &self.actor {
            Actor::Anonymous => None,
            Actor::User(user) => Some(Cow::Borrowed(&user.id)),
            Actor::Process { uid, .. } => Some(Cow::Owned(format!("uid:{uid}"))),
        }
    }

    fn duration_ms(&self) -> f64 {
        self.started.elapsed().as_secs_f64() * 1000.0
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        tracing::event!(
            target: "pinfold::access",
            Level::INFO,
            request.id = self.id.as_str(),
            http.request.method = known_method(&self.method),
            http.route = self.route.as_ref().map(RoutePattern::as_str),
            plugin.id = self.plugin.as_ref().map(|(plugin, _)| plugin.as_str()),
            plugin.generation = self.plugin.as_ref().map(|(_, generation)| generation.0),
            user.id = self.user().as_deref(),
            duration_ms = self.duration_ms(),
            "request abandoned by its client"
        );
    }
}
