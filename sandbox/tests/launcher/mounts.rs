//! Extra mounts: what of the host a policy shows a plugin, and what of it is refused.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pinfold_sandbox::protocol::{ExitCause, FailureKind};

use crate::machine::{Machine, Setup, has_root, output};
use crate::user_mode::LOWERED;

fn section(source: &Path, target: &str, rw: bool) -> String {
    format!("[[mounts]]\nsource = {source:?}\ntarget = {target:?}\nrw = {rw}\n")
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A directory of the host's with a file that everybody may write.
fn shared(machine: &Machine, name: &str) -> PathBuf {
    let place = machine.path(name);
    fs::create_dir(&place).unwrap();
    mode(&place, 0o755);
    fs::write(place.join("f"), "content").unwrap();
    mode(&place.join("f"), 0o666);
    place
}

/// What `hello` prints under a policy with these mounts, doing these acts.
fn said(machine: &Machine, acts: &[&str], mounts: &str) -> String {
    machine.add_policy("hello", acts, mounts);
    let (digest, _) = machine.stage("hello").unwrap();
    let launched = machine.launch_with("hello", digest, &[]).unwrap();
    let text = output(launched.stdout);
    assert_eq!(machine.exited(launched.instance), ExitCause::Code(0));
    text
}

/// The refusal of its launch.
fn refused(machine: &Machine, mounts: &str) -> String {
    machine.add_policy("hello", &["exit=0"], mounts);
    let (digest, _) = machine.stage("hello").unwrap();
    let failure = machine.launch_with("hello", digest, &[]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Policy, "{failure}");
    failure.to_string()
}

#[test]
fn a_plugin_reads_what_it_is_shown_and_writes_where_the_policy_says_so() {
    if !has_root("a_plugin_reads_what_it_is_shown_and_writes_where_the_policy_says_so") {
        return;
    }
    let machine = Machine::start();
    machine.add_plugin("hello");
    let (input, target) = (shared(&machine, "in"), shared(&machine, "out"));
    // Its user id is known once it has been staged.
    machine.add_policy("hello", &[], "");
    machine.stage("hello").unwrap();
    let uid = fs::metadata(machine.path("state/state/hello"))
        .unwrap()
        .uid();
    chown(&target, Some(uid), None).unwrap();
    let mounts = section(&input, "/data/in", false) + &section(&target, "/data/out", true);
    let acts = [
        "read=/data/in/f",
        "append=/data/in/f",
        "append=/data/out/f",
        "append=/data/out/new",
    ];
    assert_eq!(
        said(&machine, &acts, &mounts),
        "read /data/in/f: content\nappend /data/in/f: Read-only file system\n\
         append /data/out/f: done\nappend /data/out/new: done\n"
    );
    assert_eq!(fs::read(input.join("f")).unwrap(), b"content");
    assert_eq!(fs::read(target.join("f")).unwrap(), b"contentx");
    assert_eq!(fs::metadata(target.join("new")).unwrap().uid(), uid);

    let absent = machine.path("absent");
    machine.add_policy(
        "hello",
        &[],
        &(mounts + &section(&absent, "/absent", false)),
    );
    let posture = machine.posture(Some("hello"));
    let [one, two, three] = posture.mounts.as_slice() else {
        panic!("{:?}", posture.mounts);
    };
    assert_eq!(
        (one.found.owner, one.found.mode.as_deref()),
        (Some(0), Some("0755"))
    );
    assert!(!one.is_writable && one.found.problem.is_empty(), "{one:?}");
    assert!(two.is_writable && two.found.owner == Some(uid), "{two:?}");
    assert!(three.found.owner.is_none() && three.found.problem.contains("absent"));
    assert!(machine.posture(None).mounts.is_empty());
}

#[test]
fn a_mount_of_what_others_can_change_or_no_plugin_may_see_is_refused_with_its_path() {
    let test = "a_mount_of_what_others_can_change_or_no_plugin_may_see_is_refused_with_its_path";
    if !has_root(test) {
        return;
    }
    let machine = Machine::start();
    machine.add_plugin("hello");
    let place = shared(&machine, "shared");
    let path = |name: &str| place.join(name);
    fs::create_dir(path("tree")).unwrap();
    symlink("tree", path("link")).unwrap();
    let _listener = UnixListener::bind(path("socket")).unwrap();
    mode(&path("socket"), 0o600);
    fs::create_dir(path("anybodys")).unwrap();
    mode(&path("anybodys"), 0o777);
    fs::create_dir(path("theirs")).unwrap();
    chown(path("theirs"), Some(1), None).unwrap();
    fs::create_dir(path("theirs/tree")).unwrap();
    for (source, why) in [
        (path("link"), "symbolic link"),
        (path("link/deeper"), "(os error"),
        (path("absent"), "No such file"),
        (path("socket"), "neither a directory nor a regular file"),
        (path("anybodys"), "can be written by group or others"),
        (path("theirs"), "belongs to uid 1"),
        (path("theirs/tree"), "belongs to uid 1"),
        (machine.path("state"), "no plugin sees"),
        (machine.path("state/state"), "no plugin sees"),
        (machine.path("policies"), "no plugin sees"),
        (
            machine.path("state").parent().unwrap().into(),
            "no plugin sees",
        ),
        ("/var/lib".into(), "no plugin sees"),
        ("/etc/ssl".into(), "any jail"),
    ] {
        for rw in [false, true] {
            let refused = refused(&machine, &section(&source, "/data", rw));
            // The step at which the walk ended, or all of it.
            let is_named = source
                .ancestors()
                .take(2)
                .any(|step| refused.contains(&format!("{step:?}")));
            assert!(is_named && refused.contains(why), "{source:?}: {refused}");
        }
    }
    // What is only read is nobody's but root's.
    let theirs = path("plugins");
    fs::create_dir(&theirs).unwrap();
    chown(&theirs, Some(1_900_000_000), None).unwrap();
    let refused = refused(&machine, &section(&theirs, "/data", false));
    assert!(refused.contains("belongs to uid 1900000000"), "{refused}");
}

#[test]
fn a_policy_of_the_daemons_own_shows_a_plugin_nothing() {
    if !has_root("a_policy_of_the_daemons_own_shows_a_plugin_nothing") {
        return;
    }
    let grants = tempfile::tempdir().unwrap();
    mode(grants.path(), 0o755);
    let policy = grants.path().join("hello.toml");
    let text = "schema = 1\ndialect = \"goatflow\"\nentry = \"probe\"\nargs = [\"exit=0\"]\n\
                [[mounts]]\nsource = \"/usr\"\ntarget = \"/host\"\n[trust]\nunsigned = true\n";
    fs::write(&policy, text).unwrap();
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let uid = nobody.uid.as_raw();
    chown(&policy, Some(uid), None).unwrap();
    chown(grants.path(), Some(uid), None).unwrap();
    let config = format!(
        "dev-grants = \"as-asked\"\ndev-policy-dir = {:?}\n",
        grants.path()
    );
    let machine = Machine::with(Setup {
        config: &config,
        ..Setup::default()
    });
    machine.add_plugin("hello");
    let (digest, _) = machine.stage("hello").unwrap();
    let failure = machine.launch_with("hello", digest, &[]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Policy);
    assert!(failure.message.contains("operator's to give"), "{failure}");
    let problem = &machine.posture(Some("hello")).mounts[0].found.problem;
    assert!(problem.contains("operator's to give"), "{problem}");
}

/// A file system that is mounted until this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(point: PathBuf, kind: &str, flags: MsFlags) -> Self {
        fs::create_dir(&point).unwrap();
        mount(Some(kind), &point, Some(kind), flags, None::<&str>).unwrap();
        Self(point)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _gone = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn what_is_mounted_apart_is_shown_where_a_policy_named_it_at_the_launchers_start() {
    let test = "what_is_mounted_apart_is_shown_where_a_policy_named_it_at_the_launchers_start";
    if !has_root(test) {
        return;
    }
    let apart = tempfile::tempdir_in("/var/tmp").unwrap();
    mode(apart.path(), 0o755);
    let plain = Mounted::at(apart.path().join("plain"), "tmpfs", MsFlags::empty());
    mode(&plain.0, 0o755);
    fs::write(plain.0.join("f"), "apart").unwrap();
    let sealed = Mounted::at(apart.path().join("sealed"), "tmpfs", MsFlags::MS_RDONLY);
    mode_of_sealed(&sealed.0);
    let kernels = Mounted::at(apart.path().join("kernels"), "proc", MsFlags::empty());
    let mounts = section(&plain.0, "/plain", false);

    let machine = Machine::start();
    machine.add_plugin("hello");
    // Answered, so it has started.
    machine.posture(None);
    let failure = refused(&machine, &mounts);
    assert!(failure.contains("start the launcher anew"), "{failure}");
    drop(machine);

    let named = mounts.clone()
        + &section(&sealed.0, "/sealed", true)
        + &section(&kernels.0, "/kernels", false);
    let machine = Machine::with(Setup {
        prepare: Some(&|root: &Path| {
            let text = format!(
                "schema = 1\ndialect = \"goatflow\"\nentry = \"probe\"\n{named}[trust]\nunsigned = true\n"
            );
            let path = root.join("policies/hello.toml");
            fs::write(&path, text).unwrap();
            mode(&path, 0o640);
        }),
        ..Setup::default()
    });
    machine.add_plugin("hello");
    machine.posture(None);
    let text = said(&machine, &["read=/plain/f"], &mounts);
    assert_eq!(text, "read /plain/f: apart\n");
    let failure = refused(&machine, &section(&sealed.0, "/sealed", true));
    assert!(failure.contains("ReadWritePaths="), "{failure}");
    let failure = refused(&machine, &section(&kernels.0, "/kernels", false));
    assert!(failure.contains("of the kernel's own"), "{failure}");
}

/// A root that nobody but root may write to, of a file system in which nothing can be changed.
fn mode_of_sealed(point: &Path) {
    let again = |flags| mount(None::<&str>, point, None::<&str>, flags, None::<&str>).unwrap();
    again(MsFlags::MS_REMOUNT);
    mode(point, 0o755);
    again(MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
}

#[test]
fn a_users_launcher_shows_what_lies_in_usr_and_nothing_else() {
    let test = "a_users_launcher_shows_what_lies_in_usr_and_nothing_else";
    let Some(machine) = crate::user_mode::start_with(test, "") else {
        return;
    };
    machine.add_plugin("hello");
    let usr = section(Path::new("/usr/lib/os-release"), "/data/os-release", false);
    let text = said(&machine, &["read=/data/os-release"], &(usr + LOWERED));
    assert!(text.contains("NAME="), "{text}");
    let other = section(Path::new("/var/cache"), "/data", false);
    let failure = refused(&machine, &(other + LOWERED));
    assert!(failure.contains("/usr or /opt"), "{failure}");
}
