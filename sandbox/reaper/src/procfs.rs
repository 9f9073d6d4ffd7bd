//! The reaper's own view of proc, mounted nowhere: what is written to proc goes through it, so no
//! mount that anybody else made can be in the way.

use core::ffi::CStr;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// A proc file system of the jail's PID namespace.
pub(crate) struct OwnProc(OwnedFd);

impl OwnProc {
    /// Makes one.
    pub(crate) fn new() -> Result<Self, Errno> {
        let proc = rustix::mount::fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_create(&proc)?;
        let mounted = rustix::mount::fsmount(&proc, FsMountFlags::FSMOUNT_CLOEXEC, PROC_FLAGS)?;
        Ok(Self(mounted))
    }

    /// Takes the host's. A launcher of a user may be forbidden to mount proc where something
    /// covers a part of the host's; its plugin still needs a user namespace, whose maps are written
    /// in proc.
    pub(crate) fn of_host() -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let proc = rustix::fs::open(c"/proc", flags, Mode::empty())?;
        let file_system = rustix::fs::fstatfs(&proc)?;
        if file_system.f_type != rustix::fs::PROC_SUPER_MAGIC {
            return Err(Errno::NOTSUP);
        }
        Ok(Self(proc))
    }

    /// Writes to one file in a single call.
    pub(crate) fn write(&self, path: &CStr, text: &[u8]) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0, path, flags, Mode::empty())?;
        let written = rustix::io::write(&file, text)?;
        if written == text.len() {
            Ok(())
        } else {
            Err(Errno::IO)
        }
    }

    /// Writes a number in decimal.
    pub(crate) fn write_number(&self, path: &CStr, number: i32) -> Result<(), Errno> {
        let mut digits = Decimal::new(u64::from(number.unsigned_abs()));
        self.write(path, digits.text(number < 0).to_bytes())
    }
}

impl AsFd for OwnProc {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What every proc is mounted with.
pub(crate) const PROC_FLAGS: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// A number as text, without an allocator.
pub(crate) struct Decimal {
    /// Sign, twenty digits, terminator.
    bytes: [u8; 22],
    number: u64,
}

impl Decimal {
    pub(crate) const fn new(number: u64) -> Self {
        Self {
            bytes: [0; 22],
            number,
        }
    }

    /// The text, with a sign where asked.
    pub(crate) fn text(&mut self, negative: bool) -> &CStr {
        let mut rest = self.number;
        let mut first = self.bytes.len() - 1;
        for (at, place) in self.bytes.iter_mut().enumerate().rev().skip(1) {
            let [digit, ..] = (rest % 10).to_le_bytes();
            *place = b'0' + digit;
            first = at;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if negative && let Some(place) = first.checked_sub(1).and_then(|at| self.bytes.get_mut(at))
        {
            *place = b'-';
            first -= 1;
        }
        let text = self.bytes.get(first..).unwrap_or_default();
        CStr::from_bytes_with_nul(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_text() {
        for (number, negative, text) in [
            (0, false, c"0"),
            (500, false, c"500"),
            (500, true, c"-500"),
            (u64::MAX, true, c"-18446744073709551615"),
        ] {
            assert_eq!(Decimal::new(number).text(negative), text);
        }
    }
}
