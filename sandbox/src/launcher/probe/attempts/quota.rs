//! The size limit of a lasting directory, tried in a directory of the probe's own beside those of
//! plugins.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, setresuid};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::{Outcome, Setting, expect, failed, in_child};
use crate::launcher::controls::Tried;
use crate::launcher::log;
use crate::quota::{self, QuotaLimits};

/// No plugin's: none begins with a dot.
const NAME: &str = ".quota-probe";

/// What is written in it.
const FILE: &str = "file";

/// What may be written into it: with less xfs makes no file at all.
const LIMITS: QuotaLimits = QuotaLimits {
    bytes: 1 << 20,
    files: 16,
};

/// Twice of it.
const TOO_MUCH: usize = 2 << 20;

pub(super) fn state_quota(setting: &Setting) -> Tried {
    let Some(project) = setting.project else {
        return Tried::missing("limits of a directory's size are set by the machine's root alone");
    };
    let possible = File::open(&setting.states_dir)
        .map_err(|error| failed("open the directory of plugins' directories", error))
        .and_then(|states| quota::is_possible(states).map_err(|error| log::chain(&error)));
    // What it leaves in memory it leaves to a child's.
    match possible.and_then(|()| in_child(|| attempt(&setting.states_dir, project))) {
        Ok(()) => Tried::enforced("quotas of projects"),
        Err(reason) => Tried::missing(reason),
    }
}

fn attempt(states_dir: &Path, project: u32) -> Outcome {
    let directory = Directory::make(states_dir, project)?;
    let opened = directory.open()?;
    quota::limit(&opened, project, LIMITS).map_err(|error| log::chain(&error))?;
    let written = in_child(|| directory.overfill());
    quota::lift(&opened, project).map_err(|error| log::chain(&error))?;
    written
}

/// The probe's directory; dropping it removes it.
struct Directory {
    path: PathBuf,
    owner: Uid,
}

impl Directory {
    fn make(states_dir: &Path, owner: u32) -> Result<Self, String> {
        let directory = Self {
            path: states_dir.join(NAME),
            owner: Uid::from_raw(owner),
        };
        // Of a probe that was killed.
        directory.remove();
        DirBuilder::new()
            .mode(0o700)
            .create(&directory.path)
            .and_then(|()| std::os::unix::fs::lchown(&directory.path, Some(owner), Some(owner)))
            .map_err(|error| failed("make a directory", error))?;
        Ok(directory)
    }

    fn open(&self) -> Result<File, String> {
        File::open(&self.path).map_err(|error| failed("open a directory", error))
    }

    fn file(&self) -> PathBuf {
        self.path.join(FILE)
    }

    /// As a user to whom the limit is one, and who does not reach the directory by its path.
    fn overfill(&self) -> Outcome {
        let opened = self.open()?;
        setresuid(self.owner, self.owner, self.owner)
            .map_err(|errno| failed("take a user id", errno))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let file = openat(&opened, FILE, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| failed("make a file", errno))?;
        let mut file = File::from(file);
        let written = file
            .write_all(&vec![0; TOO_MUCH])
            .and_then(|()| file.sync_all());
        let refused = |error: &io::Error| {
            // xfs says of projects that there is no space.
            let codes = [Errno::DQUOT, Errno::NOSPC].map(|errno| Some(errno.raw_os_error()));
            codes.contains(&error.raw_os_error())
        };
        match written {
            Err(error) if refused(&error) => Ok(()),
            Err(error) => Err(failed("write into it", error)),
            Ok(()) => expect(false, "more than its limit could be written"),
        }
    }

    /// What remains is removed by the next probe, or told by it.
    fn remove(&self) {
        let _file = fs::remove_file(self.file());
        let _directory = fs::remove_dir(&self.path);
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.remove();
    }
}
