//! The way of one request, in order: `listen` → `authenticate` → `route` → `authorise` → `limit`
//! → `audit` → the table's entry → the instance (`forward`) → `respond`. Each step is a file of
//! that name; this one only puts them in a row.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, request};
use http_body_util::{Either, Full};
use hyper::body::{Body as _, Incoming};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::Instrument as _;

use crate::access_log::AccessLog;
use crate::admin::dto::DaemonState;
use crate::admin::{self, Control};
use crate::answers::AnswerBudget;
use crate::audit::{self, Actor, Audit};
use crate::authenticate::{Credential, Tokens, authenticate};
use crate::authorise::{authorise, not_across_sites};
use crate::body::{self, BodyBudget, WholeBody};
use crate::config::{ConfigError, GatewayConfig};
use crate::failure::Failure;
use crate::forward;
use crate::goatflow::{self, Operation};
use crate::limit::Place;
use crate::listen::{Drained, listen};
use crate::refusal::Refusal;
use crate::request_id::RequestId;
use crate::respond::{self, Answer, ErrorForm};
use crate::route::{self, Target};
use crate::table::{Entry, Shared};

/// The gateway of one listener.
pub struct Gateway {
    config: GatewayConfig,
    table: Shared,
    tokens: Arc<dyn Tokens>,
    control: Arc<dyn Control>,
    audit: Arc<dyn Audit>,
    budget: BodyBudget,
    /// What of it those may take who have shown no token.
    anonymous_budget: BodyBudget,
    answers: AnswerBudget,
    admin: axum::Router,
}

/// Why a gateway does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The settings, or the address of the listener, are refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The listener has no address.
    #[error("ask for the listener's address")]
    Address(#[source] io::Error),
}

/// A request that has passed every check.
struct Admitted {
    target: Target,
    actor: Actor,
    decoded_path: String,
    /// Held until the answer is there, or nobody waits for it; given back while a body arrives.
    place: Option<Place>,
}

impl Gateway {
    /// A gateway that reads this table. Nothing is opened yet.
    #[must_use]
    pub fn new(
        config: GatewayConfig,
        table: Shared,
        tokens: Arc<dyn Tokens>,
        control: Arc<dyn Control>,
        audit: Arc<dyn Audit>,
    ) -> Self {
        let budget = BodyBudget::new(config.body_budget_bytes);
        let anonymous = (config.body_budget_bytes / 2).max(config.body_limit_bytes);
        Self {
            anonymous_budget: budget.part(anonymous),
            answers: AnswerBudget::new(config.answer_budget_bytes),
            admin: admin::router(Arc::clone(&control), &config, budget.clone()),
            budget,
            config,
            table,
            tokens,
            control,
            audit,
        }
    }

    /// Serves until `stop` is cancelled, then drains: nothing new is accepted, requests under way
    /// go on for at most [`GatewayConfig::drain_time`].
    ///
    /// # Errors
    /// [`ServeError`] before anything is accepted.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> Result<Drained, ServeError> {
        self.config.check()?;
        let address = listener.local_addr().map_err(ServeError::Address)?;
        self.config.check_address(address)?;
        let limits = self.config.connection_limits();
        let gateway = Arc::new(self);
        // One for all: a copy of a token takes its lock, and this is asked for readiness alone.
        let stopping = Arc::new(stop.clone());
        let answer = move |request, _peer: SocketAddr| {
            let (gateway, stopping) = (Arc::clone(&gateway), Arc::clone(&stopping));
            async move { gateway.answer(request, &stopping).await }
        };
        Ok(listen(listener, limits, stop, answer).await)
    }

    async fn answer(&self, request: Request<Incoming>, stopping: &CancellationToken) -> Answer {
        let id = RequestId::of(request.headers());
        let mut log = AccessLog::begin(&id, request.method());
        let span = tracing::debug_span!("request", request.id = id.as_str());
        // Not boxed: the connection has one place for the answer to each of its requests.
        let answering = self.steps(request, &id, &mut log, stopping);
        let mut answer = answering.instrument(span).await;
        respond::seal(answer.headers_mut(), &id);
        log.answered(&answer);
        answer
    }

    async fn steps(
        &self,
        request: Request<Incoming>,
        id: &RequestId,
        log: &mut AccessLog,
        stopping: &CancellationToken,
    ) -> Answer {
        let form = ErrorForm::of(request.uri().path());
        let (head, mut body) = request.into_parts();
        let result = match self.admit(&head, id, log).await {
            Ok(admitted) => self.run(admitted, head, body, id, log, stopping).await,
            Err(refusal) => {
                Box::pin(body::discard(&mut body, &head.headers)).await;
                Err(refusal.into())
            }
        };
        result.unwrap_or_else(|failed| respond::failure(form, id, failed).map(Either::Left))
    }

    /// Every check, in order. What is refused here has touched no plugin.
    async fn admit(
        &self,
        head: &request::Parts,
        id: &RequestId,
        log: &mut AccessLog,
    ) -> Result<Admitted, Refusal> {
        let checked = async {
            log.actor = authenticate(&*self.tokens, &head.headers).await?;
            let table = self.table.load();
            let path = route::path(&head.uri)?;
            let target = route::route(self.config.compat, &table, &head.method, &path)?;
            log.note(&target);
            if target.is_administration() {
                not_across_sites(&head.headers)?;
            }
            authorise(target.needs(), &log.actor)?;
            let place = limit(&target)?;
            let decoded_path = path.decoded.into_owned();
            Ok(Admitted {
                target,
                actor: log.actor.clone(),
                decoded_path,
                place,
            })
        }
        .await;
        audit::decided(
            &*self.audit,
            id,
            &head.method,
            log,
            checked.as_ref().map(|_| ()),
        );
        checked
    }

    /// What the request asked for. All but calls of plugins' routes waits in a box of its own: the
    /// place for an answer is moved as a whole for each request.
    async fn run(
        &self,
        admitted: Admitted,
        head: request::Parts,
        body: Incoming,
        id: &RequestId,
        log: &AccessLog,
        stopping: &CancellationToken,
    ) -> Result<Answer, Failure> {
        let Admitted {
            target,
            actor,
            decoded_path,
            place,
        } = admitted;
        let deadline = log.started() + self.config.request_time_out;
        let context = forward::context(id, &actor, &head.headers, deadline);
        let answer = match target {
            Target::Live => status_answer(StatusCode::OK, "alive"),
            Target::Ready => self.readiness(stopping.is_cancelled()),
            Target::Admin | Target::Metrics => {
                return Ok(Box::pin(self.administer(head, body, actor, id)).await);
            }
            Target::Goatflow(Operation::List) => {
                goatflow::list(&*self.control, self.config.list_form)
            }
            Target::Goatflow(Operation::Logs) => goatflow::logs(&*self.control, head.uri.query())?,
            Target::Goatflow(Operation::Enable { plugin }) => {
                Box::pin(goatflow::enable(&*self.control, &plugin, actor)).await?
            }
            Target::Goatflow(Operation::Disable { plugin }) => {
                Box::pin(goatflow::disable(&*self.control, &plugin, actor)).await?
            }
            Target::Goatflow(Operation::Call { plugin, function }) => {
                let whole = self.read(body, &head.headers, &actor, deadline).await?;
                let bytes = whole.bytes.clone();
                let called =
                    goatflow::call(&*self.control, &plugin, &function, bytes, context, actor);
                Box::pin(called).await?
            }
            Target::Plugin(matched) => {
                let entry = Arc::clone(&matched.entry);
                let (whole, place) = if body.is_end_stream() {
                    (WholeBody::default(), place)
                } else {
                    // A body comes as slowly as its client likes, and clients that do not send would
                    // hold every place.
                    drop(place);
                    let whole = self.read(body, &head.headers, &actor, deadline).await?;
                    (whole, Some(self.place(&entry, &head.method, id, log)?))
                };
                let bytes = whole.bytes.clone();
                let call = place.as_ref().map(Place::call);
                let request = forward::request(matched, head, decoded_path, bytes);
                let response = forward::forward(&entry, request, context).await;
                let security = self.config.content_security.of(&entry.plugin);
                let response = response.and_then(|response| respond::plugin(response, security));
                if let Some(call) = call {
                    call.ended(&response);
                }
                response.map_err(|error| forward::failure(error, &entry))?
            }
        };
        Ok(self.answers.hold(answer)?.map(Either::Left))
    }

    /// The place among the requests under way, once all of a request is there. That there is none
    /// after all is a decision of its own.
    fn place(
        &self,
        entry: &Entry,
        method: &Method,
        id: &RequestId,
        log: &AccessLog,
    ) -> Result<Place, Refusal> {
        let place = entry.meter.occupy();
        if let Err(refusal) = &place {
            audit::decided(&*self.audit, id, method, log, Err(refusal));
        }
        place
    }

    async fn read(
        &self,
        mut body: Incoming,
        headers: &HeaderMap,
        actor: &Actor,
        deadline: Instant,
    ) -> Result<WholeBody, Refusal> {
        let limit = self.config.body_limit_bytes;
        let budget = match actor {
            Actor::Anonymous => &self.anonymous_budget,
            Actor::User(_) | Actor::Process { .. } => &self.budget,
        };
        let result = body::read(&mut body, limit, budget, deadline.into()).await;
        if result.is_err() {
            Box::pin(body::discard(&mut body, headers)).await;
        }
        result
    }

    /// Hands a request to the administration API's own router.
    async fn administer(
        &self,
        head: request::Parts,
        body: Incoming,
        actor: Actor,
        id: &RequestId,
    ) -> Answer {
        let credential = Credential::of(&self.tokens, &head.headers);
        let mut request = Request::from_parts(head, axum::body::Body::new(body));
        if let Some(credential) = credential {
            request.extensions_mut().insert(credential);
        }
        request.extensions_mut().insert(actor);
        request.extensions_mut().insert(id.clone());
        let answer: Result<_, Infallible> = self.admin.clone().oneshot(request).await;
        match answer {
            Ok(answer) => answer.map(Either::Right),
            Err(never) => match never {},
        }
    }

    fn readiness(&self, stopping: bool) -> Response<Full<Bytes>> {
        let state = if stopping {
            DaemonState::Draining
        } else {
            self.control.status().state
        };
        match state {
            DaemonState::Ready => status_answer(StatusCode::OK, "ready"),
            DaemonState::Starting => status_answer(StatusCode::SERVICE_UNAVAILABLE, "starting"),
            DaemonState::Draining => status_answer(StatusCode::SERVICE_UNAVAILABLE, "draining"),
        }
    }
}

fn limit(target: &Target) -> Result<Option<Place>, Refusal> {
    match target {
        Target::Plugin(matched) => matched.entry.meter.enter().map(Some),
        _ => Ok(None),
    }
}

fn status_answer(status: StatusCode, word: &'static str) -> Response<Full<Bytes>> {
    respond::json_answer(status, format!("{{\"status\":\"{word}\"}}").into())
}
