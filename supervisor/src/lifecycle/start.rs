//! One attempt to start a plugin: stage, find its dialect, launch, speak with it until it serves.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pinfold_gateway::admin::dto::{LogLevel, LogStream};
use pinfold_policy::{Digest, Generation, InstanceId, PolicyFile};
use pinfold_sandbox::protocol::{
    ExitCause, Failure, FailureKind, Launched, Reply, Request, SocketDirectory,
};
use tokio::net::unix::pipe;

use super::output::Drains;
use super::{Lifecycle, NotStarted, Serving};
use crate::chain::Chain;
use crate::dialect::{Connect, Dialect, DialectError, Manifest, Process, Started};
use crate::launcher::{Launcher, LauncherError};
use crate::stage::StageFiles;
use crate::state::{RunningProcess, State};

/// Largest policy file that the launcher hands over.
const POLICY_LIMIT_BYTES: usize = pinfold_policy::document::DOCUMENT_LIMIT_BYTES;

/// How long what a plugin said before its end may take to be read.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(500);

impl Lifecycle {
    /// Starts the plugin.
    pub(super) async fn start(&self) -> Result<Serving, NotStarted> {
        self.enter(State::Discovered, None, |snapshot| snapshot.reason = None);
        let (digest, stage) = self
            .stage()
            .await
            .map_err(|error| refused("stage", &error))?;
        let (dialect, manifest) = self.manifest(&stage)?;
        self.enter(State::Staged, None, |snapshot| {
            snapshot.digest = Some(digest);
            snapshot.dialect = Some(dialect.name());
            snapshot.manifest = Some(manifest.clone());
        });
        self.catalogue
            .development_grants()
            .map_or(Ok(()), |grants| {
                grants.write(&self.plugin, dialect.name(), &manifest, (digest, &stage))
            })
            .map_err(|error| NotStarted::failed(&Chain(&error)))?;
        let generation = Generation(self.snapshot.borrow().generation.0.saturating_add(1));
        self.enter(State::Starting, None, |snapshot| {
            snapshot.generation = generation
        });
        let launched = self.launch(dialect.as_ref(), generation, digest).await?;
        let instance = launched.instance;
        match self
            .introduce(dialect.as_ref(), manifest, generation, launched)
            .await
        {
            Ok(serving) => Ok(serving),
            Err(not_started) => {
                self.kill(instance).await;
                self.catalogue.launcher().forget(instance);
                Err(not_started)
            }
        }
    }

    /// Stages the plugin's directory as it is now.
    pub(super) async fn stage(&self) -> Result<(Digest, StageFiles), LauncherError> {
        let request = Request::Stage {
            plugin: self.plugin.clone(),
        };
        match self.catalogue.launcher().ask(request).await? {
            Reply::Staged { digest, root } => Ok((digest, StageFiles::new(root))),
            _ => Err(LauncherError::Confused),
        }
    }

    fn manifest(&self, stage: &StageFiles) -> Result<(Arc<dyn Dialect>, Manifest), NotStarted> {
        let dialects = self.catalogue.dialects();
        let Some(dialect) = dialects
            .iter()
            .find(|dialect| stage.has(dialect.manifest_file()))
        else {
            let known: Vec<_> = dialects
                .iter()
                .map(|dialect| dialect.manifest_file())
                .collect();
            return Err(NotStarted {
                state: State::Blocked,
                reason: format!("its directory has no manifest ({})", known.join(", ")),
                hint: None,
            });
        };
        let manifest = dialect
            .manifest(&self.plugin, stage)
            .map_err(|error| NotStarted::dialect(&error))?;
        Ok((Arc::clone(dialect), manifest))
    }

    async fn launch(
        &self,
        dialect: &dyn Dialect,
        generation: Generation,
        digest: Digest,
    ) -> Result<Launched, NotStarted> {
        let request = Request::Launch {
            plugin: self.plugin.clone(),
            generation,
            digest,
            values: dialect.launch_values(),
        };
        match self.catalogue.launcher().ask(request).await {
            Ok(Reply::Launched(launched)) => Ok(launched),
            Ok(_) => Err(NotStarted::failed(&LauncherError::Confused)),
            Err(error) => Err(refused("launch", &error)),
        }
    }

    /// From a started process to a plugin that serves. Whoever calls this ends the process where it
    /// fails.
    async fn introduce(
        &self,
        dialect: &dyn Dialect,
        manifest: Manifest,
        generation: Generation,
        launched: Launched,
    ) -> Result<Serving, NotStarted> {
        let Launched {
            instance,
            pid,
            stdout,
            stderr,
            policy,
            tmp_directory,
            ..
        } = launched;
        let policy = read_policy(policy)?;
        let running = RunningProcess {
            instance,
            pid,
            missing: launched.missing,
            trust: launched.trust,
        };
        self.change(|snapshot| {
            snapshot.policy = Some(policy.clone());
            snapshot.development_policy = launched.development_policy;
            snapshot.running = Some(running);
        });
        for (what, says, is) in [
            ("dialect", policy.dialect.as_str(), dialect.name()),
            ("entry", policy.entry.as_str(), manifest.entry.as_str()),
        ] {
            if says != is {
                return Err(NotStarted {
                    state: State::Blocked,
                    reason: format!("{what}: the policy says {says:?}, the manifest {is:?}"),
                    hint: Some(format!(
                        "review it, then: pinfold plugin grant {}",
                        self.plugin
                    )),
                });
            }
        }
        let pipe =
            |fd| pipe::Receiver::from_owned_fd(fd).map_err(|error| NotStarted::failed(&error));
        let output = Arc::new(Drains::new(Arc::clone(&self.log), generation));
        output.add(LogStream::Stderr, pipe(stderr)?);
        let (shutdown, quit) = (policy.timeouts.shutdown.0, policy.timeouts.quit.0);
        let launcher = Arc::clone(self.catalogue.launcher());
        let known = self
            .catalogue
            .found()
            .await
            .map_err(|error| NotStarted::failed(&Chain(&error)))?;
        let process = Process {
            plugin: self.plugin.clone(),
            known,
            manifest,
            policy,
            generation,
            output: Arc::clone(&output),
            tmp_directory,
            connect: Arc::new(JailSockets {
                launcher: Arc::clone(&launcher),
                instance,
            }),
            host: Arc::clone(self.catalogue.host()),
        };
        let stdout = pipe(stdout)?;
        let mut starting = dialect.start(process, stdout);
        let started: Started = tokio::select! {
            // What killed it says more than that it is gone.
            biased;
            cause = launcher.exited(instance) => {
                // And what it said before may be why.
                let ended = tokio::time::timeout(LAST_WORDS_LIMIT, starting).await;
                output.finish().await;
                self.change(|snapshot| snapshot.last_exit = Some(cause.to_string()));
                Err(match ended {
                    Ok(Err(error)) => NotStarted::dialect(&error).because(&cause),
                    _ => NotStarted::failed(&format_args!("while starting: {cause}")),
                })
            }
            started = &mut starting => match started {
                Ok(started) => Ok(started),
                Err(error) => Err(self.not_introduced(instance, &error).await),
            },
        }?;
        self.log.note(
            generation,
            LogLevel::Info,
            &format!("started, process {pid}"),
        );
        Ok(Serving {
            instance,
            started,
            output,
            shutdown,
            quit,
        })
    }

    /// The dialect's error, or the end of the process where that is what caused it.
    async fn not_introduced(&self, instance: InstanceId, error: &DialectError) -> NotStarted {
        if let Some(limit) = error.wait_for_its_end()
            && let Ok(cause) =
                tokio::time::timeout(limit, self.catalogue.launcher().exited(instance)).await
        {
            self.change(|snapshot| snapshot.last_exit = Some(cause.to_string()));
            return NotStarted::dialect(error).because(&cause);
        }
        NotStarted::dialect(error)
    }
}

impl NotStarted {
    fn failed(reason: &dyn std::fmt::Display) -> Self {
        Self {
            state: State::Failed,
            reason: reason.to_string(),
            hint: None,
        }
    }

    /// The same, and how its process ended.
    fn because(self, cause: &ExitCause) -> Self {
        let reason = format!("{}: {cause}", self.reason);
        Self { reason, ..self }
    }

    fn dialect(error: &DialectError) -> Self {
        let state = if error.blocks() {
            State::Blocked
        } else {
            State::Failed
        };
        Self {
            state,
            reason: Chain(error).to_string(),
            hint: None,
        }
    }
}

/// What the launcher refused or could not do.
fn refused(what: &str, error: &LauncherError) -> NotStarted {
    let blocked = matches!(
        error,
        LauncherError::Failed(Failure {
            kind: FailureKind::Policy | FailureKind::Trust | FailureKind::Control,
            ..
        })
    );
    NotStarted {
        state: if blocked {
            State::Blocked
        } else {
            State::Failed
        },
        reason: format!("{what}: {}", Chain(error)),
        hint: error.hint().map(str::to_owned),
    }
}

fn read_policy(file: OwnedFd) -> Result<PolicyFile, NotStarted> {
    use std::io::{Read as _, Seek as _};
    let mut file = std::fs::File::from(file);
    let mut bytes = Vec::new();
    let limit = POLICY_LIMIT_BYTES as u64 + 1;
    file.rewind()
        .and_then(|()| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| NotStarted::failed(&format_args!("read the policy as used: {error}")))?;
    PolicyFile::parse(&bytes)
        .map_err(|error| NotStarted::failed(&format_args!("the policy as used: {error}")))
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
}
