//! One running goatflow plugin: calls into it, with deadline and cancellation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pinfold_gateway::{CallError, Instance, PluginRequest, PluginResponse};
use pinfold_gob::{DecodeError, Nothing};
use pinfold_policy::CallContext;
use pinfold_rpc::netrpc::{self, Client};
use pinfold_rpc::session::PluginSession;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::arguments::{ArgumentsError, arguments};
use super::callback::CallTokens;
use super::reply::{check, response};
use super::wire::{CALL_REQUEST, CallRequest, CallResponse};
use crate::chain::Chain;
use crate::dialect::Running;
use crate::lifecycle::output::Drains;

/// Longest error text of a plugin that is passed on, in bytes.
const ERROR_TEXT_LIMIT_BYTES: usize = 4 * 1024;
/// How long a call that lost its connection waits to be told why: the report of the process's end
/// is on its way.
const CAUSE_LIMIT: Duration = Duration::from_millis(500);
/// How long the end of the session is waited for when a stream in it has ended: it says why. Both
/// come in one turn of the connection's task.
pub(super) const SESSION_END_LIMIT: Duration = Duration::from_millis(100);

/// A plugin that serves.
pub(super) struct GoatflowInstance {
    session: PluginSession,
    client: Client,
    tokens: Arc<CallTokens>,
    /// Where its log is.
    output: Arc<Drains>,
    /// Longest time for one call.
    call_limit: Duration,
    /// Ends what serves the plugin's calls back.
    stop: CancellationToken,
    /// Set when the conversation with the plugin has ended although its session stands.
    broken: watch::Sender<Option<String>>,
    /// Why the process ended.
    cause: watch::Sender<Option<String>>,
    /// Whether it is known to have ended: a call made after that has surely not run.
    over: AtomicBool,
}

impl GoatflowInstance {
    pub(super) fn new(
        session: PluginSession,
        client: Client,
        tokens: Arc<CallTokens>,
        output: Arc<Drains>,
        call_limit: Duration,
        stop: CancellationToken,
    ) -> Self {
        let (broken, cause) = (watch::Sender::new(None), watch::Sender::new(None));
        Self {
            session,
            client,
            tokens,
            output,
            call_limit,
            stop,
            broken,
            cause,
            over: AtomicBool::new(false),
        }
    }

    async fn call_function(
        &self,
        function: &str,
        arguments: Bytes,
        context: CallContext,
    ) -> Result<Bytes, CallError> {
        if self.over.load(Ordering::Relaxed) {
            return Err(CallError::NotReady {
                state: "restarting".into(),
            });
        }
        let deadline = Instant::from_std(context.deadline).min(Instant::now() + self.call_limit);
        let call = self.tokens.open(context);
        let request = CallRequest {
            function,
            args: arguments,
            call_token: &call.token,
        };
        // They are gone as soon as they are on their way: the plugin may take long.
        let called = self
            .client
            .call_owned("Plugin.Call", (&CALL_REQUEST, request), deadline, |body| {
                body.decode()
            })
            .await;
        match called {
            Ok(CallResponse { result, error }) if error.is_empty() => Ok(result.into()),
            Ok(CallResponse { error, .. }) => Err(CallError::Plugin {
                text: cut_bytes(error),
            }),
            Err(error) => Err(self.failed(error).await),
        }
    }

    async fn failed(&self, error: netrpc::CallError) -> CallError {
        match error {
            netrpc::CallError::Deadline => CallError::Deadline,
            netrpc::CallError::Busy { .. } => CallError::Overloaded,
            netrpc::CallError::Closed { cause } => {
                let text = Chain(&*cause).to_string();
                self.over.store(true, Ordering::Relaxed);
                // Where the process lives on, its lifecycle learns here that it is of no more use.
                self.broken.send_if_modified(|known| {
                    known.is_none() && known.replace(text.clone()).is_none()
                });
                let mut ended = self.cause.subscribe();
                let told = tokio::time::timeout(CAUSE_LIMIT, ended.wait_for(Option::is_some)).await;
                let told = told
                    .ok()
                    .and_then(|cause| cause.ok().and_then(|cause| cause.clone()));
                CallError::Gone {
                    cause: told.unwrap_or(text),
                }
            }
            netrpc::CallError::Decode {
                source:
                    ref source @ DecodeError::MessageTooLarge {
                        length,
                        limit: longest,
                    },
            } => {
                self.output.note_breach(&format!("its answer: {source}"));
                CallError::TooLarge {
                    what: "reply",
                    bytes: length,
                    limit_bytes: u64::try_from(longest).unwrap_or(u64::MAX),
                }
            }
            // The call itself never fails this way: the plugin's error is in its reply.
            netrpc::CallError::Remote { text } => self.breach(cut_bytes(text)),
            error => self.breach(Chain(&error).to_string()),
        }
    }

    /// An answer that breaks the contract: its caller is told no more than that, the plugin's log has
    /// what was wrong with it.
    fn breach(&self, text: String) -> CallError {
        self.output.note_breach(&text);
        CallError::Protocol { text }
    }
}

/// The beginning of a text, as far as [`ERROR_TEXT_LIMIT_BYTES`] go.
fn cut_bytes(mut text: String) -> String {
    if text.len() > ERROR_TEXT_LIMIT_BYTES {
        text.truncate(text.floor_char_boundary(ERROR_TEXT_LIMIT_BYTES));
    }
    text
}

impl Instance for GoatflowInstance {
    fn http(
        &self,
        request: PluginRequest,
        context: CallContext,
    ) -> BoxFuture<'_, Result<PluginResponse, CallError>> {
        let user = context.user.as_deref();
        let arguments = arguments(&request, user, context.language.as_deref());
        let arguments = arguments.map_err(|error| match error {
            ArgumentsError::TooLarge { bytes, limit_bytes } => CallError::TooLarge {
                what: "arguments",
                bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
                limit_bytes: u64::try_from(limit_bytes).unwrap_or(u64::MAX),
            },
            error => CallError::BadRequest {
                text: error.to_string(),
            },
        });
        // All else of the request goes at once: what waits for the plugin is to be small.
        let route = request.route;
        async move {
            let result = self
                .call_function(&route.handler, arguments?, context)
                .await?;
            response(result).map_err(|error| self.breach(error.to_string()))
        }
        .boxed()
    }

    fn call(
        &self,
        function: &str,
        arguments: Bytes,
        context: CallContext,
    ) -> BoxFuture<'_, Result<Bytes, CallError>> {
        let function = function.to_owned();
        async move {
            let result = self.call_function(&function, arguments, context).await?;
            if result.is_empty() {
                return Ok(Bytes::from_static(b"null"));
            }
            check(&result).map_err(|error| self.breach(error.to_string()))?;
            Ok(result)
        }
        .boxed()
    }

    fn ping(&self, context: CallContext) -> BoxFuture<'_, Result<(), CallError>> {
        async move {
            match self.session.ping(Instant::from_std(context.deadline)).await {
                Ok(()) => Ok(()),
                Err(error) => Err(self.failed(error).await),
            }
        }
        .boxed()
    }
}

impl Running for GoatflowInstance {
    fn shutdown(&self, limit: Duration) -> BoxFuture<'_, ()> {
        async move {
            let end = Instant::now() + limit;
            let asked = self
                .client
                .call::<(), Nothing>("Plugin.Shutdown", &(), end)
                .await;
            if let Err(error) = asked {
                tracing::debug!(error = %error, "plugin's shutdown gave no good answer");
            }
            if let Err(error) = self.session.quit(end).await {
                tracing::debug!(error = %error, "plugin did not quit");
            }
            self.stop.cancel();
        }
        .boxed()
    }

    fn closed(&self) -> BoxFuture<'_, String> {
        async move {
            let mut broken = self.broken.subscribe();
            let broken = tokio::select! {
                biased;
                cause = self.session.closed() => return Chain(&*cause).to_string(),
                cause = broken.wait_for(Option::is_some) => {
                    cause.ok().and_then(|cause| cause.clone()).unwrap_or_default()
                }
            };
            match tokio::time::timeout(SESSION_END_LIMIT, self.session.closed()).await {
                Ok(cause) => Chain(&*cause).to_string(),
                Err(_) => broken,
            }
        }
        .boxed()
    }

    fn as_instance(self: Arc<Self>) -> Arc<dyn Instance> {
        self
    }

    fn set_cause(&self, cause: String) {
        self.over.store(true, Ordering::Relaxed);
        self.cause
            .send_if_modified(|known| known.is_none() && known.replace(cause).is_none());
    }
}

impl Drop for GoatflowInstance {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
