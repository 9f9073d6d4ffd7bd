//! What is in the root of a jail: the plan's operations, and the mount handles that they name.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pinfold_policy::PluginId;
use pinfold_reaper::step::Step;

use super::error::{During, JailError};
use super::host_files::host_files;
use super::mounts::{self, DEVICES, INERT, PLAIN, READ_ONLY, clone_of};
use super::runtime::loader_link;
use super::{JailSpec, RUN_DIRECTORY, STAGE_DIRECTORY, STATE_DIRECTORY};
use crate::plan::{PlanError, PlanWriter};

/// Size of `/dev/shm`, in bytes: room for Python's locks and semaphores.
pub const SHARED_MEMORY_BYTES: u64 = 8 * 1024 * 1024;
const SHARED_MEMORY_INODES: u32 = 128;

/// Inodes of `/tmp`, and of the template's own directory.
pub(super) const TMP_INODES: u32 = 1024;

const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o444;
/// Anybody may create, and remove what is their own.
const SHARED_MODE: u32 = 0o1777;
/// A place that something is mounted over.
const COVERED_MODE: u32 = 0o000;

/// Links of `/dev`, as every distribution has them.
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
];

/// Mount handles in the order in which the plan numbers them.
pub(super) struct Handles {
    mounts: Vec<(String, OwnedFd)>,
    /// Those that are mounted over a file.
    files: BTreeSet<String>,
    /// Those before this one are made of what the jail has of its own; the others are the policy's.
    first_extra: usize,
}

impl Handles {
    /// Opens every handle: those of the spec, and the two directories that the launcher keeps.
    pub(super) fn open(
        spec: &JailSpec,
        run_directory: BorrowedFd<'_>,
        tmp_directory: BorrowedFd<'_>,
    ) -> Result<Self, JailError> {
        let step = Step::P6;
        let mut handles = Vec::with_capacity(16);
        let stage =
            clone_of(spec.stage.as_fd(), READ_ONLY | PLAIN).during(step, "clone the stage")?;
        handles.push((relative(STAGE_DIRECTORY).to_owned(), stage));
        // The very mounts whose descriptors the launcher keeps: the descriptors stay valid when
        // the jail attaches them.
        for (path, directory) in [
            (RUN_DIRECTORY, run_directory),
            (spec.tmp_directory.as_str(), tmp_directory),
        ] {
            let copy = rustix::io::fcntl_dupfd_cloexec(directory, 0).during(step, path)?;
            handles.push((relative(path).to_owned(), copy));
        }
        if let Some(state) = &spec.state {
            let state = clone_of(state.as_fd(), INERT).during(step, "clone the state directory")?;
            handles.push((relative(STATE_DIRECTORY).to_owned(), state));
        }
        for (name, major, minor) in DEVICES {
            let device = mounts::device(name, major, minor).during(step, format!("/dev/{name}"))?;
            handles.push((format!("dev/{name}"), device));
        }
        if let Some(bundle) = host_files()
            .certificates()
            .during(step, "clone the certificates")?
        {
            handles.push(("etc/ssl/certs".to_owned(), bundle));
        }
        let mut files: BTreeSet<String> = DEVICES
            .iter()
            .map(|(name, ..)| format!("dev/{name}"))
            .collect();
        for mount in spec.runtime.iter().flat_map(|runtime| &runtime.mounts) {
            let tree = clone_of(mount.source.as_fd(), READ_ONLY | PLAIN)
                .during(step, format!("clone {}", mount.path))?;
            let path = relative(&mount.path).to_owned();
            if !mount.is_directory {
                files.insert(path.clone());
            }
            handles.push((path, tree));
        }
        let first_extra = handles.len();
        for mount in &spec.mounts {
            let path = relative(&mount.target).to_owned();
            if !mount.is_directory {
                files.insert(path.clone());
            }
            handles.push((path, mount.handle()?));
        }
        Ok(Self {
            mounts: handles,
            files,
            first_extra,
        })
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.mounts.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.mounts.iter().map(|(_, handle)| handle.as_fd())
    }
}

/// Writes what the root is made of.
pub(super) fn write(
    spec: &JailSpec,
    handles: &Handles,
    plugin_id: u32,
    plan: &mut PlanWriter,
) -> Result<(), PlanError> {
    let mut made = Made {
        plan,
        paths: BTreeSet::new(),
    };
    // First: what follows may lie beneath it.
    if spec.tmp_directory != "/tmp" {
        made.directory("tmp", COVERED_MODE)?;
        made.plan
            .tmpfs("tmp", spec.limits.tmp.0, TMP_INODES, SHARED_MODE)?;
    }
    made.directory("dev", DIRECTORY_MODE)?;
    made.directory("dev/shm", COVERED_MODE)?;
    made.plan.tmpfs(
        "dev/shm",
        SHARED_MEMORY_BYTES,
        SHARED_MEMORY_INODES,
        SHARED_MODE,
    )?;
    made.directory("proc", DIRECTORY_MODE)?;
    made.directory("etc", DIRECTORY_MODE)?;
    for (path, content) in generated_files(&spec.plugin, plugin_id, &spec.tmp_directory) {
        made.plan.file(path, FILE_MODE, content.as_bytes())?;
    }
    if let Some(zone) = &host_files().time_zone {
        made.plan.file("etc/localtime", FILE_MODE, zone)?;
    }
    let mut numbered = (0_u32..).zip(&handles.mounts);
    for (number, (path, _)) in numbered.by_ref().take(handles.first_extra) {
        made.mount(handles, path, number)?;
    }
    made.directory(relative(&spec.working_directory), DIRECTORY_MODE)?;
    for (path, target) in DEVICE_LINKS {
        made.plan.link(path, target)?;
    }
    if let Some((path, target)) = spec
        .runtime
        .as_ref()
        .and_then(|runtime| loader_link(&runtime.named))
    {
        made.parents(relative(&path))?;
        made.plan.link(relative(&path), target)?;
    }
    for (path, target) in &spec.links {
        made.parents(relative(path))?;
        made.plan.link(relative(path), target)?;
    }
    // Last: nothing is ever made where one of these may be written to.
    for (number, (path, _)) in numbered {
        made.mount(handles, path, number)?;
    }
    Ok(())
}

struct Made<'p> {
    plan: &'p mut PlanWriter,
    paths: BTreeSet<String>,
}

impl Made<'_> {
    /// Makes a directory and its parents, unless that has been done.
    fn directory(&mut self, path: &str, mode: u32) -> Result<(), PlanError> {
        self.parents(path)?;
        if !path.is_empty() && self.paths.insert(path.to_owned()) {
            self.plan.directory(path, mode)?;
        }
        Ok(())
    }

    /// Attaches a handle, over a file or directory made for it.
    fn mount(&mut self, handles: &Handles, path: &str, number: u32) -> Result<(), PlanError> {
        match handles.files.contains(path) {
            true => {
                self.parents(path)?;
                self.plan.file(path, COVERED_MODE, b"")?;
            }
            false => self.directory(path, COVERED_MODE)?,
        }
        self.plan.mount(path, number)
    }

    fn parents(&mut self, path: &str) -> Result<(), PlanError> {
        match path.rsplit_once('/') {
            Some((parent, _)) => self.directory(parent, DIRECTORY_MODE),
            None => Ok(()),
        }
    }
}

fn generated_files(plugin: &PluginId, id: u32, home: &str) -> [(&'static str, String); 5] {
    [
        (
            "etc/passwd",
            format!(
                "root:x:0:0:root:/:/nonexistent\n{plugin}:x:{id}:{id}::{home}:/nonexistent\n\
                 nobody:x:65534:65534:nobody:/:/nonexistent\n"
            ),
        ),
        (
            "etc/group",
            format!("root:x:0:\n{plugin}:x:{id}:\nnogroup:x:65534:\n"),
        ),
        (
            "etc/hosts",
            format!("127.0.0.1\tlocalhost {plugin}\n::1\tlocalhost\n"),
        ),
        (
            "etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files\n".to_owned(),
        ),
        (
            "etc/resolv.conf",
            "# There is no name server here: the network ends at loopback.\n".to_owned(),
        ),
    ]
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}
