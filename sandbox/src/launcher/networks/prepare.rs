//! Making one namespace, as the process that leaves its own for it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::sys;

/// Groups that may make ICMP sockets without rights. From the second to the first number: none.
const PING: &str = "/proc/sys/net/ipv4/ping_group_range";

/// From Linux 7.0: whether namespaces that are made from this one reach virtual sockets (AF_VSOCK)
/// of the machine around them.
const VSOCK_CHILDREN: &str = "/proc/sys/net/vsock/child_ns_mode";

/// What failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub(super) struct PrepareError {
    step: &'static str,
    #[source]
    source: io::Error,
}

fn failed<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> PrepareError {
    move |source| PrepareError {
        step,
        source: source.into(),
    }
}

/// Once, before the first: what the namespaces inherit from the one that they are made from. What a launch
/// makes for itself comes from the launcher's own and has none of it: there the filter alone keeps virtual
/// sockets away.
pub(super) fn begin() -> Result<(), PrepareError> {
    if !Path::new(VSOCK_CHILDREN).exists() {
        return Ok(());
    }
    // Not in the launcher's own, which may be the machine's.
    leave()?;
    fs::write(VSOCK_CHILDREN, "local").map_err(failed("net.vsock.child_ns_mode"))
}

/// One namespace with loopback, IPv4 and IPv6, and nothing else. The process stays in it until the
/// next.
pub(super) fn one() -> Result<OwnedFd, PrepareError> {
    leave()?;
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(failed("make a socket"))?;
    sys::network::loopback_up(&socket).map_err(failed("bring loopback up"))?;
    no_ping()?;
    let namespace = fs::File::open("/proc/thread-self/ns/net");
    Ok(namespace.map_err(failed("open the namespace"))?.into())
}

fn leave() -> Result<(), PrepareError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(failed("make a network namespace"))
}

/// A new namespace begins with this; written only where it does not seem so, since not everybody may.
fn no_ping() -> Result<(), PrepareError> {
    let step = "net.ipv4.ping_group_range";
    let range = fs::read_to_string(PING).map_err(failed(step))?;
    if range.split_ascii_whitespace().eq(["1", "0"]) {
        return Ok(());
    }
    match fs::write(PING, "1 0") {
        // In a user namespace groups that it does not have look like others, and cannot be named:
        // what a new namespace begins with stays.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        written => written.map_err(failed(step)),
    }
}
