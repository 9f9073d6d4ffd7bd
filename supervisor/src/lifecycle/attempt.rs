//! One attempt to start a plugin: stage, find its dialect, launch, speak with it until it serves.
//!
//! It owns nothing of the plugin's task, and can be given up at any moment: what it has started by
//! then is ended. Whatever was launched is in the audit trail with its start and its end, also then.

use std::sync::Arc;

use pinfold_gateway::admin::dto::LogLevel;
use pinfold_policy::{Digest, Generation};
use pinfold_sandbox::protocol::{Adopted, Launched, Reply, Request};
use tokio_util::sync::CancellationToken;

use super::Serving;
use super::introduce::{Begun, introduce, not_recorded, record};
use super::not_started::{NotStarted, refused};
use super::output::Drains;
use super::shared::Shared;
use crate::chain::Chain;
use crate::development::DevelopmentError;
use crate::dialect::{Dialect, Manifest, Started};
use crate::events::EventKind;
use crate::launcher::{Kept, LauncherError};
use crate::stage::StageFiles;
use crate::state::{Left, RunningProcess, State};
use crate::store::audit::PLUGIN_END;

/// Why an attempt is made, from the least to the most. One that takes the place of another is made
/// for the greater of their reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trigger {
    /// The plugin ended by itself, and has waited.
    Again,
    /// Its files have changed. A signature may still be on its way.
    Files,
    /// Somebody looks: what serves from the same files is left alone.
    Refresh,
    /// Somebody wants it started anew in any case.
    Restart,
}

/// What an attempt is to do.
pub(super) struct Plan {
    pub(super) shared: Arc<Shared>,
    pub(super) trigger: Trigger,
    /// Cancelled when it is given up.
    pub(super) cancel: CancellationToken,
    /// Whether its steps are the plugin's state: not while another instance serves.
    pub(super) shown: bool,
    /// Files with which there is nothing to do.
    pub(super) unless: Option<Digest>,
    /// Whether the machine was too short of something for the last one.
    pub(super) short: bool,
    /// Files that have served and are started again, whatever the directory holds by now: others
    /// are another attempt's, and may be half a copy.
    pub(super) kept: Option<Files>,
}

/// A plugin's files, read.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) digest: Digest,
    pub(super) dialect: Arc<dyn Dialect>,
    pub(super) manifest: Manifest,
    /// The files themselves, where the daemon writes policies for them.
    stage: Option<Arc<StageFiles>>,
}

impl Files {
    /// Writes the policy for them, where the daemon writes policies at all.
    pub(super) fn grant(&self, shared: &Shared) -> Result<(), DevelopmentError> {
        match (shared.catalogue.development_grants(), &self.stage) {
            (Some(grants), Some(stage)) => grants.write(
                &shared.plugin,
                self.dialect.name(),
                &self.manifest,
                (self.digest, stage),
            ),
            _ => Ok(()),
        }
    }
}

/// What came of an attempt.
pub(super) enum Outcome {
    /// The plugin serves.
    Serves(Box<Candidate>),
    /// There is nothing to do.
    Unchanged,
    /// It does not come to serve.
    Failed(Box<NotStarted>),
    /// It was given up; nothing of it is left, and its records are in the audit trail.
    GivenUp,
}

/// An instance that can serve and does not yet.
pub(super) struct Candidate {
    pub(super) files: Files,
    pub(super) policy: pinfold_policy::PolicyFile,
    pub(super) development_policy: bool,
    pub(super) process: RunningProcess,
    pub(super) started: Started,
    pub(super) serving: Serving,
}

/// Makes the attempt, once it is its turn.
pub(super) async fn attempt(plan: Plan) -> Outcome {
    let turn = tokio::select! {
        biased;
        () = plan.cancel.cancelled() => return Outcome::GivenUp,
        turn = plan.shared.catalogue.turns().wait() => turn,
    };
    Box::pin(turn.lasts(made(&plan))).await
}

async fn made(plan: &Plan) -> Outcome {
    let first = match plan.kept.clone() {
        Some(files) => start(plan, files).await,
        None => once(plan).await,
    };
    match first {
        // The launcher has let the stage go for want of room.
        Outcome::Failed(not_started) if not_started.unknown => once(plan).await,
        Outcome::Failed(not_started) if plan.trigger == Trigger::Files && not_started.late => {
            // The program may have come before its signature.
            let debounce = plan.shared.catalogue.settings().discovery.debounce.0;
            tokio::select! {
                () = plan.cancel.cancelled() => Outcome::GivenUp,
                () = tokio::time::sleep(debounce) => once(plan).await,
            }
        }
        outcome => outcome,
    }
}

async fn once(plan: &Plan) -> Outcome {
    let shared = &plan.shared;
    let staged = tokio::select! {
        biased;
        () = plan.cancel.cancelled() => return Outcome::GivenUp,
        staged = stage(shared) => staged,
    };
    let (digest, stage) = match staged {
        Ok(staged) => staged,
        Err(error) => return refused("stage", &error).into(),
    };
    if plan.unless == Some(digest) {
        return Outcome::Unchanged;
    }
    let files = match read(shared, digest, stage) {
        Ok(files) => files,
        Err(not_started) => return not_started.of(digest, None).into(),
    };
    if plan.shown {
        shared.enter(State::Staged, None, |snapshot| {
            snapshot.reason = None;
            snapshot.next_start = None;
            snapshot.digest = Some(files.digest);
            snapshot.dialect = Some(files.dialect.name());
            snapshot.manifest = Some(files.manifest.clone());
        });
    }
    start(plan, files).await
}

/// From files to an instance that can serve.
async fn start(plan: &Plan, files: Files) -> Outcome {
    let shared = &plan.shared;
    let digest = files.digest;
    if plan.cancel.is_cancelled() {
        return Outcome::GivenUp;
    }
    if let Err(error) = files.grant(shared) {
        return NotStarted::failed(&Chain(&error))
            .again()
            .of(digest, None)
            .into();
    }
    // Nothing is started, or taken from the launcher, only to be ended because it cannot be recorded.
    let checked = shared.catalogue.check_written(&shared.plugin, plan.short);
    if let Err(error) = checked.await {
        return not_recorded(&error).of(digest, None).into();
    }
    if let Some(outcome) = Box::pin(take_over(plan, &files)).await {
        return outcome;
    }
    let generation = shared.inherited.generations.next();
    if plan.shown {
        shared.enter(State::Starting, None, |snapshot| {
            snapshot.generation = generation;
        });
    }
    // Waited for in any case: the answer says what there is to end.
    let launched = match launch(shared, files.dialect.as_ref(), generation, digest).await {
        Ok(launched) => launched,
        Err(not_started) => return not_started.of(digest, Some(generation)).into(),
    };
    let begun = Begun {
        generation,
        launched,
        resumed: None,
    };
    let outcome = introduced(plan, files, begun).await;
    if let Outcome::Failed(not_started) = &outcome {
        shared.audit_end(generation, "error", not_started.reason.clone());
    }
    outcome
}

/// Goes on with what the daemon before has left of the plugin, where it has and that can be; where it
/// cannot, that is ended, and another is to be started.
async fn take_over(plan: &Plan, files: &Files) -> Option<Outcome> {
    let shared = &plan.shared;
    if !shared.inherited.may_be_left() {
        return None;
    }
    // Somebody who wants it started anew does not want that one.
    if plan.trigger == Trigger::Restart {
        shared.catalogue.discard_left(Some(&shared.plugin)).await;
        return None;
    }
    let launcher = shared.catalogue.launcher();
    let kept = launcher.adopt(shared.plugin.clone(), files.digest).await;
    let Adopted {
        launched,
        generation,
        note,
    } = match kept {
        Ok(Kept::Adopted(adopted)) => *adopted,
        Ok(Kept::Nothing) => return None,
        Ok(Kept::Ended(ended)) => {
            // Its number is not another's.
            shared.inherited.generations.go_on_after(ended.generation);
            replaced(shared, Some(ended.generation), ended.reason);
            return None;
        }
        Err(error) => {
            replaced(shared, None, Chain(&error).to_string());
            return None;
        }
    };
    if !shared.inherited.generations.go_on_after(generation) {
        shared.kill(launched.instance).await;
        launcher.forget(launched.instance);
        let reason = "no daemon gives an instance this number".to_owned();
        replaced(shared, Some(generation), reason);
        return None;
    }
    if plan.shown {
        shared.enter(State::Starting, None, |snapshot| {
            snapshot.generation = generation;
        });
    }
    let begun = Begun {
        generation,
        launched,
        resumed: Some(note),
    };
    match introduced(plan, files.clone(), begun).await {
        Outcome::Failed(not_started) => {
            replaced(shared, Some(generation), not_started.text());
            None
        }
        outcome @ Outcome::Serves(_) => {
            let cause = "left by the daemon before".to_owned();
            shared.change(|snapshot| snapshot.left = Some(Left::TakenOver));
            shared.tell(EventKind::TakenOver, generation, cause);
            Some(outcome)
        }
        outcome => Some(outcome),
    }
}

/// What the daemon before left of the plugin is gone. Which instance that was is not known where the
/// launcher did not answer.
fn replaced(shared: &Shared, generation: Option<Generation>, reason: String) {
    shared.change(|snapshot| snapshot.left = Some(Left::Replaced(reason.clone())));
    let noted = generation.unwrap_or_else(|| shared.snapshot().generation);
    let line = format!("not taken over from the daemon before, started anew: {reason}");
    shared.note(noted, LogLevel::Warn, &line);
    let detail = format!("not taken over: {reason}");
    match generation {
        Some(generation) => shared.audit_end(generation, "error", detail),
        None => shared.audit(PLUGIN_END, "unknown generation".into(), "error", detail),
    }
    shared.tell(EventKind::Replaced, noted, reason);
}

/// From a process to an instance that can serve. One that does not come to that is ended; where it is
/// given up its end is in the audit trail, where it has failed whoever calls this puts it there.
async fn introduced(plan: &Plan, files: Files, begun: Begun) -> Outcome {
    let shared = &plan.shared;
    let digest = files.digest;
    let (instance, generation) = (begun.launched.instance, begun.generation);
    let output = Arc::new(Drains::new(Arc::clone(&shared.log), generation));
    // Waited for in any case: its code may have run already.
    let introduced = match record(shared, digest, begun).await {
        Ok(recorded) => tokio::select! {
            biased;
            () = plan.cancel.cancelled() => None,
            introduced = introduce(shared, files, recorded, Arc::clone(&output), plan.shown) => {
                Some(introduced)
            }
        },
        Err(not_started) => Some(Err(not_started)),
    };
    if let Some(Ok(candidate)) = introduced {
        return Outcome::Serves(Box::new(candidate));
    }
    let cause = shared.kill(instance).await;
    shared.catalogue.launcher().forget(instance);
    // What it has asked is to be in the trail with its end at the latest.
    output.finish().await;
    if let Some(Err(not_started)) = introduced {
        return not_started.of(digest, Some(generation)).into();
    }
    let detail = format!("given up before it served: {cause}");
    shared.audit_end(generation, "allow", detail);
    Outcome::GivenUp
}

/// Stages the plugin's directory as it is now.
async fn stage(shared: &Shared) -> Result<(Digest, StageFiles), LauncherError> {
    let request = Request::Stage {
        plugin: shared.plugin.clone(),
    };
    match shared.catalogue.launcher().ask(request).await? {
        Reply::Staged { digest, root } => Ok((digest, StageFiles::new(root))),
        _ => Err(LauncherError::Confused),
    }
}

fn read(shared: &Shared, digest: Digest, stage: StageFiles) -> Result<Files, NotStarted> {
    let dialects = shared.catalogue.dialects();
    let Some(dialect) = dialects
        .iter()
        .find(|dialect| stage.has(dialect.manifest_file()))
    else {
        let known: Vec<_> = dialects
            .iter()
            .map(|dialect| dialect.manifest_file())
            .collect();
        let reason = format!("its directory has no manifest ({})", known.join(", "));
        return Err(NotStarted::new(State::Blocked, reason));
    };
    let manifest = dialect
        .manifest(&shared.plugin, &stage)
        .map_err(|error| NotStarted::dialect(&error))?;
    Ok(Files {
        digest,
        dialect: Arc::clone(dialect),
        manifest,
        stage: shared
            .catalogue
            .development_grants()
            .map(|_| Arc::new(stage)),
    })
}

async fn launch(
    shared: &Shared,
    dialect: &dyn Dialect,
    generation: Generation,
    digest: Digest,
) -> Result<Launched, NotStarted> {
    let request = Request::Launch {
        plugin: shared.plugin.clone(),
        generation,
        digest,
        values: dialect.launch_values(),
    };
    match shared.catalogue.launcher().ask(request).await {
        Ok(Reply::Launched(launched)) => Ok(launched),
        Ok(_) => Err(NotStarted::failed(&LauncherError::Confused)),
        Err(error) => Err(refused("launch", &error)),
    }
}
