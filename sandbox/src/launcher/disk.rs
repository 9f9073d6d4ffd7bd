//! The disk on which plugins' lasting directories lie: where their reads and writes are limited.

use std::fs;
use std::os::fd::AsFd;

use crate::cgroup::Disk;

/// The whole disk of a directory's file system, or why it has none that could be limited.
pub(super) fn of(directory: impl AsFd) -> Result<Disk, String> {
    let stat = rustix::fs::fstat(directory)
        .map_err(|errno| format!("look at state-dir: {}", std::io::Error::from(errno)))?;
    let (major, minor) = (
        rustix::fs::major(stat.st_dev),
        rustix::fs::minor(stat.st_dev),
    );
    if major == 0 {
        return Err(format!(
            "state-dir is on no disk of its own but on device {major}:{minor}, as files of btrfs, \
             overlay and tmpfs are; a disk with ext4 or xfs has such limits"
        ));
    }
    let device = format!("/sys/dev/block/{major}:{minor}");
    if !matches!(fs::exists(format!("{device}/partition")), Ok(true)) {
        return Ok(Disk { major, minor });
    }
    // The link leads to the directory of the partition, which lies in that of its disk.
    let text = fs::read_to_string(format!("{device}/../dev"))
        .map_err(|error| format!("find the disk of partition {major}:{minor}: {error}"))?;
    numbers(text.trim()).ok_or_else(|| format!("the disk of partition {major}:{minor} is {text:?}"))
}

fn numbers(text: &str) -> Option<Disk> {
    let (major, minor) = text.split_once(':')?;
    Some(Disk {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_no_disk_is_told_with_its_number() {
        let proc = fs::File::open("/proc").unwrap();
        let reason = of(proc).unwrap_err();
        assert!(reason.contains("on device 0:"), "{reason}");
    }

    #[test]
    fn a_disks_numbers_are_read() {
        let disk = Disk {
            major: 254,
            minor: 16,
        };
        assert_eq!(numbers("254:16"), Some(disk));
        for bad in ["", "254", "254:x", ":"] {
            assert_eq!(numbers(bad), None, "{bad}");
        }
    }
}
