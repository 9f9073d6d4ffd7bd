//! From a started process to an instance that can serve.

use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pinfold_gateway::admin::dto::{LogLevel, LogStream};
use pinfold_policy::{Digest, Generation, InstanceId, PolicyFile};
use pinfold_sandbox::protocol::{Launched, Loopback, SocketDirectory};
use sha2::{Digest as _, Sha256};
use tokio::net::unix::pipe;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempt::{Candidate, Files};
use super::health::Pulse;
use super::not_started::NotStarted;
use super::output::Drains;
use super::shared::Shared;
use super::{Serving, Times, way_out};
use crate::chain::Chain;
use crate::dialect::{Connect, DialectError, Process, Started};
use crate::launcher::Launcher;
use crate::state::{RunningProcess, State};
use crate::store::StoreError;
use crate::store::audit::Start;

/// Largest policy file that the launcher hands over.
const POLICY_LIMIT_BYTES: usize = pinfold_policy::document::DOCUMENT_LIMIT_BYTES;

/// How long what a plugin said before its end may take to be read.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(500);

/// How long it may take to see which plugins there are, while one that starts waits for it.
const KNOWN_LIMIT: Duration = Duration::from_secs(2);

/// A process, started now or left by the daemon before.
pub(super) struct Begun {
    pub(super) generation: Generation,
    pub(super) launched: Launched,
    /// What that daemon left to be known, where it was that one that started it.
    pub(super) resumed: Option<String>,
}

/// A process whose start is in the audit trail.
pub(super) struct Recorded {
    begun: Begun,
    /// As the launcher used it.
    policy: PolicyFile,
}

/// Commits the start of a process to the audit trail, before it serves. It begins by itself meanwhile.
///
/// # Cancellation
/// Dropped, it leaves open whether the start is recorded, of code that may have run: so it is waited for.
pub(super) async fn record(
    shared: &Shared,
    digest: Digest,
    begun: Begun,
) -> Result<Recorded, NotStarted> {
    let launched = &begun.launched;
    let (policy, policy_digest) = read_policy(&launched.policy)?;
    let start = Start {
        plugin: &shared.plugin,
        generation: begun.generation,
        digest,
        trust: &launched.trust,
        taken_over: begun.resumed.is_some(),
        watched_until: launched.watched_until,
        policy: policy_digest,
    };
    let recorded = shared.catalogue.store().audit_start(&start).await;
    recorded.map_err(|error| not_recorded(&error))?;
    Ok(Recorded { begun, policy })
}

/// Speaks with a process, whose start is recorded, until it can serve. What it prints and asks is `output`'s
/// from then on. Whoever calls this ends the process, and then that, where this fails or is given up.
pub(super) async fn introduce(
    shared: &Shared,
    files: Files,
    recorded: Recorded,
    output: Arc<Drains>,
    shown: bool,
) -> Result<Candidate, NotStarted> {
    let Recorded { begun, policy } = recorded;
    let Begun {
        generation,
        launched,
        resumed,
    } = begun;
    let taken_over = resumed.is_some();
    let Launched {
        instance,
        pid,
        stdout,
        stderr,
        policy: policy_file,
        tmp_directory,
        development_policy,
        missing,
        trust,
        watched_until,
        listeners,
        ..
    } = launched;
    // It is read.
    drop(policy_file);
    let running = RunningProcess {
        instance,
        pid,
        missing,
        trust,
        taken_over,
        watched_until,
    };
    if let Some(until) = watched_until {
        let line = format!("WATCHED until {until}: each of its system calls is noted");
        shared.note(generation, LogLevel::Warn, &line);
    }
    if shown {
        shared.change(|snapshot| {
            snapshot.policy = Some(policy.clone());
            snapshot.development_policy = development_policy;
            snapshot.running = Some(running.clone());
        });
    }
    agree(shared, &files, &policy)?;
    let pipe = |fd| pipe::Receiver::from_owned_fd(fd).map_err(|error| NotStarted::failed(&error));
    output.add(LogStream::Stderr, pipe(stderr)?);
    let launcher = Arc::clone(shared.catalogue.launcher());
    // A directory that cannot be read is no reason to keep a plugin down, unless it never was: some of what is
    // meant for a plugin of a longer name would be this one's.
    let known = shared.catalogue.found_or_listed(KNOWN_LIMIT).await;
    let known = known.ok_or_else(|| {
        NotStarted::failed(
            &"which plugins there are is not known: the plugin directory could not be read yet",
        )
        .short()
    })?;
    let mut process = Process {
        plugin: shared.plugin.clone(),
        known,
        manifest: files.manifest.clone(),
        policy: policy.clone(),
        generation,
        output: Arc::clone(&output),
        resumed,
        tmp_directory,
        connect: Arc::new(JailSockets {
            launcher: Arc::clone(&launcher),
            instance,
        }),
        host: Arc::clone(shared.catalogue.host()),
        proxied: None,
    };
    // From its first moment, with what its manifest asks for: it may need the way out to start.
    process.proxied = way_out::open(
        listeners,
        process.caller(None),
        Arc::clone(&process.host),
        Arc::clone(&launcher),
        instance,
        &output,
    )
    .map_err(|error| NotStarted::failed(&error))?;
    let dialect = Arc::clone(&files.dialect);
    let mut starting = dialect.start(process, pipe(stdout)?);
    let started: Started = tokio::select! {
        // What killed it says more than that it is gone.
        biased;
        cause = launcher.exited(instance) => {
            shared.tell_of_kill(generation, &cause);
            // And what it said before may be why.
            let ended = tokio::time::timeout(LAST_WORDS_LIMIT, starting).await;
            output.finish().await;
            Err(match ended {
                Ok(Err(error)) => NotStarted::dialect(&error).because(&cause),
                _ => NotStarted::failed(&format_args!("while starting: {cause}")).ended(&cause),
            })
        }
        started = &mut starting => match started {
            Ok(started) => Ok(started),
            Err(error) => Err(not_introduced(shared, generation, instance, &error).await),
        },
    }?;
    // Committed before it serves too: they are its own also while the next daemon starts.
    let routes = &started.offer.routes;
    let kept = shared.catalogue.store().keep_routes(&shared.plugin, routes);
    kept.await.map_err(|error| not_recorded(&error))?;
    shared.note(
        generation,
        LogLevel::Info,
        &match taken_over {
            true => format!("taken over, process {pid}"),
            false => format!("started, process {pid}"),
        },
    );
    let times = Times {
        call: policy.timeouts.call.0,
        shutdown: policy.timeouts.shutdown.0,
        quit: policy.timeouts.quit.0,
    };
    let settings = shared.catalogue.settings();
    let serving = Serving {
        instance,
        generation,
        digest: files.digest,
        pulse: Pulse::new(Arc::clone(&started.instance), &settings.health),
        running: Arc::clone(&started.instance),
        output,
        // Of its own until it is put into the table.
        released: CancellationToken::new(),
        resume: started.resume.clone(),
        since: Instant::now(),
        times,
    };
    Ok(Candidate {
        files,
        policy,
        development_policy,
        process: running,
        started,
        serving,
    })
}

/// What the policy says of the files must be so.
fn agree(shared: &Shared, files: &Files, policy: &PolicyFile) -> Result<(), NotStarted> {
    for (what, says, is) in [
        ("dialect", policy.dialect.as_str(), files.dialect.name()),
        (
            "entry",
            policy.entry.as_str(),
            files.manifest.entry.as_str(),
        ),
    ] {
        if says != is {
            let reason = format!("{what}: the policy says {says:?}, the manifest {is:?}");
            let hint = format!("review it, then: pinfold plugin grant {}", shared.plugin);
            return Err(NotStarted::new(State::Blocked, reason).with_hint(hint));
        }
    }
    Ok(())
}

/// The dialect's error, or the end of the process where that is what caused it.
async fn not_introduced(
    shared: &Shared,
    generation: Generation,
    instance: InstanceId,
    error: &DialectError,
) -> NotStarted {
    let launcher = shared.catalogue.launcher();
    if let Some(limit) = error.wait_for_its_end()
        && let Ok(cause) = tokio::time::timeout(limit, launcher.exited(instance)).await
    {
        shared.tell_of_kill(generation, &cause);
        return NotStarted::dialect(error).because(&cause);
    }
    NotStarted::dialect(error)
}

fn read_policy(file: &OwnedFd) -> Result<(PolicyFile, Digest), NotStarted> {
    let bytes = read_whole(file)
        .map_err(|error| NotStarted::failed(&format_args!("read the policy as used: {error}")))?;
    let policy = PolicyFile::parse(&bytes)
        .map_err(|error| NotStarted::failed(&format_args!("the policy as used: {error}")))?;
    Ok((policy, Digest(Sha256::digest(&bytes).into())))
}

fn read_whole(file: &OwnedFd) -> std::io::Result<Vec<u8>> {
    use std::io::{Read as _, Seek as _};
    let mut file = std::fs::File::from(file.try_clone()?);
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(POLICY_LIMIT_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is not in the audit trail does not run; it may another time.
pub(super) fn not_recorded(error: &StoreError) -> NotStarted {
    let not_started = NotStarted::failed(&Chain(error)).short();
    match error.obstacle() {
        Some(obstacle) => not_started.with_hint(obstacle.hint().into()),
        None => not_started,
    }
}

/// The sockets in one instance's jail, reached through the launcher.
struct JailSockets {
    launcher: Arc<Launcher>,
    instance: InstanceId,
}

impl Connect for JailSockets {
    fn connect(
        &self,
        directory: SocketDirectory,
        name: String,
    ) -> BoxFuture<'_, Result<OwnedFd, DialectError>> {
        self.launcher
            .connect(self.instance, directory, name)
            .map(|result| result.map_err(DialectError::Connect))
            .boxed()
    }

    fn connect_port(
        &self,
        loopback: Loopback,
        port: NonZeroU16,
    ) -> BoxFuture<'_, Result<OwnedFd, DialectError>> {
        self.launcher
            .connect_port(self.instance, loopback, port)
            .map(|result| result.map_err(DialectError::Connect))
            .boxed()
    }
}
