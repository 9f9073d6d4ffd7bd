//! Syscall filters: a plugin's, and what it tells.

use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::{expect, failed, share_nothing, tried};
use crate::launcher::controls::Tried;
use crate::launcher::probe::Setting;
use crate::protocol::packet;
use crate::sys::notify::{self, Heard};
use crate::sys::{child, filter};

/// Longest wait for a call that a child makes at once.
const MOMENT: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};

/// Installs the default profile and sees that a call is refused.
pub(super) fn seccomp(setting: &Setting) -> Tried {
    let filter = match &setting.filter {
        Ok(filter) => &filter.killing,
        Err(reason) => return Tried::missing(reason.clone()),
    };
    tried("profile default, tree", || {
        share_nothing(CloneFlags::CLONE_NEWUTS)?;
        rustix::thread::set_no_new_privs(true)
            .map_err(|errno| failed("set no_new_privs", errno))?;
        filter::install(filter).map_err(|error| failed("install the filter", error))?;
        expect(
            unshare(CloneFlags::CLONE_NEWUTS) == Err(nix::errno::Errno::EPERM),
            "a refused call was made",
        )
    })
}

/// A child installs the default profile with a listener, hands that over, and makes a call that the
/// profile kills for; it is heard of by number.
pub(super) fn names(setting: &Setting) -> Tried {
    let filter = match &setting.filter {
        Ok(filter) => filter.telling.as_ref(),
        Err(reason) => return Tried::missing(reason.clone()),
    };
    let Some(filter) = filter else {
        return Tried::missing("the default profile does not allow sendmsg");
    };
    tried("user notification", || {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|errno| failed("make sockets", errno))?;
        let _caller = child::spawn(&[theirs.as_fd()], || match hand_over(filter, &theirs) {
            Ok(()) => {
                drop(notify::make_refused_call());
                0
            }
            // Whoever waits for the listener is told by the text, or by the end.
            Err(reason) => packet::send(&theirs, reason.as_bytes(), &[]).map_or(1, |()| 1),
        })
        .map_err(|error| failed("start a child", error))?;
        drop(theirs);
        let told = packet::receive(&ours).map_err(|error| format!("hear of the child: {error}"))?;
        let Some(listener) = told.descriptors.first() else {
            return Err(String::from_utf8_lossy(&told.bytes).into_owned());
        };
        let mut polled = [PollFd::new(listener, PollFlags::IN)];
        rustix::event::poll(&mut polled, Some(&MOMENT))
            .map_err(|errno| failed("wait for the call", errno))?;
        match notify::receive(listener) {
            Ok(Heard::Call(call)) => expect(
                libc::c_long::from(call.number) == libc::SYS_swapoff,
                "another call was told",
            ),
            Ok(_) => Err("the call was not told".into()),
            Err(error) => Err(failed("hear of the call", error)),
        }
    })
}

fn hand_over(filter: &[u8], socket: &OwnedFd) -> Result<(), String> {
    rustix::thread::set_no_new_privs(true).map_err(|errno| failed("set no_new_privs", errno))?;
    let listener = filter::install_with_listener(filter)
        .map_err(|error| failed("install the filter with a listener", error))?;
    packet::send(socket, b"listener", &[listener.as_fd()])
        .map_err(|errno| failed("hand the listener over", errno))
}

/// A child inherits the launcher's own filter, as every jail does.
pub(super) fn of_launcher(setting: &Setting) -> Tried {
    if let Err(reason) = &setting.own_filter {
        return Tried::missing(reason.clone());
    }
    tried("tree, inherited by every jail", || {
        let error = notify::make_refused_call();
        expect(
            error.raw_os_error() == Some(libc::ENOSYS),
            "a refused call was made",
        )
    })
}
