//! The end of one instance, wanted or not.

use std::sync::Arc;
use std::time::Duration;

use pinfold_gateway::admin::dto::LogLevel;

use super::shared::Shared;
use super::{Ended, Serving};
use crate::chain::Chain;

/// How much longer than a call may take whoever makes it can hold the instance: the gateway gives
/// up calls a moment after their deadline.
pub(super) const HOLD_GRACE: Duration = Duration::from_secs(1);

/// What an ending came to.
pub(super) enum Ending {
    /// The instance that served was ended on request.
    Stopped { cause: String },
    /// The instance that served ended by itself, after it had served for so long.
    Crashed { cause: String, served: Duration },
    /// An instance that nobody was served by any more, or not yet.
    Reaped,
}

/// Leaves an instance to the next daemon, once calls under way are answered: it is told nothing, and its
/// connection ends. Where that cannot be, it is ended.
pub(super) async fn hand_over(shared: Arc<Shared>, mut serving: Serving, note: String) -> Ending {
    let launcher = shared.catalogue.launcher();
    let generation = serving.generation;
    drained(&shared, &mut serving).await;
    if let Err(error) = launcher.keep(serving.instance, note).await {
        tracing::warn!(plugin.id = %shared.plugin, plugin.generation = generation.0, error = %Chain(&error), "plugin not left to the next daemon");
        end_in_order(shared, serving).await;
        return Ending::Reaped;
    }
    launcher.forget(serving.instance);
    // What it has printed and nobody has read yet is the next daemon's; what it has asked of this one is over.
    serving.output.leave().await;
    shared.note(
        generation,
        LogLevel::Info,
        "goes on, left to the next daemon",
    );
    shared.audit_end(generation, "allow", "left to the next daemon".into());
    Ending::Reaped
}

/// Ends what the daemon before has left of a plugin that is not to run.
pub(super) async fn unwanted(shared: Arc<Shared>) -> Ending {
    if shared.inherited.may_be_left() {
        shared.catalogue.discard_left(Some(&shared.plugin)).await;
    }
    Ending::Reaped
}

/// Ends an instance that is out of the table, in order: calls under way are answered, then its
/// contract's own way, SIGTERM, the whole jail.
pub(super) async fn stop(shared: Arc<Shared>, mut serving: Serving) -> String {
    drained(&shared, &mut serving).await;
    end_in_order(shared, serving).await
}

/// The same once nobody has a call under way.
async fn end_in_order(shared: Arc<Shared>, serving: Serving) -> String {
    let launcher = shared.catalogue.launcher();
    let Serving {
        instance,
        generation,
        running,
        output,
        times,
        ..
    } = serving;
    running.set_cause("stopped on request".into());
    running.shutdown(times.shutdown).await;
    let exited = tokio::time::timeout(times.quit, launcher.exited(instance)).await;
    let cause = match exited {
        Ok(cause) => cause,
        Err(_) => shared.terminate(instance).await,
    };
    launcher.forget(instance);
    output.finish().await;
    shared.note(generation, LogLevel::Info, &format!("stopped: {cause}"));
    let cause = cause.to_string();
    shared.audit_end(generation, "allow", cause.clone());
    cause
}

/// Waits until nobody has a call under way to an instance that is out of the table.
async fn drained(shared: &Shared, serving: &mut Serving) {
    tokio::select! {
        () = serving.released.cancelled() => {}
        () = tokio::time::sleep(serving.times.call + HOLD_GRACE) => {
            tracing::warn!(plugin.id = %shared.plugin, plugin.generation = serving.generation.0, "calls outlast their deadline, ended with their instance");
        }
        _ = shared.catalogue.launcher().exited(serving.instance) => {}
    }
}

/// Finds out why an instance ended that was not asked to, and ends what is left of it.
pub(super) async fn crashed(shared: Arc<Shared>, serving: Serving, ended: Ended) -> Ending {
    let launcher = shared.catalogue.launcher();
    let instance = serving.instance;
    let cause = match ended {
        Ended::Process(cause) => {
            shared.tell_of_kill(serving.generation, &cause);
            cause.to_string()
        }
        Ended::Connection(why) => {
            // Its end by itself may be on the way already, and tells more.
            let limit = serving.times.quit;
            match tokio::time::timeout(limit, launcher.exited(instance)).await {
                Ok(cause) => cause.to_string(),
                Err(_) => {
                    shared.kill(instance).await;
                    format!("its connection is gone: {why}")
                }
            }
        }
        Ended::Silence(count) => {
            shared.kill(instance).await;
            format!("it did not answer {count} pings in a row, and was killed")
        }
    };
    serving.running.set_cause(cause.clone());
    launcher.forget(instance);
    serving.output.finish().await;
    shared.note(
        serving.generation,
        LogLevel::Error,
        &format!("ended: {cause}"),
    );
    shared.audit_end(serving.generation, "error", cause.clone());
    Ending::Crashed {
        cause,
        served: serving.since.elapsed(),
    }
}
