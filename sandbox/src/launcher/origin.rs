//! What a launcher was started from: its program and its unit. Where another lies there since, what runs is not
//! what should, and a daemon's end is the moment to start the new one.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Bytes compared at a time.
const PART_BYTES: usize = 64 * 1024;
/// The unit of the package. Whatever it says, capabilities and control group above all, holds for the process
/// that was started by it, until that ends.
const UNIT: &str = "pinfold-launcher.service";
/// Where it and its drop-ins lie, of the directories of systemd.unit(5): an operator's and a package's. Those
/// below /run are not mounted for the launcher.
const DIRECTORIES: [&str; 2] = ["/etc/systemd/system", "/usr/lib/systemd/system"];
/// Read of one of its files.
const UNIT_BYTES: u64 = 1 << 20;

/// What this process was started from.
#[derive(Debug)]
pub(super) struct Origin {
    unit: [u8; 32],
}

impl Origin {
    /// To be asked at the start.
    pub(super) fn now() -> Self {
        Self {
            unit: unit_in(&DIRECTORIES),
        }
    }

    /// What has been replaced since; `None` where a launcher that is started now would be the same. Its
    /// configuration is looked at elsewhere.
    pub(super) fn replaced(&self) -> Option<&'static str> {
        if is_program_replaced() {
            Some("program")
        } else if self.unit != unit_in(&DIRECTORIES) {
            Some("unit")
        } else {
            None
        }
    }
}

/// Of the unit's files: their paths and bytes. One that cannot be read is as good as none.
fn unit_in<P: AsRef<Path>>(directories: &[P]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for directory in directories {
        let path = directory.as_ref().join(UNIT);
        let entries = fs::read_dir(path.with_extension("service.d"));
        let mut drop_ins: Vec<PathBuf> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "conf"))
            .collect();
        drop_ins.sort();
        for path in std::iter::once(path).chain(drop_ins) {
            let mut bytes = Vec::new();
            let read =
                File::open(&path).and_then(|file| file.take(UNIT_BYTES).read_to_end(&mut bytes));
            if read.is_ok() {
                for part in [path.as_os_str().as_bytes(), &bytes] {
                    hash.update(part.len().to_le_bytes());
                    hash.update(part);
                }
            }
        }
    }
    hash.finalize().into()
}

/// Whether another program lies where this process was started from: an upgrade.
fn is_program_replaced() -> bool {
    const OWN: &str = "/proc/self/exe";
    // proc_pid_exe(5): what follows the path of a program whose file is gone, or has been replaced.
    const GONE: &str = " (deleted)";
    let Ok(path) = fs::read_link(OWN) else {
        return true;
    };
    match path.to_str().and_then(|path| path.strip_suffix(GONE)) {
        None => false,
        Some(path) => !matches!(are_same(path, OWN), Ok(true)),
    }
}

fn are_same(one: &str, other: &str) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; PART_BYTES], vec![0; PART_BYTES]);
    loop {
        let count = one.read(&mut a)?;
        let (Some(part), Some(its)) = (a.get(..count), b.get_mut(..count)) else {
            return Ok(false);
        };
        other.read_exact(its)?;
        if part != its {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_the_same_only_with_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let long = vec![7; PART_BYTES + 1];
        let mut other = long.clone();
        other[PART_BYTES] = 8;
        let one = write("one", &long);
        for (bytes, same) in [
            (&long[..], true),
            (&other[..], false),
            (&long[1..], false),
            (&[][..], false),
        ] {
            let other = write("other", bytes);
            assert_eq!(are_same(&one, &other).unwrap(), same);
        }
        let empty = write("empty", &[]);
        assert!(are_same(&empty, &empty).unwrap());
        assert!(are_same(&one, "/absent").is_err());
        // That of this test lies where it was started from.
        assert!(!is_program_replaced());
    }

    #[test]
    fn a_unit_is_its_files_and_their_bytes_wherever_they_lie() {
        let base = tempfile::tempdir().unwrap();
        let directories = ["etc", "lib"].map(|name| base.path().join(name));
        let drop_ins = directories[0].join("pinfold-launcher.service.d");
        fs::create_dir_all(&drop_ins).unwrap();
        fs::create_dir(&directories[1]).unwrap();
        let mut seen = vec![unit_in(&directories)];
        let unit = directories[1].join(UNIT);
        for (path, text) in [
            (&unit, "Delegate=cpu"),
            (&unit, "Delegate=cpu io"),
            (&drop_ins.join("20-b.conf"), "Delegate=io"),
            (&drop_ins.join("10-a.conf"), "Delegate=io"),
            (&directories[0].join(UNIT), "Delegate=cpu io"),
        ] {
            fs::write(path, text).unwrap();
            let now = unit_in(&directories);
            assert!(!seen.contains(&now), "{}: {text}", path.display());
            seen.push(now);
        }
        // What is not read, and what was written once more.
        fs::write(drop_ins.join("notes"), "Delegate=no").unwrap();
        fs::write(directories[0].join("pinfold.service"), "").unwrap();
        fs::write(&unit, "Delegate=cpu io").unwrap();
        assert_eq!(seen.last(), Some(&unit_in(&directories)));
    }
}
