//! Starting a launcher of one's own, where no unit does.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::Client;

/// Variables of the environment that a launcher reads: one that only tightens, one that it passes
/// on to plugins.
const PASSED_ON: [&str; 2] = ["GOATFLOW_REQUIRE_SIGNATURES", "TZ"];

/// Why no launcher was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// No pair of sockets.
    #[error("make the launcher's socket")]
    Socket(#[source] io::Error),
    /// The program cannot be executed.
    #[error("execute the launcher {launcher:?}")]
    Execute {
        /// The program.
        launcher: PathBuf,
        /// Its errno.
        #[source]
        source: io::Error,
    },
}

/// Starts `launcher --config config --socket-fd 0 extra…` with one end of a socket pair as its
/// standard input, standard output closed to `/dev/null` and standard error shared with ours.
///
/// The launcher ends, with every jail, when the [`Client`] is dropped; the caller waits for the
/// child.
///
/// # Errors
/// [`SpawnError`].
pub fn spawn<S: AsRef<OsStr>>(
    launcher: &Path,
    config: &Path,
    extra: impl IntoIterator<Item = S>,
) -> Result<(Client, Child), SpawnError> {
    let (ours, theirs) = socket_pair().map_err(SpawnError::Socket)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "this starts the launcher itself, which starts everything else"
    )]
    let mut command = std::process::Command::new(launcher);
    command
        .arg("--config")
        .arg(config)
        .args(["--socket-fd", "0"])
        .args(extra)
        .env_clear()
        .envs(
            PASSED_ON
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        )
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null());
    let child = command.spawn().map_err(|source| SpawnError::Execute {
        launcher: launcher.to_owned(),
        source,
    })?;
    Ok((Client::new(ours), child))
}

fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}
