//! Passing controllers down, on the kernel's unified tree: what has to be out of the way, and who may
//! be moved out of it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::able;
use crate::cgroup::clear::clear;
use crate::cgroup::dir::Dir;
use crate::cgroup::hierarchy::Unified;
use crate::cgroup::parent::{JAILS, LAUNCHER, MEMBERS};
use crate::cgroup::v2;
use crate::skip::skip;

/// A controller that limits nothing here, and is on the unified tree of a hybrid machine.
const SPARE: &str = "hugetlb";

/// A group right below the root of the unified tree; ends with the value.
struct Scratch {
    root: Dir,
    name: String,
    /// There is one such group at a time: the last one out takes the controller back.
    _alone: MutexGuard<'static, ()>,
}

impl Scratch {
    /// `None` after saying why it cannot be made.
    fn new(test: &str) -> Option<(Self, Dir)> {
        static ALONE: Mutex<()> = Mutex::new(());
        let home = able(test)?;
        let at_root = |unified: &&Unified| {
            let listed = fs::read_to_string(unified.own.join("cgroup.controllers")).unwrap();
            // The root alone passes controllers on while processes are in it.
            let is_root = !unified.own.join("cgroup.type").exists();
            is_root && listed.split_whitespace().any(|name| name == SPARE)
        };
        let Some(unified) = home.hierarchy.unified().filter(at_root) else {
            let reason = format!("needs {SPARE} at the root of the unified tree");
            skip(test, SPARE, &reason);
            return None;
        };
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let root = Dir::open(&unified.own).unwrap();
        root.write("cgroup.subtree_control", &format!("+{SPARE}"))
            .unwrap();
        let name = format!("pinfold-test-{}", std::process::id());
        let dir = root.make_child(&name).unwrap();
        let scratch = Self {
            root,
            name,
            _alone: alone,
        };
        Some((scratch, dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        clear(&self.root, &self.name).unwrap();
        self.root
            .write("cgroup.subtree_control", &format!("-{SPARE}"))
            .unwrap();
    }
}

/// As systemd marks what it gives away.
fn mark_as_delegated(dir: &Dir) {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::fsetxattr(dir, "user.delegate", b"1", flags).unwrap();
}

#[test]
fn controllers_reach_the_leaves_once_a_delegated_group_is_free_of_processes() {
    let test =
        "delegation::controllers_reach_the_leaves_once_a_delegated_group_is_free_of_processes";
    let Some((scratch, delegated)) = Scratch::new(test) else {
        return;
    };
    let dir = delegated.make_child("pinfold").unwrap();
    let jails = dir.make_child("jails").unwrap();
    // Somebody else is in the group: a daemon in the same scope.
    let join = format!(
        "echo 0 > {}/cgroup.procs; echo ready; exec sleep 60",
        delegated.path().display()
    );
    let mut daemon = Command::new("/bin/sh")
        .args(["-c", &join])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");

    let refused = v2::enable(SPARE, &delegated, &dir, &jails).unwrap_err();
    assert_eq!(refused.errno, Some(libc::EBUSY));
    assert!(
        refused.detail.contains("is not delegated to us"),
        "{refused}"
    );
    mark_as_delegated(&delegated);
    v2::enable(SPARE, &delegated, &dir, &jails).unwrap();

    let leaf = jails.make_child("leaf").unwrap();
    assert_eq!(leaf.read("cgroup.controllers").unwrap().trim(), SPARE);
    let members = delegated.open_child(MEMBERS).unwrap();
    assert_eq!(
        members.processes().unwrap(),
        [i32::try_from(daemon.id()).unwrap()]
    );
    assert!(delegated.processes().unwrap().is_empty());
    // Clearing kills what is in it.
    drop(scratch);
    assert_eq!(daemon.wait().unwrap().signal(), Some(libc::SIGKILL));
}

/// Says to a test, started as a process of its own, which group it is to use as a launcher.
const GROUP: &str = "PINFOLD_TEST_CGROUP_GROUP";

/// Below a user's service manager groups bear no mark of their own.
#[test]
fn below_a_marked_group_the_daemon_moves_aside_and_nobody_else_does() {
    let test = "delegation::below_a_marked_group_the_daemon_moves_aside_and_nobody_else_does";
    if let Some(group) = std::env::var_os(GROUP) {
        return play_launcher(Path::new(&group));
    }
    let Some((_scratch, marked)) = Scratch::new(test) else {
        return;
    };
    marked
        .write("cgroup.subtree_control", &format!("+{SPARE}"))
        .unwrap();
    let run = |name: &str, stranger: &str| {
        let group = marked.make_child(name).unwrap();
        // The shell is the daemon: it stays, as the launcher's parent.
        let script = format!(
            "echo 0 > {}/cgroup.procs; {stranger} \"$0\" \"$@\"; exit $?",
            group.path().display()
        );
        let program = std::env::current_exe().unwrap();
        let ran = Command::new("/bin/sh")
            .args(["-c", &script])
            .arg(program)
            .args(["--exact", &format!("cgroup::real::{test}"), "--nocapture"])
            .env(GROUP, group.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status.success(), "{text}");
        text
    };
    assert!(run("unmarked", "").contains("refused: EBUSY"));
    mark_as_delegated(&marked);
    assert!(run("alone", "").contains("moved: the daemon"));
    assert!(run("shared", "sleep 60 >/dev/null 2>&1 &").contains("refused: EBUSY"));
}

/// Makes a launcher's groups and says what came of it.
fn play_launcher(group: &Path) {
    let group = Dir::open(group).unwrap();
    let dir = group.make_child("pinfold").unwrap();
    let jails = dir.make_child(JAILS).unwrap();
    let own = dir.make_child(LAUNCHER).unwrap();
    own.write("cgroup.procs", "0").unwrap();
    match v2::enable(SPARE, &group, &dir, &jails) {
        Err(reason) => {
            assert_eq!(reason.errno, Some(libc::EBUSY), "{reason}");
            assert!(!group.processes().unwrap().is_empty());
            println!("refused: EBUSY");
        }
        Ok(()) => {
            let daemon = rustix::process::getppid().unwrap().as_raw_nonzero().get();
            let members = group.open_child(MEMBERS).unwrap();
            assert_eq!(members.processes().unwrap(), [daemon]);
            assert!(group.processes().unwrap().is_empty());
            println!("moved: the daemon");
        }
    }
}
