//! Serving the plugin's calls back into the host, and the tokens that tie them to the call on whose
//! behalf they are made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pinfold_hostapi::{Caller, HostApi};
use pinfold_policy::CallContext;
use pinfold_rpc::broker::Offer;
use pinfold_rpc::netrpc::{self, End, Request, ServerConfig, Services};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::host::{self, ConfigForm};
use super::wire::{HostRequest, HostResponse};
use crate::chain::Chain;
use crate::lifecycle::output::Drains;

/// The field that only generation 4 has: it tells the generations apart.
const CALL_TOKEN_FIELD: &str = "CallToken";
/// Deadline of a call back that is made on nobody's behalf.
const OWN_CALL_LIMIT: Duration = Duration::from_secs(30);
/// Calls back served at once. A database takes two queries of one plugin at a time, and each that
/// waits may hold its parameters, each that is answered a whole result: this many of them.
const CALLS_AT_ONCE: usize = 32;

/// Calls back that are refused, a second and at once, before the plugin has to wait: as many as a
/// service allows by default. A plugin that heeds a refusal never comes near.
const REFUSALS_PER_SECOND: u32 = 1000;

/// The contract's words for a token of no call that is under way.
const UNKNOWN_TOKEN: &str = "unknown or finished call context";

type Open = HashMap<u128, CallContext>;

/// Calls into the plugin that are under way, by token.
#[derive(Debug, Default)]
pub(super) struct CallTokens {
    open: Mutex<Open>,
}

impl CallTokens {
    /// Makes a token for a call; it ends with what is returned.
    pub(super) fn open(self: &Arc<Self>, context: CallContext) -> OpenCall {
        // 128 random bits: it guards against confusion, not against a plugin, which is given it.
        let number = u128::from_be_bytes(pinfold_gateway::random());
        self.lock().insert(number, context);
        OpenCall {
            number,
            token: format!("{number:032x}"),
            tokens: Arc::clone(self),
        }
    }

    /// The call that a token stands for.
    fn context(&self, token: &str) -> Option<CallContext> {
        let digit =
            |number: u128, c: u8| Some(number << 4 | u128::from(char::from(c).to_digit(16)?));
        let digits = (token.len() == 32).then_some(token)?;
        let number = digits.bytes().try_fold(0, digit)?;
        self.lock().get(&number).cloned()
    }

    /// Depth of the deepest call under way; 0 without one. A call back that names none may belong to
    /// any of them, and one that does not say so must not thereby begin a new chain.
    fn deepest(&self) -> u32 {
        let open = self.lock();
        open.values()
            .map(|context| context.depth)
            .max()
            .unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way.
#[derive(Debug)]
pub(super) struct OpenCall {
    number: u128,
    /// 32 hex digits, as the plugin gives it back.
    pub(super) token: String,
    tokens: Arc<CallTokens>,
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.tokens.lock().remove(&self.number);
    }
}

/// Waits for the plugin to dial `offer`, for as long as the process lives, and serves it. When this is over,
/// whether by the plugin or by `stop`, no call is under way.
pub(super) async fn serve(
    offer: Offer,
    host: Arc<HostApi>,
    caller: Arc<Caller>,
    tokens: Arc<CallTokens>,
    output: Arc<Drains>,
    stop: CancellationToken,
) {
    let accepted = tokio::select! {
        accepted = offer.accept() => accepted,
        () = stop.cancelled() => return,
    };
    match accepted {
        Ok(stream) => converse(stream, (host, caller), tokens, &output, &stop).await,
        Err(error) => {
            tracing::debug!(plugin.id = %caller.plugin, error = %error, "plugin did not dial back");
        }
    }
}

/// Answers what the plugin asks on `stream`, until the plugin ends that or `stop` is cancelled.
async fn converse<S>(
    stream: S,
    (host, caller): (Arc<HostApi>, Arc<Caller>),
    tokens: Arc<CallTokens>,
    output: &Drains,
    stop: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let services = Arc::new(services(host, Arc::clone(&caller), tokens));
    let config = ServerConfig {
        max_concurrent: CALLS_AT_ONCE,
        refusals_per_second: Some(REFUSALS_PER_SECOND),
        ..ServerConfig::default()
    };
    let end = netrpc::serve_until(stream, services, config, stop.cancelled()).await;
    tracing::debug!(plugin.id = %caller.plugin, end = %end, "plugin's host connection ended");
    if matches!(end, End::Decode { .. }) {
        output.note_breach(&format!("its host calls ended: {}", Chain(&end)));
    }
}

/// `Plugin.Call`, and the name that generation 1 called and nobody served.
fn services(host: Arc<HostApi>, caller: Arc<Caller>, tokens: Arc<CallTokens>) -> Services {
    let answer = move |request: Request<HostRequest>| {
        let (host, caller) = (Arc::clone(&host), Arc::clone(&caller));
        let tokens = Arc::clone(&tokens);
        async move { Ok(answer(&host, &caller, &tokens, request).await) }
    };
    Services::new()
        .method("Plugin.Call", answer.clone())
        .method("HostAPI.Call", answer)
}

/// A refused call is an error in the reply, never the end of the conversation.
async fn answer(
    host: &HostApi,
    caller: &Caller,
    tokens: &CallTokens,
    request: Request<HostRequest>,
) -> HostResponse {
    let form = if request.arg_type.has_field(CALL_TOKEN_FIELD) {
        ConfigForm::Object
    } else {
        ConfigForm::Bare
    };
    let call_token = request.arg.call_token.as_str();
    let context = if call_token.is_empty() {
        own_context(tokens.deepest())
    } else if let Some(context) = tokens.context(call_token) {
        context
    } else {
        request.place.refused();
        let (method, context) = (request.arg.method.as_str(), own_context(tokens.deepest()));
        let error = host::refuse(host, caller, method, UNKNOWN_TOKEN, &context).await;
        return HostResponse {
            result: Vec::new(),
            error,
        };
    };
    let place = request.place;
    match host::call(host, caller, form, request.arg, (&context, &place)).await {
        Ok(result) => HostResponse {
            result,
            error: String::new(),
        },
        Err(error) => {
            place.refused();
            HostResponse {
                result: Vec::new(),
                error,
            }
        }
    }
}

fn own_context(depth: u32) -> CallContext {
    CallContext {
        request_id: "".into(),
        user: None,
        language: None,
        deadline: Instant::now() + OWN_CALL_LIMIT,
        depth,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_for_its_call_until_that_ends() {
        let tokens = Arc::new(CallTokens::default());
        let context = CallContext {
            request_id: "r1".into(),
            ..own_context(3)
        };
        let call = tokens.open(context);
        let token = call.token.clone();
        assert_eq!(&*tokens.context(&token).unwrap().request_id, "r1");
        assert!(tokens.context("forged").is_none());
        assert_eq!(tokens.deepest(), 3);
        drop(call);
        assert!(tokens.context(&token).is_none());
        assert_eq!(tokens.deepest(), 0);
    }
}

#[cfg(test)]
#[path = "callback/counted.rs"]
mod counted;

#[cfg(test)]
#[path = "callback/ended.rs"]
mod ended;
