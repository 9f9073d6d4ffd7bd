//! Stopping a group as a whole, so that none of it can make another process while it is killed one by
//! one: `freezer.state` on version 1, `cgroup.freeze` on version 2.

use std::time::{Duration, Instant};

use super::dir::Dir;

/// Longest wait until every task has stopped. A running one does so at its next interrupt; one that waits
/// for a disk later, and forks no more before it has.
const LONGEST: Duration = Duration::from_millis(20);

/// A group that was told to stop. Dropping it lets what is left of it go on.
#[derive(Debug)]
pub(super) struct Frozen<'a> {
    dir: &'a Dir,
    kind: Kind,
    is_whole: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    V1,
    V2,
}

/// Whether a group can be stopped.
pub(super) fn is_able(dir: &Dir) -> bool {
    kind(dir).is_some()
}

/// Stops a group. `None`: it cannot be stopped, and its tasks go on.
pub(super) fn freeze(dir: &Dir) -> Option<Frozen<'_>> {
    let kind = kind(dir)?;
    match kind {
        Kind::V1 => dir.write("freezer.state", "FROZEN").ok()?,
        Kind::V2 => dir.write("cgroup.freeze", "1").ok()?,
    }
    let until = Instant::now() + LONGEST;
    let mut frozen = Frozen {
        dir,
        kind,
        is_whole: false,
    };
    loop {
        frozen.is_whole = match kind {
            Kind::V1 => dir
                .read("freezer.state")
                .is_ok_and(|state| state.trim() == "FROZEN"),
            Kind::V2 => dir.keyed("cgroup.events", "frozen") == Some(1),
        };
        if frozen.is_whole || Instant::now() >= until {
            return Some(frozen);
        }
        std::thread::yield_now();
    }
}

fn kind(dir: &Dir) -> Option<Kind> {
    match (dir.has("freezer.state"), dir.has("cgroup.freeze")) {
        (true, _) => Some(Kind::V1),
        (false, true) => Some(Kind::V2),
        (false, false) => None,
    }
}

impl Frozen<'_> {
    /// Whether every task had stopped, so that a list of them is all of them.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }
}

impl Drop for Frozen<'_> {
    /// On version 1 what was killed meanwhile ends only now.
    fn drop(&mut self) {
        let _thawed = match self.kind {
            Kind::V1 => self.dir.write("freezer.state", "THAWED"),
            Kind::V2 => self.dir.write("cgroup.freeze", "0"),
        };
    }
}
