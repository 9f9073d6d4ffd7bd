//! A probe program, a stage for it, and launching without a launcher.

#![expect(
    clippy::disallowed_methods,
    reason = "a test compiles its probe and runs it outside"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pinfold_policy::{InstanceId, Limits, Wanted};
use pinfold_sandbox::jail::{
    Fault, GroupFds, Ids, Jail, JailError, JailSpec, Progress, Starting, sealed_reaper, start,
    start_with_fault,
};
use pinfold_sandbox::seccomp::{Arch, Profile};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};

pub const PLUGIN_ID: u32 = 1_950_000_001;
pub const REAPER_ID: u32 = 1_950_000_002;

/// Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The directory that holds the probe, built once.
pub fn stage() -> &'static Path {
    static STAGE: OnceLock<PathBuf> = OnceLock::new();
    STAGE.get_or_init(|| {
        let stage = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("probe-stage");
        std::fs::create_dir_all(&stage).unwrap();
        let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let built = Command::new("rustc")
            .args([
                "--edition",
                "2024",
                "-Copt-level=1",
                "--target",
                &target,
                "-o",
            ])
            .arg(stage.join("probe"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/probe/probe.rs"))
            .status()
            .unwrap();
        assert!(built.success(), "the probe does not compile");
        stage
    })
}

pub fn directory(path: &Path) -> OwnedFd {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).unwrap()
}

pub fn filter() -> Vec<u8> {
    static FILTER: OnceLock<Vec<u8>> = OnceLock::new();
    FILTER
        .get_or_init(|| {
            let profile = Profile::builtin("default").unwrap();
            profile.compile(Arch::native().unwrap()).unwrap().to_bytes()
        })
        .clone()
}

pub fn spec(acts: &[&str]) -> JailSpec {
    JailSpec {
        plugin: "probe".parse().unwrap(),
        instance: InstanceId(1),
        stage: directory(stage()),
        entry: "probe".to_owned(),
        args: acts.iter().map(|act| (*act).to_owned()).collect(),
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
        groups: GroupFds::default(),
        user_namespace: Wanted::Preferred,
        proc: Wanted::Required,
        memfd_noexec: Wanted::Preferred,
        deadline: PATIENCE,
    }
}

pub fn reaper() -> &'static OwnedFd {
    static REAPER: OnceLock<OwnedFd> = OnceLock::new();
    REAPER.get_or_init(|| sealed_reaper().unwrap())
}

pub fn launch(spec: &JailSpec) -> Result<Jail, JailError> {
    wait_ready(start(reaper().as_fd(), spec)?)
}

pub fn launch_with_fault(spec: &JailSpec, fault: Fault) -> Result<Jail, JailError> {
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

pub fn wait_readable(descriptor: impl AsFd) {
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
pub fn output(jail: &Jail) -> String {
    let mut text = String::new();
    File::from(jail.stdout.try_clone().unwrap())
        .read_to_string(&mut text)
        .unwrap();
    text
}

pub fn lines(jail: &Jail) -> impl Iterator<Item = String> {
    let stdout = File::from(jail.stdout.try_clone().unwrap());
    BufReader::new(stdout).lines().map(Result::unwrap)
}
