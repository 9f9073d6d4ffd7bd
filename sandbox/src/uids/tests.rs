use std::fs;
use std::path::PathBuf;

use super::*;

const RANGE: UidRange = UidRange {
    first: 500_000,
    count: 3 * BLOCK_IDS,
};

/// One that begins in the middle of a block of that.
const BETWEEN: UidRange = UidRange {
    first: RANGE.first + 1000,
    ..RANGE
};

struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("passwd"), "a:x:1000:1000::/:/bin/sh\n").unwrap();
        fs::write(root.path().join("subuid"), "a:100000:65536\n").unwrap();
        Self { root }
    }

    fn state(&self, name: &str) -> PathBuf {
        let state = self.root.path().join(name);
        fs::create_dir_all(&state).unwrap();
        state
    }

    fn lease(&self, range: UidRange, state: &str) -> Result<Uids, UidError> {
        let path = |name| self.root.path().join(name);
        Uids::lease(
            range,
            &path("leases"),
            &self.state(state),
            &path("passwd"),
            &path("subuid"),
        )
    }
}

fn plugin(name: &str) -> PluginId {
    name.parse().unwrap()
}

#[test]
fn a_plugin_keeps_its_id_over_restarts_and_no_two_share_one() {
    let machine = Machine::new();
    let mut uids = machine.lease(RANGE, "a").unwrap();
    let (hello, other) = (
        uids.plugin(&plugin("hello")).unwrap(),
        uids.plugin(&plugin("other")).unwrap(),
    );
    assert_ne!(hello, other);
    assert_eq!(uids.plugin(&plugin("hello")).unwrap(), hello);
    drop(uids);
    let _other_launcher = machine.lease(RANGE, "b").unwrap();
    let mut again = machine.lease(RANGE, "a").unwrap();
    assert_eq!(again.plugin(&plugin("other")).unwrap(), other);
    assert_eq!(again.plugin(&plugin("hello")).unwrap(), hello);
}

#[test]
fn launchers_side_by_side_have_blocks_of_their_own_and_one_state_directory_each() {
    let machine = Machine::new();
    let held: Vec<Uids> = ["a", "b", "c"]
        .map(|state| machine.lease(RANGE, state).unwrap())
        .into();
    let mut firsts: Vec<u32> = held.iter().map(|uids| uids.block().0).collect();
    firsts.sort_unstable();
    assert_eq!(
        firsts,
        [500_000, 500_000 + BLOCK_IDS, 500_000 + 2 * BLOCK_IDS]
    );
    assert!(matches!(
        machine.lease(RANGE, "a"),
        Err(UidError::Lease(LeaseError::InUse { .. }))
    ));
    assert!(matches!(
        machine.lease(RANGE, "d"),
        Err(UidError::Lease(LeaseError::Exhausted { blocks: 3, .. }))
    ));
}

#[test]
fn launchers_of_ranges_that_begin_elsewhere_share_no_id() {
    let machine = Machine::new();
    let first = machine.lease(RANGE, "a").unwrap();
    assert_eq!(first.block(), (500_000, BLOCK_IDS));
    let second = machine.lease(BETWEEN, "b").unwrap();
    assert_eq!(second.block(), (501_000 + BLOCK_IDS, BLOCK_IDS));
    // Nor while it does not run; and each comes back to its own.
    drop((first, second));
    let third = machine.lease(BETWEEN, "c").unwrap();
    assert_eq!(third.block().0, 501_000 + 2 * BLOCK_IDS);
    let second = machine.lease(BETWEEN, "b").unwrap();
    assert_eq!(second.block().0, 501_000 + BLOCK_IDS);
}

#[test]
fn a_state_directory_that_comes_back_gets_no_ids_that_are_anothers_by_then() {
    let machine = Machine::new();
    drop(machine.lease(RANGE, "a").unwrap());
    let (there, away) = (machine.state("a"), machine.state("away"));
    fs::remove_dir(&away).unwrap();
    fs::rename(&there, &away).unwrap();
    let second = machine.lease(BETWEEN, "b").unwrap();
    assert_eq!(second.block(), (501_000, BLOCK_IDS));
    fs::rename(&away, &there).unwrap();
    let first = machine.lease(RANGE, "a").unwrap();
    assert_eq!(first.block(), (500_000 + 2 * BLOCK_IDS, BLOCK_IDS));
}

#[test]
fn a_block_grows_only_by_ids_that_are_nobodys() {
    let machine = Machine::new();
    let of = |first, count| UidRange { first, count };
    drop(machine.lease(of(500_000, 16), "a").unwrap());
    let second = machine.lease(of(500_016, 16), "b").unwrap();
    let wider = machine.lease(of(500_000, 32), "a");
    let Err(UidError::Lease(LeaseError::Widened { other, .. })) = &wider else {
        panic!("{:?}", wider.map(|uids| uids.block()));
    };
    assert_eq!(*other, machine.root.path().join("leases/500016"));
    drop(second);
    fs::remove_dir_all(machine.state("b")).unwrap();
    let first = machine.lease(of(500_000, 32), "a").unwrap();
    assert_eq!(first.block(), (500_000, 32));
}

#[test]
fn small_ranges_lie_side_by_side() {
    let machine = Machine::new();
    let small = |first| UidRange { first, count: 16 };
    let first = machine.lease(small(500_000), "a").unwrap();
    let second = machine.lease(small(500_016), "b").unwrap();
    assert_eq!(second.block(), (500_016, 16));
    assert!(machine.lease(small(500_008), "c").is_err());
    drop(first);
    // As an earlier version wrote it: how many there are is not known, and added.
    let lease = machine.root.path().join("leases/500000");
    let state = machine.state("a").into_os_string().into_string().unwrap();
    fs::write(&lease, format!("{state}\n")).unwrap();
    assert!(machine.lease(small(500_032), "c").is_err());
    let again = machine.lease(small(500_000), "a").unwrap();
    assert_eq!(again.block(), (500_000, 16));
    assert_eq!(fs::read_to_string(lease).unwrap(), format!("{state}\n16\n"));
    machine.lease(small(500_032), "c").unwrap();
}

#[test]
fn a_block_is_free_again_only_when_its_state_directory_is_gone() {
    let machine = Machine::new();
    let one = UidRange {
        count: BLOCK_IDS,
        ..RANGE
    };
    drop(machine.lease(one, "a").unwrap());
    assert!(matches!(
        machine.lease(one, "b"),
        Err(UidError::Lease(LeaseError::Exhausted { .. }))
    ));
    fs::remove_dir_all(machine.state("a")).unwrap();
    machine.lease(one, "b").unwrap();
}

#[test]
fn reapers_ids_are_given_back_and_are_never_a_plugins() {
    let machine = Machine::new();
    let small = UidRange {
        first: 500_000,
        count: 16,
    };
    let mut uids = machine.lease(small, "a").unwrap();
    let reapers: Vec<u32> = (0..8).map(|_| uids.reaper().unwrap()).collect();
    assert!(matches!(
        uids.reaper(),
        Err(UidError::Exhausted { count: 8, .. })
    ));
    let plugin = uids.plugin(&plugin("hello")).unwrap();
    assert!(!reapers.contains(&plugin));
    uids.release_reaper(reapers[3]);
    assert_eq!(uids.reaper().unwrap(), reapers[3]);
}

#[test]
fn a_range_that_somebody_has_is_refused_with_the_line() {
    let machine = Machine::new();
    let range = UidRange {
        first: 165_000,
        count: 4096,
    };
    let error = machine.lease(range, "a").unwrap_err().to_string();
    assert!(
        error.starts_with("uid-range 165000 + 4096 overlaps with \"a\" of"),
        "{error}"
    );
}
