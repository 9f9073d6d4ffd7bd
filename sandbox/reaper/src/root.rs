//! The new root: R4 to R10.

use core::ffi::CStr;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
};

use crate::failure::{During, Failure};
use crate::message::Optional;
use crate::plan::{Identities, Operation, Wish, descriptor};
use crate::procfs::{Decimal, OwnProc, PROC_FLAGS};
use crate::setup::{PRIVATE, Setup};
use crate::step::Step;
use crate::sys;
use crate::whole_proc;

/// Size of the root's own file system: directories, links and the generated files.
const ROOT_SIZE: &CStr = c"256k";
const ROOT_INODES: &CStr = c"512";

const INERT: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// R4 to R9. The answer is the root's descriptor.
pub(crate) fn build(setup: &mut Setup) -> Result<OwnedFd, Failure> {
    make_private(setup)?;
    let root = new_root(setup)?;
    fill(setup, root.as_fd())?;
    own_proc(setup)?;
    plugin_proc(setup, root.as_fd())?;
    Ok(root)
}

/// R10. From here on nothing of the host's tree is reachable.
pub(crate) fn pivot(setup: &Setup, root: &OwnedFd) -> Result<(), Failure> {
    let step = Step::R10;
    setup.begin(step)?;
    rustix::process::fchdir(root).during(step, "enter the new root")?;
    // The old root lands on top of the new one and is taken off again.
    rustix::process::pivot_root(c".", c".").during(step, "pivot_root")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH).during(step, "detach the old root")?;
    rustix::process::chdir(c"/").during(step, "chdir /")?;
    sys::make_read_only(root.as_fd()).during(step, "make / read-only")
}

fn make_private(setup: &Setup) -> Result<(), Failure> {
    let step = Step::R4;
    setup.begin(step)?;
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change(c"/", flags).during(step, "make / private")
}

fn new_root(setup: &Setup) -> Result<OwnedFd, Failure> {
    let step = Step::R5;
    setup.begin(step)?;
    let root = tmpfs(ROOT_SIZE, ROOT_INODES, c"755").during(step, "tmpfs for /")?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&root, c"", CWD, c"/", flags).during(step, "attach the new root")?;
    Ok(root)
}

fn fill(setup: &Setup, root: BorrowedFd<'_>) -> Result<(), Failure> {
    let (files, mounts) = (Step::R6, Step::R7);
    setup.begin(files)?;
    setup.begin(mounts)?;
    // Modes are those of the plan.
    rustix::process::umask(Mode::empty());
    let first_handle =
        descriptor::FIRST_TASKS + i32::try_from(setup.plan.settings().tasks).unwrap_or(0);
    for operation in setup.plan.operations() {
        match operation {
            Operation::Directory { path, mode } => {
                rustix::fs::mkdirat(root, path, Mode::from_raw_mode(mode)).during_on(
                    files,
                    "make directory",
                    path,
                )?;
            }
            Operation::File {
                path,
                mode,
                content,
            } => {
                file(root, path, mode, content).during_on(files, "make file", path)?;
            }
            Operation::Link { path, target } => {
                rustix::fs::symlinkat(target, root, path).during_on(files, "make link", path)?;
            }
            Operation::Tmpfs {
                path,
                size,
                inodes,
                mode,
            } => {
                let (mut size, mut inodes) = (Decimal::new(size), Decimal::new(u64::from(inodes)));
                let mut octal = Octal([0; 12]);
                tmpfs(size.text(false), inodes.text(false), octal.text(mode))
                    .and_then(|mount| attach(mount.as_fd(), root, path))
                    .during_on(mounts, "tmpfs on", path)?;
            }
            Operation::Mount { path, handle } => {
                let number = i32::try_from(handle).unwrap_or(i32::MAX);
                let handle = sys::fixed(first_handle.saturating_add(number));
                attach(handle, root, path).during_on(mounts, "mount on", path)?;
            }
        }
    }
    rustix::process::umask(PRIVATE);
    Ok(())
}

fn own_proc(setup: &mut Setup) -> Result<(), Failure> {
    let step = Step::R8;
    setup.begin(step)?;
    let settings = *setup.plan.settings();
    setup.proc = match (OwnProc::new(), settings.identities) {
        (Ok(proc), _) => Some(proc),
        (Err(Errno::PERM), Identities::User { .. }) => {
            Some(OwnProc::of_host().during(step, "open the host's proc")?)
        }
        (Err(errno), _) => return Err(errno).during(step, "proc of our own"),
    };
    let Some(proc) = &setup.proc else {
        return Ok(());
    };
    if settings.memfd_noexec == Wish::Off {
        return Ok(());
    }
    match proc
        .write(c"sys/vm/memfd_noexec", b"2")
        .during(step, "vm.memfd_noexec")
    {
        Ok(()) => Ok(()),
        Err(failure) => setup.optional(settings.memfd_noexec, Optional::MemfdNoexec, failure),
    }
}

fn plugin_proc(setup: &Setup, root: BorrowedFd<'_>) -> Result<(), Failure> {
    let step = Step::R9;
    setup.begin(step)?;
    let wish = setup.plan.settings().proc;
    if wish == Wish::Off {
        return Ok(());
    }
    let mounted = match setup.plan.settings().whole_proc {
        true => whole_proc::mount(root)?,
        false => hidden_proc()
            .and_then(|proc| attach(proc.as_fd(), root, c"proc"))
            .during(step, "mount proc"),
    };
    mounted.or_else(|failure| setup.optional(wish, Optional::Proc, failure))
}

fn hidden_proc() -> Result<OwnedFd, Errno> {
    let proc = rustix::mount::fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&proc, c"hidepid", c"invisible")?;
    rustix::mount::fsconfig_set_string(&proc, c"subset", c"pid")?;
    rustix::mount::fsconfig_create(&proc)?;
    rustix::mount::fsmount(&proc, FsMountFlags::FSMOUNT_CLOEXEC, PROC_FLAGS)
}

pub(crate) fn tmpfs(size: &CStr, inodes: &CStr, mode: &CStr) -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, c"size", size)?;
    rustix::mount::fsconfig_set_string(&context, c"nr_inodes", inodes)?;
    rustix::mount::fsconfig_set_string(&context, c"mode", mode)?;
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, INERT)
}

pub(crate) fn file(
    root: BorrowedFd<'_>,
    path: &CStr,
    mode: u32,
    content: &[u8],
) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(root, path, flags, Mode::from_raw_mode(mode))?;
    let mut rest = content;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

pub(crate) fn attach(
    mount: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
    path: &CStr,
) -> Result<(), Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", &target, c"", flags)
}

/// Permissions as text, without an allocator.
struct Octal([u8; 12]);

impl Octal {
    fn text(&mut self, mode: u32) -> &CStr {
        let digits = self.0.iter_mut().rev().skip(1);
        let mut rest = mode;
        for place in digits {
            let [digit, ..] = (rest % 8).to_le_bytes();
            *place = b'0' + digit;
            rest /= 8;
        }
        CStr::from_bytes_with_nul(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_become_octal() {
        assert_eq!(Octal([0; 12]).text(0o1777), c"00000001777");
    }
}
