//! The capabilities and system calls that the launcher keeps: what the steps of a launch need, and
//! no more. Both hold for every program that it starts.

use caps::{CapSet, Capability, CapsHashSet};

use crate::posture::Mode;
use crate::seccomp::{Arch, launcher_filter};
use crate::sys::filter;

/// What for: mounts, namespaces and groups; ids of the plugin and its reaper; giving up sets;
/// signals and looking at a jail of another user; directories of plugins; loopback; limits.
const KEPT: [Capability; 11] = [
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_KILL,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_CHOWN,
    Capability::CAP_FOWNER,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_SYS_RESOURCE,
];

/// In user mode also: since Linux 5.12 a user namespace's map may only hold its maker's root where
/// the maker has it, and there the launcher is its namespace's root.
const KEPT_BY_A_USER: Capability = Capability::CAP_SETFCAP;

/// Gives up every other capability, for good.
pub(super) fn drop_others(mode: Mode) -> Result<(), caps::errors::CapsError> {
    let mut keep = KEPT.to_vec();
    if mode == Mode::User {
        keep.push(KEPT_BY_A_USER);
    }
    for capability in caps::read(None, CapSet::Bounding)? {
        if !keep.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability)?;
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    // A unit may have left us fewer.
    let held = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = keep.into_iter().filter(|one| held.contains(one)).collect();
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}

/// Gives up the system calls that no step makes and no profile may allow. Where that cannot be had the
/// launcher goes on without: the posture says so, with this reason.
pub(super) fn refuse_others() -> Result<(), String> {
    let arch = Arch::native().ok_or("there are no filters for this machine's architecture")?;
    let program = launcher_filter(arch).to_bytes();
    filter::install(&program).map_err(|error| format!("install the filter: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_unit_leaves_what_is_kept_and_no_more() {
        let unit = include_str!("../../../systemd/pinfold-launcher.service");
        let left = unit
            .lines()
            .find_map(|line| line.strip_prefix("CapabilityBoundingSet="))
            .expect("the unit has a bounding set");
        let left: BTreeSet<String> = left.split_whitespace().map(str::to_owned).collect();
        let kept = KEPT.iter().map(ToString::to_string).collect();
        assert_eq!(left, kept);
    }
}
