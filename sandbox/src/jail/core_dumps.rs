//! What a jail may leave of itself when it crashes: nothing.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit on core dumps, in bytes, that keeps off a program too, which `kernel.core_pattern` may name: the
/// kernel starts it as root for a crash under any other limit, 0 included (core(5)). No dump is so small.
const NO_PROGRAM: u64 = 1;

/// Limits the core dumps of this process and of whatever it starts, for good.
///
/// # Errors
/// The kernel's.
pub(crate) fn forbid() -> rustix::io::Result<()> {
    let to = |limit| Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    // Who may not raise limits has 0 where that is the most already.
    setrlimit(Resource::Core, to(NO_PROGRAM)).or_else(|_| setrlimit(Resource::Core, to(0)))
}

/// The limit that jails have, given this process's own.
pub(crate) fn limit() -> u64 {
    let most = getrlimit(Resource::Core).maximum;
    most.map_or(NO_PROGRAM, |most| most.min(NO_PROGRAM))
}
