//! What a test needs of the machine.

use crate::skip::skip;

/// Whether the test may go on.
pub(crate) fn has(test: &str, ability: &str, is_there: bool, why_not: &str) -> bool {
    if !is_there {
        skip(test, ability, why_not);
    }
    is_there
}

/// Root, outside any user namespace of a user.
pub(crate) fn root(test: &str) -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_root =
        rustix::process::geteuid().is_root() && map.split_whitespace().last() != Some("1");
    has(test, "root", is_root, "this is an ordinary user")
}
