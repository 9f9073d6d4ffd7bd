//! Paths of the host that a policy names: how they are written, and what of the host is in no jail.

/// Longest path, in bytes.
pub(crate) const PATH_LIMIT_BYTES: usize = 512;

/// Directories of the host that are in no jail: neither they nor what lies in them.
const NEVER: [&str; 6] = ["/proc", "/sys", "/dev", "/run", "/etc", "/boot"];

/// Whether `path` is `tree` or lies in it, by whole names. Both are plain absolute paths: nothing is looked up,
/// and `/` has nothing in it.
#[must_use]
pub fn lies_in(path: &str, tree: &str) -> bool {
    path.strip_prefix(tree)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether one of the two is the other or lies in it.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    lies_in(one, other) || lies_in(other, one)
}

/// Why a text is no path that a policy may name.
pub(crate) fn path_fault(path: &str) -> Option<&'static str> {
    let plain = path
        .strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")));
    if !plain || path.len() > PATH_LIMIT_BYTES || path.contains('\0') {
        return Some("write an absolute path without \".\", \"..\" and empty parts; / is none");
    }
    None
}

/// Why a path of the host is in no jail. Nothing but `/`, which is no such path, has one of these
/// directories in it.
pub(crate) fn of_host_fault(path: &str) -> Option<&'static str> {
    path_fault(path).or_else(|| {
        let is_never = NEVER.iter().any(|tree| lies_in(path, tree));
        is_never.then_some("nothing of that directory is in any jail")
    })
}
