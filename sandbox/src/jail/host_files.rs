//! What a jail sees of the host's own files: a copy of the certificate bundle and of the time zone,
//! read once in the launcher's life.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::mounts::{INERT_WITHOUT_LINKS, Memory, READ_ONLY, clone_of};

const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
const TIME_ZONE: &str = "/etc/localtime";

/// Ten times a distribution's bundle.
const BUNDLE_LIMIT_BYTES: u64 = 2 * 1024 * 1024;
/// Several times the largest time zone.
const TIME_ZONE_LIMIT_BYTES: u64 = 16 * 1024;

/// How long somebody else may hold a copy of a descriptor for writing: a child that another thread
/// has started and that has not executed yet. The launcher has one thread.
const WRITER_LIMIT: Duration = Duration::from_secs(1);

/// What a user id outside a user namespace's map looks like from inside.
const OVERFLOW_UID: u32 = 65_534;

/// Copies of the host's files.
pub(super) struct HostFiles {
    /// The certificates and a detached directory that holds them, where the host has any.
    bundle: Option<(Vec<u8>, OwnedFd)>,
    /// The time zone file's content, where the host has one.
    pub(super) time_zone: Option<Vec<u8>>,
}

/// Reads the host's files now, so that no launch waits for it.
pub(crate) fn read() {
    host_files();
}

/// What a child must keep open that starts a jail itself.
pub(crate) fn descriptor() -> Option<BorrowedFd<'static>> {
    let (_, mount) = host_files().bundle.as_ref()?;
    Some(mount.as_fd())
}

/// The host's files, as they were at the launcher's start.
pub(super) fn host_files() -> &'static HostFiles {
    static FILES: OnceLock<HostFiles> = OnceLock::new();
    FILES.get_or_init(|| HostFiles {
        bundle: trusted(BUNDLE, BUNDLE_LIMIT_BYTES)
            .and_then(|bytes| bundle_directory(&bytes).ok().map(|mount| (bytes, mount))),
        time_zone: trusted(TIME_ZONE, TIME_ZONE_LIMIT_BYTES),
    })
}

impl HostFiles {
    /// A mount handle for `/etc/ssl/certs`; none where the host has no bundle.
    pub(super) fn certificates(&self) -> Result<Option<OwnedFd>, Errno> {
        let Some((bytes, mount)) = &self.bundle else {
            return Ok(None);
        };
        match clone_of(mount.as_fd(), READ_ONLY | INERT_WITHOUT_LINKS) {
            // Before Linux 6.15 what is attached nowhere cannot be cloned: one copy for each jail.
            Err(Errno::INVAL) => bundle_directory(bytes).map(Some),
            mount => mount.map(Some),
        }
    }
}

fn bundle_directory(bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let size_bytes = u64::try_from(bytes.len()).map_err(|_| Errno::FBIG)?;
    // Room for the directory and for the last, partly filled page.
    let memory = Memory {
        size_bytes: size_bytes + 64 * 1024,
        inodes: 4,
        mode: 0o755,
        uid: 0,
        gid: 0,
    };
    let mount = memory.mount(INERT_WITHOUT_LINKS)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let name = "ca-certificates.crt";
    let file = rustix::fs::openat(&mount, name, flags, Mode::from_raw_mode(0o444))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o444))?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    drop(file);
    let limit = Instant::now() + WRITER_LIMIT;
    loop {
        match crate::sys::mount::set_attributes(mount.as_fd(), READ_ONLY | INERT_WITHOUT_LINKS) {
            Err(Errno::BUSY) if Instant::now() < limit => std::thread::yield_now(),
            set => return set.map(|()| mount),
        }
    }
}

/// Reads a file of root's that nobody else can change; anything else is as if it were not there.
fn trusted(path: &str, limit: u64) -> Option<Vec<u8>> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let file = File::options()
        .read(true)
        .custom_flags(i32::from_ne_bytes(flags.to_ne_bytes()))
        .open(path)
        .ok()?;
    let found = file.metadata().ok()?;
    let is_trusted = found.is_file()
        && matches!(found.uid(), 0 | OVERFLOW_UID)
        && found.mode() & 0o022 == 0
        && found.len() <= limit;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).ok()?;
    is_trusted.then_some(bytes)
}
