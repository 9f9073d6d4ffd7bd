//! `pinfold policy learn`: has a plugin run watched, and proposes the smallest syscall profile and grants
//! that the run needed.
//!
//! The order to watch is a file of the launcher's owner in the launcher's own state directory, so this runs
//! as that one; the daemon is asked to start the plugin anew, and cannot have it watched. What comes of it
//! is printed, and written only where an option says so.

mod asked;
mod calls;
mod grants;
mod result;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use pinfold_gateway::admin::dto::{Because, PluginDetail, RescanQuery};
use pinfold_policy::{Control, ControlWish, Generation, PluginId, PolicyFile};
use pinfold_sandbox::launcher::review::{FilesError, ProfileUse, ReviewedProfile};
use pinfold_sandbox::seccomp::{Arch, Learnt, Lesson, Profile, ProfileError};
use tokio::signal::unix::{SignalKind, signal};

use self::asked::RunRecords;
use self::calls::Calls;
use self::result::{ActView, Outcome, RunView};
use self::watch::{Watch, WatchError};
use super::diff;
use crate::cli::Context;
use crate::cli::args::LearnArguments;
use crate::cli::exit::{Exit, Failure};
use crate::cli::installation::Installation;
use crate::cli::output;
use crate::cli::owned_file;
use crate::cli::review::{Policy, Review};
use crate::cli::tell::{self, Told};
use crate::store::StoreError;
use crate::store::audit::reader::Reader;

/// Why nothing is learnt.
#[derive(Debug, thiserror::Error)]
enum LearnError {
    #[error("{file} does not allow watched runs", file = .file.display())]
    NotAllowed { file: PathBuf },
    #[error("the syscall profile of the policy cannot be used")]
    Profile(#[source] FilesError),
    #[error("propose a profile")]
    Propose(#[source] ProfileError),
    #[error("there are no syscall filters for this machine's architecture")]
    Architecture,
    #[error("pinfoldd is not running")]
    NotRunning,
    #[error("plugin {plugin:?} is not installed", plugin = .plugin.as_str())]
    NotInstalled { plugin: PluginId },
    #[error("plugin {plugin:?} was started and is not watched", plugin = .plugin.as_str())]
    NotWatched { plugin: PluginId },
    #[error(
        "{path:?} cannot be a profile's file: write NAME.toml, of lower-case letters, digits, _ and -, and \
         no shipped profile's name"
    )]
    ProfileFile { path: PathBuf },
    #[error("{path:?} names no file")]
    File { path: PathBuf },
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error("read what the plugin asked of the host")]
    Audit(#[source] StoreError),
    #[error("take signals")]
    Signals(#[source] std::io::Error),
}

impl From<LearnError> for Failure {
    fn from(error: LearnError) -> Self {
        let (exit, hint) = match &error {
            LearnError::NotAllowed { .. } => (
                Exit::Config,
                Some("write `watched-runs = true` there and start the launcher anew"),
            ),
            LearnError::NotWatched { .. } => (
                Exit::Failed,
                Some(
                    "the launcher reads launcher.toml when it starts: start it anew; its log says why an \
                     order does not count",
                ),
            ),
            LearnError::NotRunning => (
                Exit::Unavailable,
                Some("start it: a run is watched as it is served"),
            ),
            LearnError::NotInstalled { .. } => (
                Exit::Failed,
                Some("`pinfold plugin list` names those that are there"),
            ),
            LearnError::ProfileFile { .. } | LearnError::File { .. } => (Exit::Usage, None),
            LearnError::Profile(_) | LearnError::Propose(_) => (Exit::Config, None),
            LearnError::Architecture => (Exit::Failed, None),
            LearnError::Watch(_) | LearnError::Signals(_) => (Exit::Io, None),
            LearnError::Audit(_) => (
                Exit::Io,
                Some("look whether the daemon's database is there"),
            ),
        };
        let failure = Self::new(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

pub(super) async fn run(context: &Context, arguments: LearnArguments) -> Result<(), Failure> {
    let installation = Installation::open(&context.place)?;
    let review = Review::open(&context.place)?;
    if !review.config.watched_runs {
        let file = review.config_file;
        return Err(LearnError::NotAllowed { file }.into());
    }
    let arch = Arch::native().ok_or(LearnError::Architecture)?;
    let plugin = &arguments.plugin;
    let policy = review.policy(plugin)?;
    let profile = review
        .files
        .profile(ProfileUse::of(&policy.file))
        .map_err(LearnError::Profile)?;
    let name = profile_name(plugin, arguments.profile_out.as_deref())?;
    let mut trail = Reader::open(&context.place.database())
        .await
        .map_err(LearnError::Audit)?;
    let before = trail.heads().await.map_err(LearnError::Audit)?;
    let before = before.iter().map(|head| head.number).max().unwrap_or(0);

    let begun = Instant::now();
    let watch = Watch::begin(&review.config.state_dir, plugin, seconds(&arguments))
        .map_err(LearnError::Watch)?;
    let ran = watched(context, &arguments).await;
    let ended = end(context, plugin, &watch).await;
    let (detail, acts) = ran?;
    ended?;
    let records = watch.records().await.map_err(LearnError::Watch)?;
    let instances = records.iter().map(|record| record.head.generation);
    let instances: Vec<Generation> = instances.collect();
    let asked = asked::read(&mut trail, plugin, before, &instances).await;
    let asked = asked.map_err(LearnError::Audit)?;

    let calls = Calls::of(&records, arch);
    let learnt = propose(&profile, &name, plugin, &calls, arch)?;
    let run = RunView {
        generation: detail.view.generation,
        instances: records.len(),
        seconds: begun.elapsed().as_secs(),
        is_whole: calls.is_whole,
        acts,
    };
    let outcome = outcome(&policy, &profile, learnt, (calls, asked), run);
    write_out(&installation, &arguments, &outcome)?;
    Ok(context.output.give(&outcome, Outcome::page)?)
}

/// Starts the plugin under the order and does what it is to do; until it is over, or somebody wants it to
/// be.
async fn watched(
    context: &Context,
    arguments: &LearnArguments,
) -> Result<(PluginDetail, Vec<ActView>), Failure> {
    let plugin = &arguments.plugin;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(LearnError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(LearnError::Signals)?;
    let work = async {
        let why = RescanQuery::because(Because::LearnBegun);
        let detail = match tell::tell(&context.client, plugin, &why).await? {
            Told::Plugin(detail) => *detail,
            Told::Gone => return Err(not_installed(plugin)),
            Told::NotRunning => return Err(LearnError::NotRunning.into()),
        };
        tell::check(&detail)?;
        if detail.view.watched_until.is_none() {
            let plugin = plugin.clone();
            return Err(LearnError::NotWatched { plugin }.into());
        }
        output::note(&format!(
            "{plugin} runs WATCHED (generation {}): {}",
            detail.view.generation,
            match (&arguments.duration, arguments.acts.is_empty()) {
                (Some(duration), _) => format!("for {duration}"),
                (None, true) => "Ctrl-C ends it".into(),
                (None, false) => "until it has done what it is to do".into(),
            }
        ));
        Ok::<_, Failure>(detail)
    };
    let stopped = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(stopped);
    let detail = tokio::select! {
        detail = work => detail?,
        () = &mut stopped => return Err(Failure::said(Exit::Failed)),
    };
    let mut acts = Vec::new();
    let work = async {
        let start = Instant::now();
        for act in &arguments.acts {
            let called = context
                .client
                .call(plugin, &act.function, Bytes::from(act.arguments.clone()))
                .await;
            let failure = called.err().map(|error| Failure::from(error).to_string());
            if let Some(failure) = &failure {
                output::note(&format!("call {}: {failure}", act.function));
            }
            acts.push(ActView {
                call: act.function.clone(),
                failure,
            });
        }
        match arguments.duration {
            Some(duration) => tokio::time::sleep(duration.0.saturating_sub(start.elapsed())).await,
            None if arguments.acts.is_empty() => std::future::pending::<()>().await,
            None => {}
        }
    };
    tokio::select! {
        () = work => {}
        () = &mut stopped => output::note("interrupted: what was seen until now counts"),
    }
    Ok((detail, acts))
}

/// Takes the order away and has the plugin start without.
async fn end(context: &Context, plugin: &PluginId, watch: &Watch) -> Result<(), Failure> {
    watch.end().map_err(LearnError::Watch)?;
    let why = RescanQuery::because(Because::LearnEnded);
    match tell::tell(&context.client, plugin, &why).await {
        Ok(Told::Plugin(detail)) => {
            if let Err(failure) = tell::check(&detail) {
                output::note(&format!("after the run: {failure}"));
            }
            Ok(())
        }
        Ok(Told::Gone | Told::NotRunning) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn not_installed(plugin: &PluginId) -> Failure {
    let plugin = plugin.clone();
    LearnError::NotInstalled { plugin }.into()
}

/// How long the order is to count: longer than the run, and no longer than any.
fn seconds(arguments: &LearnArguments) -> u64 {
    /// For the start and the end, and for each call.
    const MARGIN: u64 = 120;
    let each = u64::try_from(arguments.acts.len()).unwrap_or(u64::MAX);
    let acts = each.saturating_mul(60);
    match arguments.duration {
        Some(duration) => duration.0.as_secs().saturating_add(acts) + MARGIN,
        None if arguments.acts.is_empty() => u64::MAX,
        None => acts.saturating_add(MARGIN),
    }
}

/// What the profile is to be called: as its file, where one is to be written.
fn profile_name(plugin: &PluginId, file: Option<&Path>) -> Result<String, LearnError> {
    const LONGEST: usize = 64;
    const SUFFIX: &str = "-learnt";
    let Some(path) = file else {
        let stem: String = plugin
            .as_str()
            .chars()
            .take(LONGEST - SUFFIX.len())
            .collect();
        return Ok(format!("{stem}{SUFFIX}"));
    };
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    path.file_name()
        .and_then(|name| name.to_str()?.strip_suffix(".toml"))
        .filter(|stem| (1..=LONGEST).contains(&stem.len()) && stem.bytes().all(is_plain))
        .filter(|stem| !Profile::builtin_names().any(|shipped| shipped == *stem))
        .map(str::to_owned)
        .ok_or_else(|| LearnError::ProfileFile { path: path.into() })
}

fn propose(
    profile: &ReviewedProfile,
    name: &str,
    plugin: &PluginId,
    calls: &Calls,
    arch: Arch,
) -> Result<Learnt, LearnError> {
    let own = profile.path.as_ref().map(|_| profile.text.as_str());
    let lesson = Lesson {
        profile: &profile.profile,
        own,
        name,
        of: plugin.as_str(),
        made: &calls.names(),
        arch,
    };
    lesson.propose().map_err(LearnError::Propose)
}

fn outcome(
    policy: &Policy,
    profile: &ReviewedProfile,
    learnt: Learnt,
    (calls, asked): (Calls, RunRecords),
    run: RunView,
) -> Outcome {
    let grants = grants::fold(&asked.calls, &policy.file.permissions);
    let notes = [asked.notes, grants.notes].concat();
    let mut proposed = PolicyFile {
        profile: learnt.profile.name().to_owned(),
        permissions: grants.permissions,
        // Those that were used the profile switches on.
        syscall_groups: Vec::new(),
        ..policy.file.clone()
    };
    // What a policy wants by default may depend on the profile's name.
    for control in Control::ALL {
        let wanted = policy.file.wanted(*control);
        if proposed.wanted(*control) != wanted {
            let wish = ControlWish::Plain(wanted);
            proposed.controls.insert(control.id().to_owned(), wish);
        }
    }
    let difference = diff::of_policies(
        (format!("{} (now)", policy.path.display()), &policy.file),
        ("proposed".to_owned(), &proposed),
    );
    Outcome::new(
        profile.profile.name(),
        run,
        learnt,
        calls,
        (difference, proposed.to_toml()),
        (grants.refused, notes),
    )
}

/// Writes what options say, where they say.
fn write_out(
    installation: &Installation,
    arguments: &LearnArguments,
    outcome: &Outcome,
) -> Result<(), Failure> {
    for (path, text) in [
        (&arguments.profile_out, outcome.profile_text()),
        (&arguments.policy_out, outcome.policy_text()),
    ] {
        let Some(path) = path else {
            continue;
        };
        let named = path.file_name().and_then(|name| name.to_str());
        let name = named.ok_or_else(|| LearnError::File { path: path.clone() })?;
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let group = installation.daemon_group();
        owned_file::replace(directory, name, text.as_bytes(), group)?;
        output::note(&format!("written: {}", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_called_as_its_file_and_never_as_a_shipped_one() {
        let plugin: PluginId = "hello".parse().unwrap();
        let name = |file: Option<&str>| profile_name(&plugin, file.map(Path::new)).ok();
        assert_eq!(name(None).as_deref(), Some("hello-learnt"));
        assert_eq!(name(Some("/x/mine_2.toml")).as_deref(), Some("mine_2"));
        for refused in ["/x/go.toml", "/x/Mine.toml", "/x/mine", "/x/.toml", "/"] {
            assert_eq!(name(Some(refused)), None, "{refused}");
        }
        let long: PluginId = "x".repeat(63).parse().unwrap();
        assert_eq!(profile_name(&long, None).unwrap().len(), 64);
    }
}
