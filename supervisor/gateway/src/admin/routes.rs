//! Routes of the administration API. Whoever gets here is an administrator, or may read metrics
//! and asks for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router, middleware};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use pinfold_policy::PluginId;

use super::control::in_time;
use super::dto::{
    EventQuery, LogFilterView, LogQuery, NewLogFilter, NewToken, PluginDetail, PluginView,
    PostureView, RecordIdError, RescanQuery, StatusView, UsageView,
};
use super::follow;
use super::problem::{self, ApiError};
use super::{Control, ControlError};
use crate::audit::Actor;
use crate::authenticate::Credential;
use crate::body::{self, BodyBudget, WholeBody};
use crate::config::GatewayConfig;
use crate::request_id::RequestId;
use crate::{forward, goatflow};

type Api = State<Arc<Shared>>;
type Answered<T> = Result<T, ApiError>;
type OnePath = Result<Path<String>, PathRejection>;

/// What every handler has.
struct Shared {
    control: Arc<dyn Control>,
    budget: BodyBudget,
    body_limit_bytes: usize,
    request_time_out: Duration,
}

/// The router. Requests carry an [`Actor`] and a [`RequestId`] among their extensions.
pub(crate) fn router(
    control: Arc<dyn Control>,
    config: &GatewayConfig,
    budget: BodyBudget,
) -> Router {
    let shared = Arc::new(Shared {
        control,
        budget,
        body_limit_bytes: config.body_limit_bytes,
        request_time_out: config.request_time_out,
    });
    let v1 = Router::new()
        .route("/status", get(status))
        .route("/plugins", get(plugins))
        .route("/plugins/{id}", get(plugin))
        .route("/plugins/{id}/logs", get(logs))
        .route("/plugins/{id}/call/{function}", post(call))
        .route("/plugins/{id}/enable", post(enable))
        .route("/plugins/{id}/disable", post(disable))
        .route("/plugins/{id}/reload", post(reload))
        .route("/plugins/{id}/rescan", post(rescan_plugin))
        .route("/events", get(events))
        .route("/rescan", post(rescan))
        .route("/audit/pending/{record}", post(take_record))
        .route("/usage", get(usage))
        .route("/metrics", get(metrics))
        .route("/posture", get(posture))
        .route("/posture/{id}", get(plugin_posture))
        .route(
            "/log-filter",
            get(log_filter).put(set_log_filter).delete(reset_log_filter),
        )
        .route("/tokens", get(tokens).post(create_token))
        .route("/tokens/{id}", delete(revoke_token))
        .route_layer(middleware::from_fn(problem::note_pattern));
    Router::new()
        .nest("/api/pinfold/v1", v1)
        // Where monitoring systems look unless told otherwise. On the gateway's listener nothing
        // is sent here but what stands below /api/pinfold.
        .route(
            "/metrics",
            get(metrics).layer(middleware::from_fn(problem::note_pattern)),
        )
        .fallback(problem::not_found)
        .layer(middleware::from_fn(no_store))
        .layer(middleware::from_fn(problem::render))
        .with_state(shared)
}

async fn status(State(api): Api) -> Json<StatusView> {
    Json(api.control.status())
}

/// For what the launcher is asked for a whole list; of what it has not said by then nothing is told.
const TRUST_LIMIT: Duration = Duration::from_secs(5);

async fn plugins(State(api): Api) -> Json<Vec<PluginView>> {
    let mut plugins = api.control.plugins();
    let until = tokio::time::Instant::now() + TRUST_LIMIT;
    let mut unknown: Option<String> = None;
    for plugin in plugins.iter_mut().filter(|it| it.trust.is_some()) {
        let asked = tokio::time::timeout_at(until, api.control.trust_lost(&plugin.id)).await;
        let why = match asked {
            Ok(Ok(lost)) => {
                plugin.trust_lost = lost;
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(late) => late.to_string(),
        };
        plugin.trust_unknown = true;
        unknown.get_or_insert(why);
    }
    if let Some(error) = unknown {
        tracing::warn!(error, "trust in plugins not looked at");
    }
    Json(plugins)
}

async fn plugin(State(api): Api, id: OnePath) -> Answered<Json<PluginDetail>> {
    let id = plugin_id(&id?)?;
    let mut detail = find(&*api.control, &id)?;
    detail.stats = api.control.stats(&id).await?;
    detail.view.trust_lost = api.control.trust_lost(&id).await?;
    Ok(Json(detail))
}

async fn usage(State(api): Api) -> Answered<Json<UsageView>> {
    Ok(in_time(api.control.usage()).await.map(Json)?)
}

async fn metrics(State(api): Api) -> Answered<Response> {
    let text = in_time(api.control.metrics()).await?;
    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let kind = [(CONTENT_TYPE, HeaderValue::from_static(open_metrics))];
    Ok((kind, text).into_response())
}

async fn logs(
    State(api): Api,
    credential: Option<Extension<Credential>>,
    id: OnePath,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Answered<Response> {
    let (id, Query(query)) = (plugin_id(&id?)?, query?);
    check_limit(query.limit, query.follow, LogQuery::MAX_LIMIT)?;
    if query.follow {
        let lines = api.control.follow_logs(&id, query)?;
        return Ok(follow::answer(lines, credential.map(|Extension(it)| it)));
    }
    find(&*api.control, &id)?;
    Ok(Json(api.control.logs(&id, query)).into_response())
}

async fn events(
    State(api): Api,
    credential: Option<Extension<Credential>>,
    query: Result<Query<EventQuery>, QueryRejection>,
) -> Answered<Response> {
    let Query(query) = query?;
    check_limit(query.limit, query.follow, EventQuery::MAX_LIMIT)?;
    if query.follow {
        let lines = api.control.follow_events(&query)?;
        return Ok(follow::answer(lines, credential.map(|Extension(it)| it)));
    }
    Ok(Json(api.control.events(&query)).into_response())
}

async fn enable(
    State(api): Api,
    Extension(actor): Extension<Actor>,
    id: OnePath,
) -> Answered<Json<PluginDetail>> {
    let id = plugin_id(&id?)?;
    Ok(in_time(api.control.enable(&id, actor)).await.map(Json)?)
}

async fn disable(
    State(api): Api,
    Extension(actor): Extension<Actor>,
    id: OnePath,
) -> Answered<Json<PluginDetail>> {
    let id = plugin_id(&id?)?;
    Ok(in_time(api.control.disable(&id, actor)).await.map(Json)?)
}

async fn reload(
    State(api): Api,
    Extension(actor): Extension<Actor>,
    id: OnePath,
) -> Answered<Json<PluginDetail>> {
    let id = plugin_id(&id?)?;
    Ok(in_time(api.control.reload(&id, actor)).await.map(Json)?)
}

async fn call(
    State(api): Api,
    Extension(actor): Extension<Actor>,
    Extension(request_id): Extension<RequestId>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Answered<Response> {
    let Path((id, function)) = path?;
    let id = plugin_id(&id)?;
    goatflow::check_function(&function)?;
    let deadline = Instant::now() + api.request_time_out;
    let whole = api.read(body, &headers, deadline).await?;
    let arguments = goatflow::arguments(whole.bytes.clone())?;
    let context = forward::context(&request_id, &actor, &headers, deadline);
    let result = api
        .control
        .call(&id, &function, arguments, context, actor)
        .await?;
    let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, result).into_response())
}

async fn rescan(
    State(api): Api,
    Extension(actor): Extension<Actor>,
    why: Result<Query<RescanQuery>, QueryRejection>,
) -> Answered<Json<Vec<PluginDetail>>> {
    let Query(why) = why?;
    let looked_at = in_time(api.control.rescan(None, why, actor)).await?;
    Ok(Json(looked_at))
}

/// 204 where the plugin is no more.
async fn rescan_plugin(
    State(api): Api,
    Extension(actor): Extension<Actor>,
    id: OnePath,
    why: Result<Query<RescanQuery>, QueryRejection>,
) -> Answered<Response> {
    let (id, Query(why)) = (plugin_id(&id?)?, why?);
    let looked_at = in_time(api.control.rescan(Some(id.clone()), why, actor)).await?;
    Ok(
        match looked_at.into_iter().find(|detail| detail.view.id == id) {
            Some(detail) => Json(detail).into_response(),
            None => StatusCode::NO_CONTENT.into_response(),
        },
    )
}

async fn take_record(State(api): Api, record: OnePath) -> Answered<StatusCode> {
    let Path(record) = record?;
    let record = record.parse();
    let record = record.map_err(|error: RecordIdError| ApiError::invalid(error.to_string()))?;
    in_time(api.control.take_record(record)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn posture(State(api): Api) -> Answered<Json<PostureView>> {
    Ok(in_time(api.control.posture(None)).await.map(Json)?)
}

async fn plugin_posture(State(api): Api, id: OnePath) -> Answered<Json<PostureView>> {
    let id = plugin_id(&id?)?;
    Ok(in_time(api.control.posture(Some(id))).await.map(Json)?)
}

async fn log_filter(State(api): Api) -> Json<LogFilterView> {
    Json(api.control.log_filter())
}

async fn set_log_filter(
    State(api): Api,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    body: Body,
) -> Answered<Json<LogFilterView>> {
    let deadline = Instant::now() + api.request_time_out;
    let whole = api.read(body, &headers, deadline).await?;
    let wanted: NewLogFilter = serde_json::from_slice(&whole.bytes)
        .map_err(|error| ApiError::invalid(format!("request body: {error}")))?;
    let longest = NewLogFilter::LONGEST.as_secs();
    if wanted
        .seconds
        .is_some_and(|seconds| !(1..=longest).contains(&seconds))
    {
        let text = format!("seconds: allowed are 1 to {longest}");
        return Err(ApiError::invalid(text));
    }
    let limit = NewLogFilter::LIMIT_BYTES;
    if wanted.filter.len() > limit || wanted.filter.chars().any(char::is_control) {
        let text = format!("filter: over {limit} bytes, or a control character");
        return Err(ApiError::invalid(text));
    }
    let set = api.control.set_log_filter(Some(wanted), actor);
    Ok(in_time(set).await.map(Json)?)
}

async fn reset_log_filter(
    State(api): Api,
    Extension(actor): Extension<Actor>,
) -> Answered<Json<LogFilterView>> {
    let set = api.control.set_log_filter(None, actor);
    Ok(in_time(set).await.map(Json)?)
}

async fn tokens(State(api): Api) -> Answered<impl IntoResponse + use<>> {
    Ok(Json(api.control.list_tokens().await?))
}

async fn create_token(
    State(api): Api,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    body: Body,
) -> Answered<impl IntoResponse + use<>> {
    let deadline = Instant::now() + api.request_time_out;
    let whole = api.read(body, &headers, deadline).await?;
    let token: NewToken = serde_json::from_slice(&whole.bytes)
        .map_err(|error| ApiError::invalid(format!("request body: {error}")))?;
    token
        .check()
        .map_err(|error| ApiError::invalid(error.to_string()))?;
    Ok((
        StatusCode::CREATED,
        Json(api.control.create_token(token, actor).await?),
    ))
}

async fn revoke_token(
    State(api): Api,
    Extension(actor): Extension<Actor>,
    id: OnePath,
) -> Answered<StatusCode> {
    let Path(id) = id?;
    api.control.revoke_token(id, actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl Shared {
    async fn read(
        &self,
        mut body: Body,
        headers: &HeaderMap,
        deadline: Instant,
    ) -> Answered<WholeBody> {
        let limit = self.body_limit_bytes;
        match body::read(&mut body, limit, &self.budget, deadline.into()).await {
            Ok(whole) => Ok(whole),
            Err(refusal) => {
                body::discard(&mut body, headers).await;
                Err(refusal.into())
            }
        }
    }
}

/// Who follows may want none of what is there already.
fn check_limit(limit: usize, follow: bool, most: usize) -> Answered<()> {
    let least = usize::from(!follow);
    if (least..=most).contains(&limit) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "limit is {limit}, allowed are {least} to {most}"
    )))
}

fn plugin_id(text: &str) -> Answered<PluginId> {
    PluginId::parse(text).map_err(|error| ApiError::invalid(error.to_string()))
}

fn find(control: &dyn Control, id: &PluginId) -> Answered<PluginDetail> {
    let unknown = || ControlError::UnknownPlugin { plugin: id.clone() };
    Ok(control.plugin(id).ok_or_else(unknown)?)
}

/// What administrators read is stored by no cache.
async fn no_store(request: axum::extract::Request, next: middleware::Next) -> Response {
    let mut response = next.run(request).await;
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
