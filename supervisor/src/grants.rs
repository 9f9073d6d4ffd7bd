//! From what a manifest asks for to a policy file that grants it.

use std::collections::BTreeMap;

use pinfold_policy::{
    ByteSize, Control, ControlWish, Exec, Limits, PolicyFile, ProcView, Rates, Timeouts, Trust,
    Wanted,
};

use crate::dialect::Manifest;

/// A policy that grants everything that `manifest` asks for, with the limits that it wishes for.
#[must_use]
pub(crate) fn as_asked(dialect: &str, manifest: &Manifest, trust: Trust) -> PolicyFile {
    let mut limits = Limits::default();
    if let Some(memory) = manifest.wished_memory {
        limits.memory = memory.max(ByteSize::mebibytes(8));
        limits.tmp = limits.tmp.min(ByteSize(limits.memory.0 / 4));
    }
    let mut timeouts = Timeouts::default();
    for (wish, value) in [
        (manifest.wished_call, &mut timeouts.call),
        (manifest.wished_init, &mut timeouts.init),
        (manifest.wished_shutdown, &mut timeouts.shutdown),
    ] {
        *value = wish.unwrap_or(*value);
    }
    PolicyFile {
        schema: 1,
        dialect: dialect.into(),
        entry: manifest.entry.clone(),
        args: Vec::new(),
        profile: "default".into(),
        exec: Exec::default(),
        syscall_groups: Vec::new(),
        loopback: true,
        proc: ProcView::default(),
        runtime: None,
        mounts: Vec::new(),
        trust,
        permissions: manifest.asked.clone(),
        limits,
        timeouts,
        rates: Rates::default(),
        controls: controls(),
        env: BTreeMap::new(),
    }
}

/// A user without a delegated control group can have no memory limit: the file says so, with the
/// reason, rather than refusing every launch.
fn controls() -> BTreeMap<String, ControlWish> {
    let mut controls = BTreeMap::new();
    if !nix::unistd::geteuid().is_root() && !delegated() {
        let wish = ControlWish::Lowered {
            wanted: Wanted::Preferred,
            reason: "no delegation".into(),
        };
        controls.insert(Control::Memory.id().into(), wish);
        controls.insert(
            Control::Cpu.id().into(),
            ControlWish::Plain(Wanted::Preferred),
        );
    }
    controls
}

/// Whether this user's control group (v2) has been delegated with the memory controller: its
/// `cgroup.procs` can be written (cgroups(7), "Delegating a cgroup").
fn delegated() -> bool {
    let Ok(groups) = std::fs::read_to_string("/proc/self/cgroup") else {
        return false;
    };
    let Some(path) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return false;
    };
    let group = std::path::Path::new("/sys/fs/cgroup").join(path);
    let controllers = std::fs::read_to_string(group.join("cgroup.controllers"));
    controllers.is_ok_and(|list| list.split_whitespace().any(|name| name == "memory"))
        && nix::unistd::access(&group.join("cgroup.procs"), nix::unistd::AccessFlags::W_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_grants_what_is_asked_and_is_one_that_is_read_back() {
        let manifest = Manifest {
            entry: "hello".into(),
            asked: toml::from_str("cache = 'read'").unwrap(),
            wished_memory: Some(ByteSize::mebibytes(32)),
            ..Manifest::default()
        };
        let trust = Trust {
            unsigned: true,
            ..Trust::default()
        };
        let policy = as_asked("goatflow", &manifest, trust);
        assert_eq!(policy.limits.tmp, ByteSize::mebibytes(8));
        assert_eq!(PolicyFile::parse(policy.to_toml().as_bytes()), Ok(policy));
    }
}
