//! Other programs that make jails, told to make what a jail of ours is: the same namespaces, a small
//! read-only root, the same limits where they have any.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::process::LIMIT;
use crate::scratch;

/// Which.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Peer {
    /// No jail at all.
    Plain,
    /// Namespaces and a root, no limits.
    Bubblewrap,
    /// A container of the OCI runtime specification.
    Crun {
        /// With control groups.
        groups: bool,
    },
    /// The same.
    Runc,
}

/// A peer, with what it starts programs from.
pub(super) struct Jails {
    peer: Peer,
    program: PathBuf,
    directory: TempDir,
    started: u32,
}

/// Whether a tool is on the path, or where root's are.
pub(super) fn is_installed(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    places.into_iter().any(|place| place.join(tool).exists())
}

impl Jails {
    pub(super) fn new(peer: Peer, program: &Path) -> anyhow::Result<Self> {
        if let Peer::Crun { .. } = peer {
            hide_the_unified_tree()?;
        }
        let directory = scratch();
        let root = directory.path().join("rootfs");
        for name in ["proc", "dev", "tmp"] {
            fs::create_dir_all(root.join(name))?;
        }
        fs::copy(program, root.join("program"))?;
        let config = serde_json::to_vec(&bundle(peer))?;
        fs::write(directory.path().join("config.json"), config)?;
        Ok(Self {
            peer,
            program: root.join("program"),
            directory,
            started: 0,
        })
    }

    /// What starts the program once more.
    pub(super) fn command(&mut self) -> Command {
        self.started += 1;
        let id = format!("pinfold-bench-{}-{}", std::process::id(), self.started);
        let mut command = match self.peer {
            Peer::Plain => Command::new(&self.program),
            Peer::Bubblewrap => {
                let mut command = Command::new("bwrap");
                let unshared = ["pid", "net", "ipc", "uts", "cgroup"];
                command.args(unshared.map(|kind| format!("--unshare-{kind}")));
                command.args(["--die-with-parent", "--new-session", "--cap-drop", "ALL"]);
                command.arg("--ro-bind").arg(self.root()).arg("/");
                command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
                command.arg("/program");
                command
            }
            Peer::Crun { groups } => {
                let mut command = Command::new("crun");
                if !groups {
                    command.arg("--cgroup-manager=disabled");
                }
                command.arg("--root").arg(self.directory.path().join("run"));
                command.args(["run", "--bundle"]).arg(self.directory.path());
                command.arg(id);
                command
            }
            Peer::Runc => {
                let mut command = Command::new("runc");
                command.arg("--root").arg(self.directory.path().join("run"));
                command.args(["run", "--bundle"]).arg(self.directory.path());
                command.arg(id);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Waits until the program of each of these executes.
    pub(super) fn wait_until_running(&self, children: &[Child]) -> anyhow::Result<()> {
        let end = Instant::now() + LIMIT;
        for child in children {
            while !executes(child.id(), &self.program) {
                ensure!(Instant::now() < end, "a jail does not run its program");
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("rootfs")
    }
}

/// crun refuses a machine whose groups are of version 1 while the unified tree has a controller too,
/// however little that one matters here: what this thread starts no longer sees that tree.
fn hide_the_unified_tree() -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let of_kind = |wanted: &str| -> Vec<&str> {
        let mounts = mounts.lines().map(|line| line.split(' '));
        let found = mounts.filter_map(|mut words| {
            let place = words.nth(1)?;
            (words.next()? == wanted).then_some(place)
        });
        found.collect()
    };
    if of_kind("cgroup").is_empty() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?;
    for place in of_kind("cgroup2") {
        umount(place).with_context(|| format!("hide {place} from crun"))?;
    }
    Ok(())
}

/// Whether a process, or a descendant of it, executes this file.
fn executes(process: u32, program: &Path) -> bool {
    let proc = PathBuf::from(format!("/proc/{process}"));
    if is_same_file(&proc.join("exe"), program) {
        return true;
    }
    let children = fs::read_to_string(proc.join(format!("task/{process}/children")));
    children
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .any(|child| executes(child, program))
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let inode = |path: &Path| fs::metadata(path).map(|found| found.ino()).ok();
    inode(one).is_some_and(|one| inode(other) == Some(one))
}

/// The configuration of a container (OCI runtime specification, `config.json`).
fn bundle(peer: Peer) -> Value {
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
    let mut linux = json!({
        "namespaces": namespaces.map(|kind| json!({ "type": kind })),
    });
    if !matches!(peer, Peer::Crun { groups: false }) {
        linux["resources"] = json!({
            "memory": { "limit": 256 << 20 },
            "pids": { "limit": 64 },
            "cpu": { "quota": 200_000, "period": 100_000 },
        });
    }
    let mount = |place: &str, kind: &str| json!({ "destination": place, "type": kind, "source": kind, "options": ["nosuid"] });
    json!({
        "ociVersion": "1.0.0",
        "process": {
            "user": { "uid": 65534, "gid": 65534 },
            "args": ["/program"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "program",
        "mounts": [mount("/proc", "proc"), mount("/dev", "tmpfs"), mount("/tmp", "tmpfs")],
        "linux": linux,
    })
}
