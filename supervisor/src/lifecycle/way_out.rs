//! The way out of one jail, for programs in it that speak HTTP by themselves.

use std::io;
use std::sync::Arc;

use pinfold_hostapi::{Caller, HostApi, serve_proxy};
use pinfold_policy::InstanceId;
use pinfold_sandbox::protocol::{Listener, ListenerPurpose};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::output::Drains;
use crate::launcher::Launcher;

/// Serves the jail's proxy beside `output`, where its launch made a listener for one, until the instance
/// has ended. Who its programs are is `caller`, until what is given says otherwise.
///
/// # Errors
/// Those of handing a socket to the runtime.
pub(super) fn open(
    listeners: Vec<Listener>,
    caller: Arc<Caller>,
    host: Arc<HostApi>,
    launcher: Arc<Launcher>,
    instance: InstanceId,
    output: &Drains,
) -> io::Result<Option<watch::Sender<Arc<Caller>>>> {
    let is_proxy = |one: &Listener| one.purpose == ListenerPurpose::HttpProxy;
    let Some(listener) = listeners.into_iter().find(is_proxy) else {
        return Ok(None);
    };
    let listener = std::net::TcpListener::from(listener.socket);
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let (sender, receiver) = watch::channel(caller);
    output.serve(move |stop| async move {
        let ended = async {
            tokio::select! {
                _ = launcher.exited(instance) => stop.cancel(),
                () = stop.cancelled() => {}
            }
        };
        tokio::join!(serve_proxy(host, listener, receiver, stop.clone()), ended);
    });
    Ok(Some(sender))
}
