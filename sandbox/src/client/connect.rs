//! Connecting to the launcher that a service manager keeps.

use std::io;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::Client;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// It cannot be connected to.
    #[error("connect to the launcher at {path:?}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Its errno.
        #[source]
        source: io::Error,
    },
    /// Who listens there is no launcher of root, nor of this user.
    #[error("the socket {path:?} is of uid {uid}, not of root")]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// Who listens.
        uid: u32,
    },
}

/// Connects to the socket at `path`, on which root or this process's own user must be listening. A
/// launcher that is not started yet is started by this.
///
/// # Errors
/// [`ConnectError`].
pub fn connect(path: &Path) -> Result<Client, ConnectError> {
    let failed = |errno: rustix::io::Errno| ConnectError::Connect {
        path: path.to_owned(),
        source: errno.into(),
    };
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(failed)?;
    rustix::net::connect(&socket, &address).map_err(failed)?;
    let peer = rustix::net::sockopt::socket_peercred(&socket).map_err(failed)?;
    if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
        return Err(ConnectError::Foreign {
            path: path.to_owned(),
            uid: peer.uid.as_raw(),
        });
    }
    Ok(Client::new(socket))
}
