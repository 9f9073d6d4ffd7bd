//! Descriptors that wake the launcher when something happens to a group.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use nix::sys::eventfd::{EfdFlags, EventFd};
use rustix::fs::OFlags;

use super::dir::Dir;
use super::{CgroupError, Controller, Leaf};

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// The group met its memory limit. On v1 this fires *before* the kernel chooses whom to kill,
    /// and once more when the group is removed: [`Leaf::oom_kills`] says whether anybody was
    /// killed, and may say so a moment later.
    OutOfMemory,
    /// A new task was refused (v2 only: on v1 some kernels tell, and others, from 6.10 on, do not).
    /// [`super::Stats::tasks_refused`] counts on both.
    Tasks,
    /// The last process left, or the first one came (v2 only).
    Populated,
}

/// What to wait for on the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Readable: an eventfd (`EPOLLIN`).
    Readable,
    /// An exceptional condition: a file of the group that changed (`EPOLLPRI`).
    Priority,
}

/// A descriptor to wait on, level-triggered, in poll(2) or epoll(7).
#[derive(Debug)]
pub struct Watch {
    kind: WatchKind,
    source: Source,
}

impl Watch {
    /// What is watched.
    #[must_use]
    pub fn kind(&self) -> WatchKind {
        self.kind
    }

    /// What to wait for.
    #[must_use]
    pub fn interest(&self) -> Interest {
        match self.source {
            Source::Event(_) => Interest::Readable,
            Source::File(_) => Interest::Priority,
        }
    }

    /// Takes note of what woke the caller. Without it the descriptor stays awake. Never waits.
    ///
    /// # Errors
    ///
    /// The read's. `ENODEV` says that the group was removed.
    pub fn acknowledge(&self) -> io::Result<()> {
        match &self.source {
            Source::Event(event) => match event.read() {
                Ok(_) | Err(nix::errno::Errno::EAGAIN) => Ok(()),
                Err(errno) => Err(errno.into()),
            },
            // Reading from the start is what makes the kernel forget the change.
            Source::File(file) => file.read_at(&mut [0; 256], 0).map(drop),
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Event(event) => event.as_fd(),
            Source::File(file) => file.as_fd(),
        }
    }
}

impl Leaf {
    /// A descriptor for one kind of event; `None` where this machine has none.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Open`], [`CgroupError::Read`], [`CgroupError::Write`].
    pub fn watch(&self, kind: WatchKind) -> Result<Option<Watch>, CgroupError> {
        let unified = self.v2.as_ref().map(|part| &part.dir);
        match kind {
            WatchKind::OutOfMemory => match (self.on_v1(Controller::Memory), unified) {
                (Some(dir), _) => oom_v1(dir),
                (None, Some(dir)) => changed(dir, "memory.events.local", kind),
                (None, None) => Ok(None),
            },
            WatchKind::Tasks => match (self.on_v1(Controller::Pids), unified) {
                (None, Some(dir)) => changed(dir, "pids.events", kind),
                _ => Ok(None),
            },
            WatchKind::Populated => match unified {
                Some(dir) => changed(dir, "cgroup.events", kind),
                None => Ok(None),
            },
        }
    }
}

#[derive(Debug)]
enum Source {
    Event(EventFd),
    File(File),
}

/// A file of the group whose changes the kernel tells (kernfs notification).
fn changed(dir: &Dir, name: &str, kind: WatchKind) -> Result<Option<Watch>, CgroupError> {
    let path = || dir.path().join(name);
    let file = match dir.open_file(name, OFlags::RDONLY) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(CgroupError::Open {
                path: path(),
                source,
            });
        }
    };
    let watch = Watch {
        kind,
        source: Source::File(file),
    };
    // Changes count from the first read on.
    watch.acknowledge().map_err(|source| CgroupError::Read {
        path: path(),
        source,
    })?;
    Ok(Some(watch))
}

/// An eventfd registered with `cgroup.event_control` for `memory.oom_control` (the kernel's
/// cgroup-v1 memory document, section 10).
fn oom_v1(dir: &Dir) -> Result<Option<Watch>, CgroupError> {
    const CONTROL: &str = "cgroup.event_control";
    const OOM: &str = "memory.oom_control";
    if !dir.has(CONTROL) {
        return Ok(None);
    }
    let oom = dir
        .open_file(OOM, OFlags::RDONLY)
        .map_err(|source| CgroupError::Open {
            path: dir.path().join(OOM),
            source,
        })?;
    let failed = |source| CgroupError::Write {
        path: dir.path().join(CONTROL),
        source,
    };
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
        .map_err(|errno| failed(errno.into()))?;
    let registration = format!("{} {}", event.as_fd().as_raw_fd(), oom.as_raw_fd());
    dir.write(CONTROL, &registration).map_err(failed)?;
    Ok(Some(Watch {
        kind: WatchKind::OutOfMemory,
        source: Source::Event(event),
    }))
}
