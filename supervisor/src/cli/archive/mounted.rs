//! Places that nothing restored can take: where something is mounted the kernel renames nothing, neither there nor
//! away (EBUSY).

use std::io;
use std::path::Path;

use super::areas::Area;
use super::error::{ArchiveError, file};
use super::read;

/// Refuses an archive that has something for one of these areas whose place is a mount point. It is asked before
/// anything is unpacked: all of that would only be removed again.
pub(in crate::cli) fn refuse<'a>(
    archive: &Path,
    areas: impl IntoIterator<Item = &'a Area>,
) -> Result<(), ArchiveError> {
    for area in areas {
        let path = &area.path;
        let is_mounted = is_mount_point(path).map_err(file("look at", path))?;
        // The archive may be large, and is looked into only where it has to be.
        if is_mounted && read::has(archive, &area.name)? {
            return Err(ArchiveError::Mounted { path: path.clone() });
        }
    }
    Ok(())
}

/// Whether something is mounted at a path, be it a part of the same file system. A link is no mount point, whatever
/// it leads to: it is the link that is renamed. Kernels before Linux 5.8 do not say so; there the rename tells.
fn is_mount_point(path: &Path) -> io::Result<bool> {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match statx(CWD, path, flags, StatxFlags::empty()) {
        // Not by the device's number: a subvolume of btrfs has one of its own, and is renamed like any directory.
        Ok(found) => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use tar::{Builder, EntryType, Header};

    use super::*;
    use crate::cli::archive::areas::AreaKind;
    use crate::cli::exit::{Exit, Failure};

    /// A file with these directories in it, as a tar file has them.
    fn write_archive(at: &Path, names: &[&str]) {
        let mut builder = Builder::new(File::create(at).unwrap());
        for name in names {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            header.set_mode(0o755);
            builder.append_data(&mut header, name, io::empty()).unwrap();
        }
        builder.into_inner().unwrap();
    }

    fn area(name: &'static str, path: &Path) -> Area {
        Area {
            name: name.into(),
            path: path.into(),
            kind: AreaKind::Directory,
        }
    }

    #[test]
    fn a_mount_point_is_told_from_a_directory_and_from_a_link_to_one() {
        let base = tempfile::tempdir().unwrap();
        let link = base.path().join("link");
        symlink("/proc", &link).unwrap();
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(Path::new("/proc/self")).unwrap());
        assert!(!is_mount_point(base.path()).unwrap());
        assert!(!is_mount_point(&link).unwrap());
        assert!(!is_mount_point(&base.path().join("missing")).unwrap());
    }

    #[test]
    fn a_backup_with_something_for_a_mount_point_is_refused_and_no_other() {
        let base = tempfile::tempdir().unwrap();
        let archive = base.path().join("backup.tar");
        let areas = [
            area("keys", base.path()),
            area("plugins", Path::new("/proc")),
        ];
        for name in ["plugins", "plugins/"] {
            write_archive(&archive, &["keys", name]);
            let error = refuse(&archive, &areas).unwrap_err();
            assert!(
                matches!(&error, ArchiveError::Mounted { path } if path == Path::new("/proc")),
                "{error:?}"
            );
            let failure = Failure::from(error);
            assert_eq!(failure.exit(), Exit::CannotCreate);
            assert!(failure.to_string().contains("/proc is a mount point"));
        }
        // That one stays as it is.
        refuse(&archive, areas.first()).unwrap();
        write_archive(&archive, &["keys", "plugins-of-others"]);
        refuse(&archive, &areas).unwrap();
        // What this is, is told by who unpacks it.
        fs::write(&archive, "no archive").unwrap();
        refuse(&archive, &areas).unwrap();
    }
}
