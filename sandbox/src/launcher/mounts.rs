//! The extra mounts that a policy names: what of the host they are made of, and that they are in the way
//! of nothing that the jail has.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use pinfold_policy::{LaunchTemplate, LauncherConfig, Mount, PluginId, PolicyFile, UidRange};
use rustix::fs::{FsWord, StatVfsMountFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::files::Files;
use super::host_path::{self, HostPathError};
use crate::jail::{self, HostMount};
use crate::posture::MountState;
use crate::trust::TrustedEntry;

/// File systems in which files are no files but the kernel's own affairs, by the numbers of statfs(2):
/// proc, sysfs, cgroup and cgroup2, debugfs, tracefs, securityfs, configfs, bpf, devpts, efivarfs, pstore,
/// binfmt_misc, fusectl, nsfs, selinuxfs. One that is mounted at another place than the usual one is known
/// by them.
const KERNELS_OWN: [FsWord; 16] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0x6265_6570,
    0xcafe_4a11,
    0x1cd1,
    0xde5e_81e4,
    0x6165_676c,
    0x4249_4e4d,
    0x6573_5543,
    0x6e73_6673,
    0xf97c_ff8c,
];

/// Why a mount is not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum MountError {
    #[error("the mount at {target:?} cannot be made")]
    Path {
        target: String,
        #[source]
        source: HostPathError,
    },
    #[error("the mount at {target:?}: {path:?} is neither a directory nor a regular file")]
    Kind { target: String, path: String },
    #[error("the mount at {target:?}: {path:?} lies in a file system of the kernel's own")]
    KernelsOwn { target: String, path: String },
    #[error(
        "the mount at {target:?}: rw, and {path:?} is read-only for the launcher; under its unit name it \
         in ReadWritePaths="
    )]
    ReadOnly { target: String, path: String },
    #[error("the mount at {target:?}: look at the file system of {path:?}")]
    FileSystem {
        target: String,
        path: String,
        #[source]
        source: Errno,
    },
    #[error("the mount at {target:?} is in the way of {place:?}, which the jail has of its own")]
    InTheWay { target: String, place: String },
    #[error("mounts are the operator's to give: a policy that the daemon wrote itself has none")]
    Development,
}

/// Whose mounts, and what else is in that jail.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) plugin: &'a PluginId,
    pub(super) policy: &'a PolicyFile,
    pub(super) template: &'a LaunchTemplate,
}

/// Opens and checks all of them. With them comes what stands for what lies there: another file or
/// directory in the place of one makes it another (SHA-256; what is written to one, and what lies in a
/// directory, does not count).
pub(super) fn open(
    files: &Files,
    config: &LauncherConfig,
    of: Of<'_>,
) -> Result<(Vec<HostMount>, [u8; 32]), MountError> {
    let mut stamp = Sha256::new();
    let mut mounts = Vec::new();
    for mount in &of.policy.mounts {
        let entry = entry(files, config, of, mount)?;
        stamp.update(Sha256::digest(&mount.source));
        stamp.update(entry.metadata.dev().to_le_bytes());
        stamp.update(entry.metadata.ino().to_le_bytes());
        mounts.push(HostMount {
            source: mount.source.clone(),
            target: mount.target.clone(),
            is_directory: entry.metadata.is_dir(),
            is_writable: mount.rw,
            opened: entry.descriptor,
        });
    }
    Ok((mounts, stamp.finalize().into()))
}

/// What a posture says of them: each with the owner of what it is made of, or why it is refused.
pub(super) fn states(
    files: &Files,
    config: &LauncherConfig,
    (plugin, policy): (&PluginId, &PolicyFile),
    is_development: bool,
) -> Vec<MountState> {
    // Without it nothing starts, which is told elsewhere.
    let Ok(template) = files.template(&policy.dialect) else {
        return Vec::new();
    };
    let of = Of {
        plugin,
        policy,
        template: &template,
    };
    let state = |mount: &Mount| {
        let found = match is_development {
            true => Err(MountError::Development),
            false => entry(files, config, of, mount),
        };
        MountState {
            source: mount.source.clone(),
            target: mount.target.clone(),
            is_writable: mount.rw,
            found: host_path::state(found),
        }
    };
    policy.mounts.iter().map(state).collect()
}

/// One of them, opened and checked.
fn entry(
    files: &Files,
    config: &LauncherConfig,
    of: Of<'_>,
    mount: &Mount,
) -> Result<TrustedEntry, MountError> {
    let (target, path) = (mount.target.clone(), mount.source.clone());
    if let Some(place) = in_the_way(of, &mount.target) {
        return Err(MountError::InTheWay { target, place });
    }
    // What a plugin may write may be its own, as far as ids are told apart.
    let UidRange { first, count } = config.uid_range;
    let plugins = match mount.rw && files.host_roots.is_none() {
        true => first..first.saturating_add(count),
        false => 0..0,
    };
    let entry = host_path::open(files, config, &path, |uid| plugins.contains(&uid));
    let entry = match entry {
        Ok(entry) => entry,
        Err(source) => return Err(MountError::Path { target, source }),
    };
    if !entry.metadata.is_dir() && !entry.metadata.is_file() {
        return Err(MountError::Kind { target, path });
    }
    let kind = rustix::fs::fstatfs(&entry.descriptor).map(|found| found.f_type);
    let is_read_only = rustix::fs::fstatvfs(&entry.descriptor)
        .map(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY));
    match (kind, is_read_only) {
        (Err(source), _) | (_, Err(source)) => Err(MountError::FileSystem {
            target,
            path,
            source,
        }),
        (Ok(kind), _) if KERNELS_OWN.contains(&kind) => {
            Err(MountError::KernelsOwn { target, path })
        }
        (_, Ok(true)) if mount.rw => Err(MountError::ReadOnly { target, path }),
        _ => Ok(entry),
    }
}

/// What the jail makes that would lie beneath a mount at `target`, or over it: a policy alone does not
/// tell.
fn in_the_way(of: Of<'_>, target: &str) -> Option<String> {
    let target = Path::new(target);
    let runtime = of.policy.runtime.as_ref();
    let loader = runtime.and_then(jail::loader_link).map(|(path, _)| path);
    let links = of.template.links(of.plugin).map(|(path, _)| path);
    let mut places = links
        .chain([of.template.tmp_directory(of.plugin)])
        .chain(loader);
    let overlaps = |place: &String| {
        let place = Path::new(place);
        place.starts_with(target) || target.starts_with(place)
    };
    // There may be more in that directory, where nothing is mounted over itself.
    let working = &of.template.working_directory;
    places.find(overlaps).or_else(|| {
        Path::new(working)
            .starts_with(target)
            .then(|| working.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_template_makes_is_not_mounted_over() {
        let template = include_str!("../../dialects/goatflow.toml")
            .replace(
                "working-directory = \"/app\"",
                "working-directory = \"/srv/app\"",
            )
            .replace("\"/app/", "\"/srv/app/");
        let template = LaunchTemplate::parse(template.as_bytes()).unwrap();
        let policy = "schema = 1\ndialect = 'goatflow'\nentry = 'x'\n[trust]\nunsigned = true\n\
                      [runtime]\nloader = '/opt/ld-linux-x86-64.so.2'\n";
        let policy = PolicyFile::parse(policy.as_bytes()).unwrap();
        let plugin: PluginId = "hello".parse().unwrap();
        let of = Of {
            plugin: &plugin,
            policy: &policy,
            template: &template,
        };
        for (target, place) in [
            ("/srv", Some("/srv/app/config/plugins/hello")),
            ("/srv/app", Some("/srv/app/config/plugins/hello")),
            (
                "/srv/app/config/plugins/hello/x",
                Some("/srv/app/config/plugins/hello"),
            ),
            ("/srv/app/config/other", None),
            ("/lib64", Some("/lib64/ld-linux-x86-64.so.2")),
            ("/data", None),
        ] {
            assert_eq!(in_the_way(of, target).as_deref(), place, "{target}");
        }
    }
}
