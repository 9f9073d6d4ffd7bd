//! `Connect`: to a socket that a plugin made. It is a trap until it was checked: opened beneath the
//! jail's own directory without following anything, seen to be a socket of the plugin's user, and
//! the process at its other end seen to be in the jail.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use pinfold_policy::{Control, InstanceId, Wanted};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::controls::{self, Tried};
use super::failure;
use super::instance::Instance;
use super::launch::pid_namespace;
use crate::protocol::{Failure, FailureKind, RequestId, SocketDirectory};
use crate::sys::socket;

/// Longest time that a plugin may leave a connection unaccepted while its queue is full.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two attempts at a full queue.
const AGAIN: Duration = Duration::from_millis(2);

/// Longest name of a socket.
const NAME_LIMIT_BYTES: usize = 64;

/// Most connections that wait for a full queue at a time.
pub(super) const CONNECTING_LIMIT: usize = 256;

/// A connection under way.
#[derive(Debug)]
pub(super) struct Connecting {
    pub(super) request: RequestId,
    pub(super) instance: InstanceId,
    /// What the plugin says is its socket; checked.
    target: OwnedFd,
    socket: OwnedFd,
    name: String,
    pub(super) next: Instant,
    deadline: Instant,
}

/// Checks everything that can be checked before connecting.
pub(super) fn prepare(
    request: RequestId,
    id: InstanceId,
    instance: &Instance,
    directory: SocketDirectory,
    name: &str,
) -> Result<Connecting, Failure> {
    if !is_socket_name(name) {
        return Err(failure::new(
            FailureKind::Request,
            format!("{name:?} is no socket name: 1 to 64 of A-Z a-z 0-9 . _ -, no leading dot"),
        ));
    }
    let running = instance
        .running()
        .ok_or_else(|| failure::new(FailureKind::Request, format!("instance {id} does not run")))?;
    let directory = match directory {
        SocketDirectory::Run => &running.jail.run_directory,
        SocketDirectory::Tmp => &running.jail.tmp_directory,
    };
    let target = open(directory, name)?;
    check(&target, name, instance.uid)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| host("make a socket", &errno.into()))?;
    // Before there is a peer who could send any.
    if instance.pass_rights != Wanted::Off
        && let Err(error) = socket::refuse_rights(&socket)
        && instance.pass_rights == Wanted::Required
    {
        let reason = format!("set SO_PASSRIGHTS: {error}");
        return Err(controls::refused(
            Control::PassRights,
            &Tried::missing(reason),
        ));
    }
    let now = Instant::now();
    Ok(Connecting {
        request,
        instance: id,
        target,
        socket,
        name: name.to_owned(),
        next: now,
        deadline: now + PATIENCE,
    })
}

impl Connecting {
    /// One attempt, which never waits. `None`: the plugin's queue is full, again at `next`.
    pub(super) fn attempt(&mut self, instance: &Instance) -> Option<Result<OwnedFd, Failure>> {
        let path = format!("/proc/self/fd/{}", self.target.as_raw_fd());
        let connected = SocketAddrUnix::new(path)
            .and_then(|address| rustix::net::connect(&self.socket, &address));
        match connected {
            Ok(()) => Some(self.connected(instance)),
            Err(Errno::AGAIN | Errno::INTR) => {
                let now = Instant::now();
                if now < self.deadline {
                    self.next = now + AGAIN;
                    return None;
                }
                Some(Err(self.refuse(format!(
                    "takes no connection: its queue was full for {PATIENCE:?}"
                ))))
            }
            Err(errno) => {
                let error = io::Error::from(errno);
                Some(Err(self.refuse(format!("cannot be connected to: {error}"))))
            }
        }
    }

    fn connected(&self, instance: &Instance) -> Result<OwnedFd, Failure> {
        let expected = instance.running().and_then(|running| running.pid_namespace);
        match peer_namespace(&self.socket) {
            Ok(Some(found)) if expected == Some(found) => {}
            Ok(_) => return Err(self.refuse("is served by a process outside the jail".into())),
            Err(error) => return Err(host("look at the socket's other end", &error)),
        }
        rustix::io::ioctl_fionbio(&self.socket, false)
            .map_err(|errno| host("make the socket wait", &errno.into()))?;
        self.socket
            .try_clone()
            .map_err(|error| host("copy the socket's handle", &error))
    }

    fn refuse(&self, why: String) -> Failure {
        failure::new(
            FailureKind::Plugin,
            format!("the plugin's socket {:?} {why}", self.name),
        )
    }
}

/// Opens a name in a directory of the jail without following anything that the plugin may have put
/// there.
fn open(directory: &OwnedFd, name: &str) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    loop {
        match openat2(directory, name, flags, Mode::empty(), resolve) {
            Ok(target) => return Ok(target),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => {
                let error = io::Error::from(errno);
                let message = format!("the plugin's socket {name:?} cannot be opened: {error}");
                return Err(failure::new(FailureKind::Plugin, message));
            }
        }
    }
}

fn check(target: &OwnedFd, name: &str, uid: u32) -> Result<(), Failure> {
    let stat = fstat(target).map_err(|errno| host("look at the socket", &errno.into()))?;
    let why = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket if stat.st_uid == uid => return Ok(()),
        FileType::Socket => format!("belongs to uid {}, the plugin is uid {uid}", stat.st_uid),
        FileType::Symlink => "is a symbolic link".into(),
        FileType::Fifo => "is a FIFO".into(),
        FileType::Directory => "is a directory".into(),
        FileType::RegularFile => "is a regular file".into(),
        _ => "is no socket".into(),
    };
    Err(failure::new(
        FailureKind::Plugin,
        format!("the plugin's socket {name:?} {why}"),
    ))
}

/// The PID namespace of the process at the other end; none where it is gone.
fn peer_namespace(socket: &OwnedFd) -> io::Result<Option<(u64, u64)>> {
    let pidfd = match socket::peer_pidfd(socket) {
        Ok(pidfd) => pidfd,
        // Before Linux 6.5 there is only the number.
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
            let peer = rustix::net::sockopt::socket_peercred(socket)?;
            return Ok(pid_namespace(peer.pid.as_raw_nonzero().get()));
        }
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(pid) = process_id(&pidfd)? else {
        return Ok(None);
    };
    let namespace = pid_namespace(pid);
    // While it still has its number, what was read under it was its own.
    Ok(process_id(&pidfd)?.and(namespace))
}

/// The number of the process behind a pidfd; none once it was reaped.
fn process_id(pidfd: &OwnedFd) -> io::Result<Option<i32>> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(path)?;
    let pid = text
        .lines()
        .find_map(|line| line.strip_prefix("Pid:"))
        .and_then(|pid| pid.trim().parse::<i32>().ok());
    Ok(pid.filter(|pid| *pid > 0))
}

fn host(what: &str, error: &io::Error) -> Failure {
    failure::new(FailureKind::Host, format!("{what}: {error}"))
}

fn is_socket_name(name: &str) -> bool {
    (1..=NAME_LIMIT_BYTES).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_plain_file_names_are_refused() {
        for good in ["a", "plugin123", "sock-1.2_x", &"x".repeat(64)] {
            assert!(is_socket_name(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".x",
            "a/b",
            "/a",
            "a b",
            "ä",
            "a\0",
            &"x".repeat(65),
        ] {
            assert!(!is_socket_name(bad), "{bad}");
        }
    }
}
