//! What a process takes from itself before it is the plugin, each alone: without a filter, and with
//! the other layers off, so that what fails does so for this one reason.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::ability;
use super::harness::{
    PLUGIN_ID, directory, end_of, has_landlock, inside, launch, lines, missing_here, no_filter,
    outside, spec, stage,
};
use pinfold_policy::{Control, Wanted};
use pinfold_sandbox::jail::{ExitStatus, JailSpec};

const EACCES: i32 = 13;
const ENOSPC: i32 = 28;

/// A jail without a filter and without any of the layers that this file is about.
fn bare(acts: &[&str]) -> JailSpec {
    JailSpec {
        filter: no_filter(),
        user_namespace: Wanted::Off,
        landlock: Wanted::Off,
        write_xor_execute: Wanted::Off,
        ..spec(acts)
    }
}

fn all(acts: &[&str], outcome: &str) -> String {
    acts.iter()
        .map(|act| format!("{act} {outcome}\n"))
        .collect()
}

/// A stage with a program beside the entry.
fn two_programs() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let both = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    for name in ["probe", "other"] {
        fs::copy(stage().join("probe"), both.path().join(name)).unwrap();
    }
    both
}

#[test]
fn landlock_alone_confines_files_by_path() {
    let test = "landlock_alone_confines_files_by_path";
    if !ability::root(test) {
        return;
    }
    if !ability::has(test, "landlock", has_landlock(1), "this kernel has none") {
        return;
    }
    let both = two_programs();
    let mut refused = vec![
        "link:/run/plugin/l",
        "fifo:/run/plugin/f",
        "mkdir:/run/plugin/d",
        "spawn:/plugin/other",
        "write:/proc/self/oom_score_adj",
    ];
    // What devices are asked beyond reading and writing is confined from version 5 on.
    if has_landlock(5) {
        refused.push("entropy:/dev/urandom");
    }
    let mut spec = bare(&refused);
    spec.stage = directory(both.path());
    assert_eq!(inside(&spec), all(&refused, "ok"), "without it");
    spec.landlock = Wanted::Required;
    assert_eq!(inside(&spec), all(&refused, &EACCES.to_string()), "with it");

    let granted = [
        "create:/tmp/a",
        "mkdir:/tmp/d",
        "rename:/tmp/a,/tmp/d/a",
        "link:/tmp/l",
        "fifo:/tmp/f",
        "create:/dev/shm/a",
        "create:/tmp/probe-home/a",
        "create:/run/plugin/a",
        "listen:/run/plugin/s",
        "remove:/run/plugin/s",
        "read:/run/plugin/a",
        "write:/dev/null",
        "read:/dev/urandom",
        "read:/etc/passwd",
        "read:/plugin/other",
        "read:/proc/self/status",
        "spawn:/plugin/probe",
        "signal-child",
        "tcp-self",
    ];
    spec.args = granted.map(str::to_owned).to_vec();
    assert_eq!(inside(&spec), all(&granted, "ok"));
}

#[test]
fn other_programs_of_the_stage_are_executed_where_the_policy_says_so() {
    if !ability::root("other_programs_of_the_stage_are_executed_where_the_policy_says_so") {
        return;
    }
    let both = two_programs();
    let acts = ["spawn:/plugin/other", "execute:/tmp/copy"];
    let mut spec = spec(&acts);
    spec.stage = directory(both.path());
    spec.executes_stage = true;
    let said = inside(&spec);
    assert_eq!(said, format!("{} ok\n{} {EACCES}\n", acts[0], acts[1]));
    spec.executes_stage = false;
    let outcome = if has_landlock(1) { "13" } else { "ok" };
    assert!(inside(&spec).starts_with(&format!("{} {outcome}\n", acts[0])));
}

#[test]
fn a_script_runs_by_its_interpreter_of_the_stage_and_nothing_else_does() {
    use std::os::unix::fs::PermissionsExt;
    if !ability::root("a_script_runs_by_its_interpreter_of_the_stage_and_nothing_else_does") {
        return;
    }
    let both = two_programs();
    let script = both.path().join("script");
    fs::write(&script, "#!/plugin/probe spawn:/plugin/other\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut spec = spec(&[]);
    spec.stage = directory(both.path());
    spec.entry = "script".to_owned();
    let said = |outcome: &str| format!("spawn:/plugin/other {outcome}\n/plugin/script -1\n");
    spec.landlock = Wanted::Off;
    assert_eq!(inside(&spec), said("ok"));
    spec.landlock = Wanted::Preferred;
    let outcome = if has_landlock(1) { "13" } else { "ok" };
    assert_eq!(inside(&spec), said(outcome));
}

/// A program (elf(5)) that ends at once, and that asks for a loader by these bytes.
fn asking_for(loader: &[u8]) -> Vec<u8> {
    // exit_group(0) in the machine's own words.
    let (machine, code): (u64, [u64; 2]) = match cfg!(target_arch = "aarch64") {
        true => (183, [0xd280_0000_d280_0bc8, 0xd400_0001]),
        false => (62, [0x0fff_3100_0000_e7b8, 5]),
    };
    let (headers, code_at, loader_at) = (64_u64, 176_u64, 192_u64);
    let length = u64::try_from(loader.len()).unwrap();
    // To the end of a page of any size: the kernel fills the last page of a loader's segment with zeros, and
    // older ones (6.1) fail where that page, as here, cannot be written.
    let all = (loader_at + length).next_multiple_of(0x1_0000);
    let head: [u64; 8] = [
        0x0001_0102_464c_457f,
        0,
        3 | (machine << 16) | (1 << 32),
        code_at,
        headers,
        0,
        (headers << 32) | (56 << 48),
        2,
    ];
    // All of it, to be read and executed; then where the loader's name is.
    let segment = [1 | (5 << 32), 0, 0, 0, all, all, 4096];
    let name = [3 | (4 << 32), loader_at, 0, 0, length, length, 1];
    let words = head.into_iter().chain(segment).chain(name).chain(code);
    let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    bytes.extend(loader);
    bytes.resize(usize::try_from(all).unwrap(), 0);
    bytes
}

#[test]
fn no_name_in_a_plugins_files_switches_landlock_off() {
    use std::os::unix::fs::PermissionsExt;
    let test = "no_name_in_a_plugins_files_switches_landlock_off";
    if !ability::root(test) {
        return;
    }
    let both = two_programs();
    // What the loader asks for the kernel does not read: without a terminating zero, and longer than
    // any path that can be opened in the jail.
    let endless = format!("/plugin/{}ld", "./".repeat(2043));
    for (name, loader) in [("entry", "/plugin/ld\0"), ("ld", endless.as_str())] {
        let path = both.path().join(name);
        fs::write(&path, asking_for(loader.as_bytes())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut spec = spec(&[]);
    spec.stage = directory(both.path());
    spec.entry = "entry".to_owned();
    spec.landlock = Wanted::Preferred;
    let jail = launch(&spec).unwrap();
    let is_missing = missing_here(&jail)
        .iter()
        .any(|(control, _)| *control == Control::Landlock);
    assert_eq!(is_missing, !has_landlock(1), "{:?}", jail.missing);
    assert_eq!(end_of(&jail), Some(ExitStatus::Code(0)));
}

#[test]
fn write_xor_execute_alone_forbids_making_code() {
    let test = "write_xor_execute_alone_forbids_making_code";
    let has_it = super::harness::can_ban_memory_files();
    if !ability::root(test) || !ability::has(test, "mdwe", has_it, "this kernel is before 6.3") {
        return;
    }
    let acts = ["make-code", "turn-to-code"];
    assert_eq!(outside(&acts), all(&acts, "ok"));
    let mut spec = bare(&acts);
    assert_eq!(inside(&spec), all(&acts, "ok"), "without it");
    spec.write_xor_execute = Wanted::Required;
    assert_eq!(inside(&spec), all(&acts, &EACCES.to_string()), "with it");
}

#[test]
fn the_user_namespace_alone_forbids_making_another() {
    if !ability::root("the_user_namespace_alone_forbids_making_another") {
        return;
    }
    let acts = ["unshare:268435456"];
    assert_eq!(outside(&acts), all(&acts, "ok"));
    let mut spec = bare(&acts);
    assert_eq!(inside(&spec), all(&acts, "ok"), "without it");
    spec.user_namespace = Wanted::Required;
    assert_eq!(inside(&spec), all(&acts, &ENOSPC.to_string()), "with it");
}

#[test]
fn the_user_namespace_holds_the_plugins_one_id_and_no_right() {
    if !ability::root("the_user_namespace_holds_the_plugins_one_id_and_no_right") {
        return;
    }
    let mut spec = spec(&["cat:/proc/self/uid_map", "say:seen", "wait"]);
    spec.user_namespace = Wanted::Required;
    let jail = launch(&spec).unwrap();
    let seen: Vec<String> = lines(&jail).take_while(|line| line != "seen").collect();
    let words: Vec<&str> = seen[0].split_whitespace().collect();
    let id = PLUGIN_ID.to_string();
    assert_eq!(words, [id.as_str(), id.as_str(), "1"]);
    jail.look(&spec).unwrap();
    // From outside it is the same id in another namespace, to which none of the others belongs.
    let of = |pid: i32, what: &str| fs::metadata(format!("/proc/{pid}/{what}")).unwrap();
    assert_eq!(of(jail.plugin_pid, "").uid(), PLUGIN_ID);
    let own = i32::try_from(std::process::id()).unwrap();
    assert_ne!(
        of(jail.plugin_pid, "ns/user").ino(),
        of(own, "ns/user").ino()
    );
    assert_eq!(
        of(jail.reaper.pid(), "ns/user").ino(),
        of(own, "ns/user").ino()
    );
    spec.user_namespace = Wanted::Off;
    let without = launch(&spec).unwrap();
    assert_eq!(
        of(without.plugin_pid, "ns/user").ino(),
        of(own, "ns/user").ino()
    );
    without.look(&spec).unwrap();
    // One that was planned and is not there is noticed.
    spec.user_namespace = Wanted::Required;
    let told = without.look(&spec).unwrap_err().to_string();
    assert_eq!(
        told,
        "P10 look: user namespace is the launcher's, planned was its own"
    );
}

#[test]
fn a_launcher_of_high_priority_does_not_hand_it_on() {
    if !ability::root("a_launcher_of_high_priority_does_not_hand_it_on") {
        return;
    }
    // The priority is the thread's.
    std::thread::spawn(|| {
        rustix::process::setpriority_process(None, -7).unwrap();
        let jail = launch(&spec(&["say:running", "wait"])).unwrap();
        for pid in [jail.plugin_pid, jail.reaper.pid()] {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let fields = stat.rsplit_once(") ").unwrap().1;
            assert_eq!(fields.split(' ').nth(16), Some("0"), "{stat}");
        }
    })
    .join()
    .unwrap();
}
