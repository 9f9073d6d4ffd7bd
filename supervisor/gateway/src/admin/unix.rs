//! The administration API on a Unix socket. Its file mode is the check, and the one who made the
//! socket set it; the peer's credentials name the actor in the audit.

use std::convert::Infallible;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{Control, router};
use crate::access_log::AccessLog;
use crate::audit::Actor;
use crate::body::BodyBudget;
use crate::config::GatewayConfig;
use crate::listen::{Drained, listen};
use crate::request_id::RequestId;
use crate::respond;

/// Serves until `stop` is cancelled, then drains. Of the settings, limits and times count.
pub async fn serve_unix(
    listener: UnixListener,
    control: Arc<dyn Control>,
    config: &GatewayConfig,
    stop: CancellationToken,
) -> Drained {
    let router = router(control, config, BodyBudget::new(config.body_budget_bytes));
    let answer = move |request: Request<Incoming>, actor: Actor| {
        let router = router.clone();
        async move {
            let id = RequestId::of(request.headers());
            let mut log = AccessLog::begin(&id, request.method());
            log.actor = actor.clone();
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(actor);
            request.extensions_mut().insert(id.clone());
            let answer: Result<_, Infallible> = router.oneshot(request).await;
            let mut answer = match answer {
                Ok(answer) => answer,
                Err(never) => match never {},
            };
            respond::seal(answer.headers_mut(), &id);
            log.answered(&answer);
            answer
        }
    };
    listen(listener, config.connection_limits(), stop, answer).await
}
