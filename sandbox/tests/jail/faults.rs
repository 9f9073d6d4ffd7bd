//! Each step fails once: the error names it and nothing is left.

use std::time::Duration;

use super::ability;
use super::harness::{launch, launch_with_fault, spec};
use pinfold_sandbox::jail::{Fault, JailError, Step};

const EXDEV: i32 = 18;

/// Open descriptors of this process that are of a jail's kind: other tests of the same process
/// open and close theirs meanwhile, so each is counted in a process of its own by `alone`.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn every_step_that_fails_is_named_and_undone() {
    let test = "every_step_that_fails_is_named_and_undone";
    if !ability::root(test) || !super::harness::alone(&format!("jail::faults::{test}")) {
        return;
    }
    // Whatever is made once in the life of a launcher.
    drop(launch(&spec(&["exit:0"])));
    let before = descriptors();
    // What comes before a start, once for all of them or by its caller, and what comes after it.
    let before_or_after = [Step::L4, Step::P2, Step::R17];
    let mut tried = 0;
    for step in Step::ALL
        .iter()
        .copied()
        .filter(|step| !before_or_after.contains(step))
    {
        let spec = spec(&["wait"]);
        let launched = launch_with_fault(&spec, Fault { step, errno: EXDEV });
        let failed = launched.and_then(|jail| jail.look(&spec)).unwrap_err();
        drop(spec);
        assert_eq!(failed.step(), Some(step));
        let told = format!("{step}: fault on purpose: cross-device link (EXDEV)");
        assert_eq!(failed.to_string(), told);
        assert_eq!(descriptors(), before, "after {step}");
        tried += 1;
    }
    assert!(tried > 25, "{tried}");
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    assert_eq!(children, "");
}

fn failure(change: impl FnOnce(&mut pinfold_sandbox::jail::JailSpec)) -> String {
    let mut spec = spec(&["exit:0"]);
    change(&mut spec);
    launch(&spec).unwrap_err().to_string()
}

#[test]
fn real_failures_say_what_and_why() {
    if !ability::root("real_failures_say_what_and_why") {
        return;
    }
    assert_eq!(
        failure(|spec| spec.entry = "absent".to_owned()),
        "C12 exec: execute /plugin/absent: no such file or directory (ENOENT)"
    );
    assert_eq!(
        failure(|spec| spec.filter = vec![0xff; 8]),
        "C11 filter: install the filter: invalid argument (EINVAL)"
    );
    assert_eq!(
        failure(|spec| spec.links.push(("/etc".to_owned(), "/tmp".to_owned()))),
        "R6 directories: make link etc: file exists (EEXIST)"
    );
    assert_eq!(
        failure(|spec| spec.ids = pinfold_sandbox::jail::Ids::Root {
            plugin: u32::MAX,
            reaper: 1
        }),
        "P5 run directory: run directory: invalid argument (EINVAL)"
    );
    assert_eq!(failure(|spec| spec.filter.clear()), "P7 channels");
    assert_eq!(
        failure(|spec| spec.groups.v2_dir = Some(tempfile::tempfile().unwrap().into())),
        "P8 clone: clone3: bad file number (EBADF)"
    );
    assert_eq!(
        failure(|spec| spec.stage = std::io::pipe().unwrap().0.into()),
        "P6 mount handles: clone the stage: invalid argument (EINVAL)"
    );
    assert_eq!(
        failure(|spec| spec.limits.files = 2),
        "R14 limits: oom_score_adj: too many open files (EMFILE)"
    );
}

#[test]
fn a_set_up_that_hangs_ends_at_its_deadline_with_the_step() {
    if !ability::root("a_set_up_that_hangs_ends_at_its_deadline_with_the_step") {
        return;
    }
    let mut spec = spec(&["wait"]);
    spec.deadline = Duration::ZERO;
    let failed = launch(&spec).unwrap_err();
    assert!(matches!(failed, JailError::Deadline { .. }), "{failed}");
    let told = failed.to_string();
    let last = told
        .strip_prefix("P9 status: not started in time, last step ")
        .unwrap();
    assert!(
        Step::ALL.iter().any(|step| step.to_string() == last),
        "{told}"
    );
}
