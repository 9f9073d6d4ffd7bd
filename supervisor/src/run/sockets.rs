//! The sockets that the daemon listens on: made here, or passed by a service manager.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use super::RunError;
use super::error::begin;
use crate::config::Config;
use crate::place::Place;

/// The gateway's socket and its address. One that a service manager made counts, whatever the
/// configuration's `listen` is; what is asked of that one holds for it too.
pub(super) async fn gateway_listener(
    config: &Config,
    passed: Option<std::net::TcpListener>,
) -> Result<(TcpListener, SocketAddr), RunError> {
    let listener = match passed {
        Some(passed) => TcpListener::from_std(passed).map_err(begin("take the passed socket"))?,
        None => TcpListener::bind(config.listen)
            .await
            .map_err(begin(format!("listen on {}", config.listen)))?,
    };
    let address = listener.local_addr().map_err(begin("name the listener"))?;
    if !address.ip().to_canonical().is_loopback() && !config.behind_proxy {
        return Err(RunError::Exposed { address });
    }
    Ok((listener, address))
}

/// The administration socket. Its mode is the check of who may use it: root and the daemon's
/// group, or the developer alone.
pub(super) fn admin_socket(place: &Place, shared: bool) -> Result<UnixListener, RunError> {
    let path = place.admin_socket();
    let mode = if shared { 0o660 } else { 0o600 };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(begin(format!("replace {}", path.display()))(error));
        }
        _ => {}
    }
    // Made unreachable first, so that there is no moment with a wider mode.
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(&path);
    nix::sys::stat::umask(umask);
    let listener = listener.map_err(begin(format!("listen on {}", path.display())))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
        .map_err(begin(format!("set the mode of {}", path.display())))?;
    Ok(listener)
}

/// Longest time for which requests wait in a socket that was there before the daemon, and after which
/// the service manager is told that this daemon is ready: a plugin whose policy lets it start for as long
/// as it likes keeps neither the others from serving, nor has the manager give up on all of them.
pub(super) const HELD: Duration = Duration::from_secs(30);

/// Serves once `started`, where clients could connect before: after a restart their requests find every
/// route again.
pub(super) async fn when_started<T>(
    started: Option<CancellationToken>,
    serve: impl Future<Output = T>,
) -> T {
    if let Some(started) = started {
        started.cancelled().await;
    }
    serve.await
}
