//! The daemon's beginning: arguments, directories, the launcher, and root given up, all before the
//! first thread.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use pinfold_policy::{LauncherConfig, LauncherConfigError};

use crate::config::{Config, Credentials};
use crate::manager::{Sockets, SocketsError};
use crate::place::Place;
use crate::run::{self, RunError, Start};
use crate::{development, privileges, telemetry};

/// Exit status for a configuration that is refused (sysexits.h, `EX_CONFIG`).
const EXIT_CONFIG: u8 = 78;
/// Exit status when the launcher is gone and both are to be started again (`EX_TEMPFAIL`).
const EXIT_AGAIN: u8 = 75;

/// How long the runtime's threads may take to end once everything else has.
const THREADS_LIMIT: Duration = Duration::from_secs(2);

/// Serves plugins over HTTP, each in a jail of its own.
#[derive(Debug, Parser)]
#[command(name = "pinfoldd", version, about)]
struct Arguments {
    /// The daemon's configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The launcher's configuration
    #[arg(long, value_name = "FILE")]
    launcher_config: Option<PathBuf>,
    /// The launcher's program; by default the one beside this program
    #[arg(long, value_name = "FILE")]
    launcher: Option<PathBuf>,
    /// The socket of a launcher that is a service of its own
    #[arg(long, value_name = "PATH", conflicts_with = "launcher")]
    launcher_socket: Option<PathBuf>,
    /// Run a developer's installation: its directories are made, plugins get what they ask for
    #[arg(long)]
    dev: bool,
    /// Where the developer's installation is
    #[arg(long, value_name = "DIR", requires = "dev")]
    dev_dir: Option<PathBuf>,
    /// Put a copy of this directory into the developer's plugin directory first
    #[arg(long, value_name = "DIR", requires = "dev")]
    with_plugin: Vec<PathBuf>,
    /// Address to listen on, whatever the configuration says
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<std::net::SocketAddr>,
}

/// What can be typed, for the manual page.
pub(crate) fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the daemon and gives its exit status: 0 asked to stop, 75 the launcher is gone (start
/// again), 78 configuration refused (also sockets that the service manager passed), or a database of a
/// later version, 1 anything else.
#[must_use]
#[expect(
    clippy::print_stderr,
    reason = "errors before and after logging go to whoever started it"
)]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // First of all, while nothing else has their numbers.
    let sockets = Sockets::passed();
    let kept = sockets.as_ref().ok().and_then(|it| it.again().ok());
    match begin(arguments, sockets) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pinfoldd: {error:#}");
            if let Some(hint) = error.downcast_ref().and_then(RunError::hint) {
                eprintln!("hint: {hint}");
            }
            let again = matches!(error.downcast_ref(), Some(RunError::LauncherGone(_)));
            let config = error.is::<crate::config::ConfigError>()
                || error.is::<LauncherConfigError>()
                || error.is::<UnreadLauncherConfig>()
                || error.is::<SocketsError>()
                || error.downcast_ref().is_some_and(RunError::is_final);
            ExitCode::from(if again {
                EXIT_AGAIN
            } else if config {
                if let Some(kept) = kept {
                    kept.turn_away();
                }
                EXIT_CONFIG
            } else {
                1
            })
        }
    }
}

fn begin(arguments: Arguments, sockets: Result<Sockets, SocketsError>) -> anyhow::Result<()> {
    let sockets = sockets?;
    // Read once and kept. Before Linux 6.4 it is in /proc/self/auxv, which is root's as soon as this process is not
    // dumpable, and who then asks for it panics.
    let _page_bytes = rustix::param::page_size();
    let mut place = if arguments.dev {
        let base = arguments
            .dev_dir
            .clone()
            .or_else(Place::development_base)
            .context("neither XDG_STATE_HOME nor HOME is set: give --dev-dir")?;
        development::set_up(&base, &arguments.with_plugin)?
    } else {
        Place::service()
    };
    // From here on what this process makes is its user's alone, but for what says otherwise where it
    // is made. A developer's installation, before this, has directories that others pass through.
    nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
    if let Some(path) = arguments.config {
        place.config = path;
    }
    if let Some(path) = arguments.launcher_config {
        place.launcher_config = path;
    }
    let config = Config::read(&place.config)?;
    let mut config = config.with(&Credentials::passed(), &place.config)?;
    if let Some(listen) = arguments.listen {
        config.listen = listen;
    }
    let launcher_config = read_launcher_config(&place.launcher_config)?;
    let log = telemetry::start(&config.log, config.log_format)?;
    if let Err(error) = raise_descriptors() {
        tracing::warn!(%error, "limit on open files not raised");
    }
    let is_root = nix::unistd::geteuid().is_root();
    let own = match &arguments.launcher_socket {
        Some(_) => None,
        None => {
            let program = match arguments.launcher {
                Some(path) => path,
                None => own_launcher()?,
            };
            // Only a developer's installation may take policies that the daemon wrote itself.
            let flags = (!arguments.dev).then_some("--no-dev-grants");
            let config = &place.launcher_config;
            Some(pinfold_sandbox::client::spawn(&program, config, flags)?)
        }
    };
    // A service's user is not one who owns it all: its unit has given up root.
    let own_user = !is_root && own.is_some();
    if is_root {
        privileges::become_user(&launcher_config.daemon_user).context("give up root")?;
    }
    let (client, launcher) = match (own, &arguments.launcher_socket) {
        (Some((client, launcher)), _) => (client, Some(launcher)),
        // As the user whom that launcher serves.
        (None, Some(socket)) => (pinfold_sandbox::client::connect(socket)?, None),
        (None, None) => anyhow::bail!("there is no launcher"),
    };
    // After rights were given up, which is for the one thread that there is until here.
    let _together = telemetry::write_together().context("start the log's thread")?;
    let runtime = crate::runtime::start(config.worker_threads).context("start the runtime")?;
    let development = arguments.dev;
    let start = Start {
        place,
        config,
        launcher_config,
        client,
        launcher,
        sockets,
        log,
        development,
        own_user,
    };
    let ended = runtime.block_on(run::run(start));
    // What waits for a file system that does not answer ends with the process.
    runtime.shutdown_timeout(THREADS_LIMIT);
    Ok(ended?)
}

/// Raises the soft limit on descriptors to the hard one: each plugin takes some, and each client. A
/// soft limit is for programs that use select(2).
fn raise_descriptors() -> nix::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

/// `launcher.toml` is not there, or not readable for the daemon's user.
#[derive(Debug, thiserror::Error)]
#[error("read {}", .path.display())]
struct UnreadLauncherConfig {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

fn read_launcher_config(path: &Path) -> anyhow::Result<LauncherConfig> {
    let bytes = std::fs::read(path).map_err(|source| UnreadLauncherConfig {
        path: path.into(),
        source,
    })?;
    LauncherConfig::parse(&bytes).with_context(|| path.display().to_string())
}

/// The launcher in this program's directory, or, where there is none, where packages put it.
fn own_launcher() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find this program's directory")?;
    let beside = own.with_file_name("pinfold-launcher");
    let packaged = Path::new("/usr/libexec/pinfold/pinfold-launcher");
    if !beside.exists() && packaged.exists() {
        return Ok(packaged.into());
    }
    Ok(beside)
}
