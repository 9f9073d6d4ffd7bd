//! What of the host a plugin runs on: programs and directories that the policy names.

use std::os::fd::OwnedFd;

/// The runtime of a plugin, opened and checked.
#[derive(Debug)]
pub struct Runtime {
    /// What the policy says.
    pub named: pinfold_policy::Runtime,
    /// Its mounts, in the order of [`pinfold_policy::Runtime::mounts`].
    pub mounts: Vec<RuntimeMount>,
    /// Device and inode of the interpreter, where there is one.
    pub interpreter: Option<(u64, u64)>,
}

/// One directory or program of the host, mounted read-only at the same path.
#[derive(Debug)]
pub struct RuntimeMount {
    /// Absolute path, in the host and in the jail.
    pub path: String,
    /// A descriptor of it in the launcher's mount namespace.
    pub source: OwnedFd,
    /// Whether it is a directory, and not a program.
    pub is_directory: bool,
}

/// Where a program that is linked against shared libraries names its loader, by the loader's own
/// name: the first part is in the program itself and the same on every distribution.
const NAMED_AT: [(&str, &str); 4] = [
    ("ld-linux-x86-64.so.2", "/lib64"),
    ("ld-linux-aarch64.so.1", "/lib"),
    ("ld-musl-x86_64.so.1", "/lib"),
    ("ld-musl-aarch64.so.1", "/lib"),
];

/// The link by which programs find the loader, where it lies elsewhere: path and target.
pub(crate) fn loader_link(named: &pinfold_policy::Runtime) -> Option<(String, &str)> {
    let loader = named.loader.as_deref()?;
    let (_, name) = loader.rsplit_once('/')?;
    let (_, directory) = NAMED_AT.iter().find(|(known, _)| *known == name)?;
    let path = format!("{directory}/{name}");
    let is_there = named
        .mounts()
        .any(|mount| pinfold_policy::lies_in(&path, mount));
    (!is_there).then_some((path, loader))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(loader: &str, paths: &[&str]) -> Option<(String, String)> {
        let named = pinfold_policy::Runtime {
            loader: Some(loader.to_owned()),
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            ..pinfold_policy::Runtime::default()
        };
        let (path, target) = loader_link(&named)?;
        Some((path, target.to_owned()))
    }

    #[test]
    fn a_loader_is_found_where_programs_name_it() {
        let glibc = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
        assert_eq!(
            link(glibc, &[]),
            Some(("/lib64/ld-linux-x86-64.so.2".into(), glibc.into()))
        );
        assert_eq!(link(glibc, &["/lib64"]), None);
        assert_eq!(link("/lib/ld-musl-x86_64.so.1", &[]), None);
        assert_eq!(link("/usr/lib/ld-other.so", &[]), None);
    }
}
