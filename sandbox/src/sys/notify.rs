//! What the listener of a syscall filter tells: seccomp_unotify(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::event::{PollFd, PollFlags, Timespec};

/// A call that was stopped before it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Its number on this machine's architecture: a filter stops no others.
    pub number: u32,
    /// Its arguments, as registers. What pointers among them lead to is never looked at.
    pub arguments: [u64; 6],
}

/// What a listener has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// This call is stopped, and waits.
    Call(Stopped),
    /// Nothing; or what waited has been killed meanwhile.
    Nothing,
    /// Nobody has the filter any more.
    End,
}

/// Takes one stopped call in, without waiting. Nothing is answered: the call stays stopped until its
/// thread is killed.
///
/// # Errors
/// The kernel's.
pub(crate) fn receive(listener: impl AsFd) -> io::Result<Heard> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    Ok(match next(listener, Some(&now))? {
        Next::Call { call, .. } => Heard::Call(call),
        Next::Nothing => Heard::Nothing,
        Next::End => Heard::End,
    })
}

/// What was heard, with what an answer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This call is stopped, and waits for its answer.
    Call {
        /// What its answer names.
        id: u64,
        /// It.
        call: Stopped,
    },
    /// Nothing in the time; or what waited has been killed meanwhile.
    Nothing,
    /// Nobody has the filter any more.
    End,
}

/// The answer to a stopped call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is made, with the arguments that the kernel has.
    Made,
    /// It is not made, and fails with this error.
    Failed(u32),
}

/// Takes one stopped call in; waits for it as long as `limit` says, or until there is one.
///
/// # Errors
/// The kernel's.
pub(crate) fn next(listener: impl AsFd, limit: Option<&Timespec>) -> io::Result<Next> {
    let mut polled = [PollFd::new(&listener, PollFlags::IN)];
    match rustix::event::poll(&mut polled, limit) {
        Err(rustix::io::Errno::INTR) => return Ok(Next::Nothing),
        polled => polled?,
    };
    let [polled] = polled;
    // Without a stopped call the next one would be waited for.
    if !polled.revents().contains(PollFlags::IN) {
        return Ok(match polled.revents().is_empty() {
            true => Next::Nothing,
            false => Next::End,
        });
    }
    let mut told = libc::seccomp_notif {
        id: 0,
        pid: 0,
        flags: 0,
        data: libc::seccomp_data {
            nr: 0,
            arch: 0,
            instruction_pointer: 0,
            args: [0; 6],
        },
    };
    let listener = listener.as_fd().as_raw_fd();
    // SAFETY: the kernel wants a structure of zeros of this type and writes it; it outlives the call.
    let received = unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut told) };
    if received == -1 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENOENT | libc::EINTR) => Ok(Next::Nothing),
            _ => Err(error),
        };
    }
    Ok(Next::Call {
        id: told.id,
        call: Stopped {
            number: u32::from_ne_bytes(told.data.nr.to_ne_bytes()),
            arguments: told.data.args,
        },
    })
}

/// Answers a stopped call. One whose thread has been killed meanwhile needs none.
///
/// # Errors
/// The kernel's.
pub(crate) fn answer(listener: impl AsFd, id: u64, answer: Answer) -> io::Result<()> {
    let (error, flags) = match answer {
        Answer::Made => (0, CONTINUE),
        Answer::Failed(errno) => (i32::try_from(errno).unwrap_or(libc::EPERM), 0),
    };
    let answered = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: -error,
        flags,
    };
    let listener = listener.as_fd().as_raw_fd();
    // SAFETY: the kernel reads a structure of this type, which outlives the call.
    let sent = unsafe {
        libc::ioctl(
            listener,
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw const answered,
        )
    };
    if sent == -1 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENOENT) => Ok(()),
            _ => Err(error),
        };
    }
    Ok(())
}

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE` (linux/seccomp.h), since Linux 5.5.
const CONTINUE: u32 = 1;

/// Makes a call that every profile kills for, and that does nothing where it is made: swapoff(2) of
/// no path. The answer is why it failed.
pub(crate) fn make_refused_call() -> io::Error {
    let none: *const libc::c_char = std::ptr::null();
    // SAFETY: the kernel answers a null path with an error.
    unsafe { libc::syscall(libc::SYS_swapoff, none) };
    io::Error::last_os_error()
}
