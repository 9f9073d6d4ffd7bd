//! A plugin's place in the table: of one that serves, which tells when nobody uses it any more,
//! and of one that is down, which says so.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pinfold_gateway::{CallError, Entry, Instance, PluginRequest, PluginResponse};
use pinfold_policy::CallContext;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::state::Snapshot;

/// An instance in the table. Whoever calls it holds it, so that the last holder's end tells that
/// no call is under way.
struct Held {
    instance: Arc<dyn Instance>,
    _released: DropGuard,
}

/// The instance, and what is cancelled when its last holder lets go of it.
pub(super) fn held(instance: Arc<dyn Instance>) -> (Arc<dyn Instance>, CancellationToken) {
    let released = CancellationToken::new();
    let held = Held {
        instance,
        _released: released.clone().drop_guard(),
    };
    (Arc::new(held), released)
}

impl Instance for Held {
    fn http(
        &self,
        request: PluginRequest,
        context: CallContext,
    ) -> BoxFuture<'_, Result<PluginResponse, CallError>> {
        self.instance.http(request, context)
    }

    fn call(
        &self,
        function: &str,
        arguments: Bytes,
        context: CallContext,
    ) -> BoxFuture<'_, Result<Bytes, CallError>> {
        self.instance.call(function, arguments, context)
    }

    fn ping(&self, context: CallContext) -> BoxFuture<'_, Result<(), CallError>> {
        self.instance.ping(context)
    }
}

/// In place of the instance of a plugin that has none.
struct Closed(watch::Receiver<Arc<Snapshot>>);

/// Answers that nobody is there, and why.
pub(super) fn nobody(snapshot: watch::Receiver<Arc<Snapshot>>) -> Arc<dyn Instance> {
    Arc::new(Closed(snapshot))
}

/// The same place in the table, with nobody there.
pub(super) fn closed(entry: &Entry, snapshot: watch::Receiver<Arc<Snapshot>>) -> Entry {
    Entry {
        plugin: entry.plugin.clone(),
        version: entry.version.clone(),
        generation: entry.generation,
        routes: entry.routes.clone(),
        instance: nobody(snapshot),
        call_timeout: entry.call_timeout,
        calls_per_second: entry.calls_per_second,
        meter: Arc::clone(&entry.meter),
    }
}

impl Closed {
    fn refusal(&self) -> CallError {
        let snapshot = self.0.borrow();
        if snapshot.enabled {
            CallError::NotReady {
                state: snapshot.state.as_str().into(),
            }
        } else {
            CallError::Disabled
        }
    }
}

impl Instance for Closed {
    fn http(
        &self,
        _: PluginRequest,
        _: CallContext,
    ) -> BoxFuture<'_, Result<PluginResponse, CallError>> {
        std::future::ready(Err(self.refusal())).boxed()
    }

    fn call(&self, _: &str, _: Bytes, _: CallContext) -> BoxFuture<'_, Result<Bytes, CallError>> {
        std::future::ready(Err(self.refusal())).boxed()
    }

    fn ping(&self, _: CallContext) -> BoxFuture<'_, Result<(), CallError>> {
        std::future::ready(Err(self.refusal())).boxed()
    }
}
