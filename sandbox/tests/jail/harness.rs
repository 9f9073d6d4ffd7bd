//! A probe program, a stage for it, and launching without a launcher.

#![expect(
    clippy::disallowed_methods,
    reason = "a test compiles its probe and runs it outside"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use pinfold_policy::{Control, InstanceId, Limits, Wanted};
use pinfold_sandbox::jail::{
    ExitStatus, Fault, GroupFds, Ids, Jail, JailError, JailSpec, Progress, Starting, sealed_reaper,
    start, start_with_fault,
};
use pinfold_sandbox::seccomp::{Arch, Profile};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};

pub(crate) use crate::patience::PATIENCE;

pub(crate) const PLUGIN_ID: u32 = 1_950_000_001;
pub(crate) const REAPER_ID: u32 = 1_950_000_002;

/// The directory that holds the probe and nothing else. It is named after the probe's source and
/// never changes once it is there: test processes of several runs use it at the same time.
pub(crate) fn stage() -> &'static Path {
    static STAGE: OnceLock<PathBuf> = OnceLock::new();
    STAGE.get_or_init(|| {
        // Copied by the test that started this one.
        if let Some(place) = std::env::var_os("PINFOLD_TEST_AS_USER") {
            return place.into();
        }
        let mut hasher = DefaultHasher::new();
        include_str!("../probe/probe.rs").hash(&mut hasher);
        let targets = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let stage = targets.join(format!("probe-{:016x}", hasher.finish()));
        if !stage.is_dir() {
            build_probe(targets, &stage);
        }
        stage
    })
}

fn build_probe(beside: &Path, stage: &Path) {
    let built = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir_in(beside)
        .unwrap();
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let compiled = Command::new("rustc")
        .args([
            "--edition",
            "2024",
            "-Copt-level=1",
            "--target",
            &target,
            "-o",
        ])
        .arg(built.path().join("probe"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/probe/probe.rs"))
        .status()
        .unwrap();
    assert!(compiled.success(), "the probe does not compile");
    let built = built.keep();
    if std::fs::rename(&built, stage).is_err() {
        // Another process was faster.
        assert!(stage.join("probe").is_file());
        std::fs::remove_dir_all(built).unwrap();
    }
}

pub(crate) fn directory(path: &Path) -> OwnedFd {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).unwrap()
}

pub(crate) fn filter() -> Vec<u8> {
    static FILTER: OnceLock<Vec<u8>> = OnceLock::new();
    FILTER
        .get_or_init(|| {
            let profile = Profile::builtin("default").unwrap();
            profile.compile(Arch::native().unwrap()).unwrap().to_bytes()
        })
        .clone()
}

/// A probe that does these acts.
pub(crate) fn spec(acts: &[&str]) -> JailSpec {
    JailSpec {
        plugin: "probe".parse().unwrap(),
        instance: InstanceId(1),
        stage: directory(stage()),
        entry: "probe".to_owned(),
        executes_stage: false,
        args: acts.iter().map(|act| (*act).to_owned()).collect(),
        runtime: None,
        mounts: Vec::new(),
        env: BTreeMap::from([("HOME".to_owned(), "/tmp/probe-home".to_owned())]),
        working_directory: "/app".to_owned(),
        tmp_directory: "/tmp/probe-home".to_owned(),
        links: vec![("/app/config/plugins/probe".to_owned(), "/plugin".to_owned())],
        state: None,
        ids: Ids::Root {
            plugin: PLUGIN_ID,
            reaper: REAPER_ID,
        },
        limits: Limits::default(),
        filter: filter(),
        filter_listener: false,
        groups: GroupFds::default(),
        network: None,
        loopback: true,
        listeners: Vec::new(),
        user_namespace: Wanted::Preferred,
        time_namespace: Wanted::Off,
        core_scheduling: Wanted::Off,
        proc: Wanted::Required,
        whole_proc: false,
        memfd_noexec: Wanted::Preferred,
        landlock: Wanted::Preferred,
        write_xor_execute: Wanted::Preferred,
        deadline: PATIENCE,
    }
}

pub(crate) fn reaper() -> &'static OwnedFd {
    static REAPER: OnceLock<OwnedFd> = OnceLock::new();
    REAPER.get_or_init(|| sealed_reaper().unwrap())
}

pub(crate) fn launch(spec: &JailSpec) -> Result<Jail, JailError> {
    wait_ready(start(reaper().as_fd(), spec)?)
}

pub(crate) fn launch_with_fault(spec: &JailSpec, fault: Fault) -> Result<Jail, JailError> {
    wait_ready(start_with_fault(reaper().as_fd(), spec, fault)?)
}

fn wait_ready(mut starting: Starting) -> Result<Jail, JailError> {
    loop {
        if Instant::now() > starting.deadline() {
            return Err(starting.on_deadline());
        }
        wait_readable(starting.status_fd());
        if let Progress::Ready(jail) = starting.on_readable()? {
            return Ok(jail);
        }
    }
}

pub(crate) fn wait_readable(descriptor: impl AsFd) {
    let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
    let limit = Timespec {
        tv_sec: PATIENCE.as_secs().try_into().unwrap(),
        tv_nsec: 0,
    };
    assert_eq!(
        rustix::event::poll(&mut polled, Some(&limit)).unwrap(),
        1,
        "nothing came"
    );
}

/// All that the plugin prints, to the end.
pub(crate) fn output(jail: &Jail) -> String {
    let mut text = String::new();
    File::from(jail.stdout.try_clone().unwrap())
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// What the probe prints when it does these acts outside any jail.
pub(crate) fn outside(acts: &[&str]) -> String {
    let ran = Command::new(stage().join("probe"))
        .args(acts)
        .output()
        .unwrap();
    String::from_utf8(ran.stdout).unwrap()
}

/// The same inside a jail.
pub(crate) fn inside(spec: &JailSpec) -> String {
    let jail = launch(spec).unwrap();
    output(&jail)
}

/// A filter that allows everything: what then still holds does not rest on the filter.
pub(crate) fn no_filter() -> Vec<u8> {
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    let mut instruction = RETURN.to_ne_bytes().to_vec();
    instruction.extend([0, 0]);
    instruction.extend(ALLOW.to_ne_bytes());
    instruction
}

/// Whether this kernel can forbid executing memory files, as Linux does from 6.3 on.
pub(crate) fn can_ban_memory_files() -> bool {
    Path::new("/proc/sys/vm/memfd_noexec").exists()
}

/// Whether this kernel's landlock has this version of its interface.
pub(crate) fn has_landlock(version: u32) -> bool {
    outside(&[&format!("landlock:{version}")]).ends_with(" ok\n")
}

/// What is not in force of that which this kernel has.
pub(crate) fn missing_here(jail: &Jail) -> Vec<(Control, String)> {
    // Both came with Linux 6.3.
    let is_absent = |control: Control| {
        matches!(control, Control::MemfdNoexec | Control::WriteXorExecute)
            && !can_ban_memory_files()
    };
    let missing = jail.missing.iter();
    missing
        .filter(|(control, _)| !is_absent(*control))
        .cloned()
        .collect()
}

/// Whether this process runs the named test and no other; if not, starts one that does and expects
/// it to pass. For tests that look at their own process as a whole.
pub(crate) fn alone(test: &str) -> bool {
    const ALONE: &str = "PINFOLD_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && text.contains("1 passed"), "{text}");
    false
}

/// How a plugin ended whose jail is over.
pub(crate) fn end_of(jail: &Jail) -> Option<ExitStatus> {
    wait_readable(&jail.reaper);
    jail.plugin_status()
}

/// What the plugin prints, line by line. One for each jail: it reads ahead.
pub(crate) fn lines(jail: &Jail) -> impl Iterator<Item = String> + use<> {
    let stdout = File::from(jail.stdout.try_clone().unwrap());
    BufReader::new(stdout).lines().map(Result::unwrap)
}
