//! What comes through a jail's proxy instead of as a call: decided, metered and recorded like one, as
//! `http` with `forward` or `tunnel`.

use std::time::Duration;

use http::Request;
use http::uri::Authority;
use hyper::body::Incoming;

use super::{HostApi, Outcome, Record};
use crate::http::{Forwarded, Tunnel};
use crate::{Caller, HostError};

/// A proxy cannot know what its client is doing it for.
const NO_REQUEST: &str = "";

impl HostApi {
    /// Longest time for one request that a plugin makes by itself.
    pub(crate) fn http_timeout(&self) -> Duration {
        self.services.http.timeout()
    }

    /// Carries out one request that the plugin makes by itself.
    pub(crate) async fn forward(
        &self,
        caller: &Caller,
        request: Request<Incoming>,
    ) -> Result<Forwarded, HostError> {
        let mut record = Record::start(self, caller, ("http", "forward"), NO_REQUEST);
        let result = match permit(caller) {
            Ok(()) => {
                let http = &self.services.http;
                Box::pin(http.forward(caller, request, &mut record.subject)).await
            }
            Err(error) => Err(error),
        };
        record.outcome = Some(Outcome::of(&result));
        result
    }

    /// Opens a tunnel for the plugin.
    pub(crate) async fn tunnel(
        &self,
        caller: &Caller,
        authority: Option<&Authority>,
    ) -> Result<Tunnel, HostError> {
        let mut record = Record::start(self, caller, ("http", "tunnel"), NO_REQUEST);
        let result = match permit(caller) {
            Ok(()) => {
                let http = &self.services.http;
                Box::pin(http.tunnel(caller, authority, &mut record.subject)).await
            }
            Err(error) => Err(error),
        };
        record.outcome = Some(Outcome::of(&result));
        result
    }
}

/// What is decided before anything of the request is looked at. One that is refused is metered too.
fn permit(caller: &Caller) -> Result<(), HostError> {
    caller.allowance.meters.draw("http")?;
    Ok(caller.permissions.http()?)
}
