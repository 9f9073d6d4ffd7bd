//! The launcher's own namespaces: a mount table of its own, and, where it is no root, a user
//! namespace in which it is.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// A mount table of its own, from which nothing gets out and into which nothing comes.
pub(crate) fn own_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    private()
}

/// A user namespace in which this user is root, with a mount table of its own. Groups cannot be
/// changed in it; of other users' ids nothing is to be seen.
pub(super) fn own_users() -> io::Result<()> {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    map(0, uid, 0, gid)?;
    private()
}

/// Maps one user and one group of the outside into the user namespace that this process has just
/// made.
pub(super) fn map(uid: u32, outer_uid: u32, gid: u32, outer_gid: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {outer_uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {outer_gid} 1"))
}

fn private() -> io::Result<()> {
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    Ok(mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?)
}

/// What every launch needs of the host besides the directories of the configuration.
const NEEDED: [&str; 5] = ["/proc", "/dev", "/etc", "/usr", "/opt"];

/// Detaches every mount that no launch needs, in the launcher's own mount namespace: each jail begins
/// with a copy of this table, and pays for its length. Kept are the control groups, what `trees` and
/// `sources` lie on, and what is mounted beneath them. Gives where those were that are gone.
///
/// `sources` are taken as they are written: the server of one may be gone, and who looks for it then waits
/// for ever. One with a symbolic link in it is refused when it is opened.
pub(super) fn detach_others(trees: &[&Path], sources: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let real = |path: &&Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let trees: Vec<PathBuf> = trees
        .iter()
        .map(real)
        .chain(sources.iter().cloned())
        .collect();
    let table = fs::read("/proc/self/mountinfo")?;
    let mounts: Vec<(PathBuf, bool)> = table
        .split(|byte| *byte == b'\n')
        .filter_map(parse)
        .collect();
    let mut gone = Vec::new();
    // The last ones first: they lie on the others.
    for (point, is_group) in mounts.iter().rev() {
        let leads_to = |path: &Path| path.starts_with(point);
        let is_needed = *is_group
            || NEEDED.iter().any(|path| leads_to(Path::new(path)))
            || trees
                .iter()
                .any(|tree| leads_to(tree) || point.starts_with(tree))
            || mounts
                .iter()
                .any(|(other, is_group)| *is_group && leads_to(other));
        if is_needed {
            continue;
        }
        match umount2(point, MntFlags::MNT_DETACH) {
            Ok(()) => gone.push(point.clone()),
            // Gone with the one that it lay on, or kept by the kernel: a longer table, no more.
            Err(nix::errno::Errno::EINVAL) => {}
            Err(errno) => super::log::line(&format!("detach {point:?}: {errno}")),
        }
    }
    Ok(gone)
}

/// Mount point of a line of proc_pid_mountinfo(5), and whether control groups are mounted there.
fn parse(line: &[u8]) -> Option<(PathBuf, bool)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = unescape(fields.nth(4)?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some((point, matches!(kind, b"cgroup" | b"cgroup2")))
}

/// Space, tab, line end and backslash are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let code = match (first, tail) {
            (b'\\', [a, b, c, ..]) => std::str::from_utf8(&[*a, *b, *c])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 8).ok()),
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = match code {
            Some(_) => tail.get(3..).unwrap_or_default(),
            None => tail,
        };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_mount_table_are_read() {
        let line = br"38 24 0:31 / /with\040space rw,relatime shared:5 - tmpfs tmpfs rw";
        assert_eq!(parse(line), Some(("/with space".into(), false)));
        let line = b"31 23 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids";
        assert_eq!(parse(line), Some(("/sys/fs/cgroup/pids".into(), true)));
        assert_eq!(parse(b""), None);
    }
}
