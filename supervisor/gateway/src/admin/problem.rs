//! Errors of the administration API: whatever refuses, a handler or axum itself, the client reads
//! problem details.

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::ALLOW;

use crate::failure::Failure;
use crate::refusal::Refusal;
use crate::request_id::RequestId;
use crate::respond::{self, ErrorForm};
use crate::route::RoutePattern;

/// Why a handler has no answer.
#[derive(Debug)]
pub(super) struct ApiError(Failure);

impl ApiError {
    pub(super) fn invalid(text: impl Into<String>) -> Self {
        Self(Failure::plain(
            StatusCode::BAD_REQUEST,
            "control.invalid",
            text,
        ))
    }
}

impl<E: Into<Failure>> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::plain(
            StatusCode::BAD_REQUEST,
            "control.invalid",
            rejection.body_text(),
        )
    }
}

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Self {
        Self::plain(
            StatusCode::BAD_REQUEST,
            "control.invalid",
            rejection.body_text(),
        )
    }
}

impl IntoResponse for ApiError {
    /// The failure alone; [`render`] makes the body, for it knows the request's id.
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.extensions_mut().insert(self.0);
        response
    }
}

/// Path that no route has.
pub(super) async fn not_found() -> ApiError {
    Refusal::NotFound.into()
}

/// Around every route: failures become problem details.
pub(super) async fn render(
    Extension(id): Extension<RequestId>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let failure = match response.extensions_mut().remove::<Failure>() {
        Some(failure) => failure,
        // axum's own answer: it has set `Allow` and no body.
        None if response.status() == StatusCode::METHOD_NOT_ALLOWED => Refusal::Method {
            allowed: Vec::new(),
        }
        .into(),
        None => return response,
    };
    let mut problem = respond::failure(ErrorForm::Problem, &id, failure).map(Body::new);
    if let Some(pattern) = response.extensions_mut().remove::<RoutePattern>() {
        problem.extensions_mut().insert(pattern);
    }
    if let Some(allowed) = response.headers_mut().remove(ALLOW) {
        problem.headers_mut().insert(ALLOW, allowed);
    }
    problem
}

/// Around each route: its pattern goes beside the answer, for the access log.
pub(super) async fn note_pattern(path: MatchedPath, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response
        .extensions_mut()
        .insert(RoutePattern::Nested(path.as_str().to_owned()));
    response
}
