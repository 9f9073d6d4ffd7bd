//! Writing the plan of a jail, in the format that the reaper reads.

use std::ffi::{CString, NulError};
use std::os::fd::OwnedFd;

use pinfold_reaper::plan::{
    ARGUMENTS_LIMIT, HEADER_BYTES, LIMIT_BYTES, LISTENERS_LIMIT, Landlock, MAGIC, MOUNTS_LIMIT,
    Settings, TASKS_LIMIT, Tag, VARIABLES_LIMIT, VERSION,
};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

/// Why a jail cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A zero byte inside a text.
    #[error("{what} holds a zero byte")]
    ZeroByte {
        /// Which text.
        what: &'static str,
    },
    /// More of something than the reaper takes.
    #[error("{count} {what}, at most {limit} are taken")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A filter that is empty or not whole instructions.
    #[error("a filter of {bytes} bytes is not whole instructions of 8 bytes")]
    Filter {
        /// Its length.
        bytes: usize,
    },
    /// The kernel gave no sealed memory file for it.
    #[error("write the plan into a sealed memory file")]
    Seal(#[source] Errno),
}

/// A plan under construction. What goes into the new root is made in the order of the calls, paths
/// are relative to that root.
#[derive(Debug)]
pub(crate) struct PlanWriter {
    bytes: Vec<u8>,
    arguments: usize,
    variables: usize,
    listeners: u8,
}

impl PlanWriter {
    pub(crate) fn new(settings: &Settings) -> Result<Self, PlanError> {
        for (what, count, limit) in [
            ("control groups", settings.tasks, TASKS_LIMIT),
            ("mount handles", settings.mounts, MOUNTS_LIMIT),
        ] {
            if count > limit {
                let (count, limit) = (count as usize, limit as usize);
                return Err(PlanError::TooMany { what, count, limit });
            }
        }
        let mut writer = Self {
            bytes: vec![0; HEADER_BYTES],
            arguments: 0,
            variables: 0,
            listeners: 0,
        };
        writer.record(Tag::Settings, &[&settings.to_bytes()]);
        Ok(writer)
    }

    pub(crate) fn limit(&mut self, resource: u32, value: u64) {
        let zero = 0_u32.to_le_bytes();
        self.record(
            Tag::Limit,
            &[&resource.to_le_bytes(), &zero, &value.to_le_bytes()],
        );
    }

    pub(crate) fn processor(&mut self, number: u16) {
        self.record(Tag::Processor, &[&number.to_le_bytes(), &[0, 0]]);
    }

    pub(crate) fn directory(&mut self, path: &str, mode: u32) -> Result<(), PlanError> {
        let path = text("path", path)?;
        self.record(Tag::Directory, &[&mode.to_le_bytes(), &path]);
        Ok(())
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<(), PlanError> {
        let path = text("path", path)?;
        let length = u32::try_from(path.len()).unwrap_or(u32::MAX);
        let parts: [&[u8]; 4] = [&mode.to_le_bytes(), &length.to_le_bytes(), &path, content];
        self.record(Tag::File, &parts);
        Ok(())
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<(), PlanError> {
        let (path, target) = (text("path", path)?, text("target of a link", target)?);
        self.record(Tag::Link, &[&path, &target]);
        Ok(())
    }

    pub(crate) fn tmpfs(
        &mut self,
        path: &str,
        size: u64,
        inodes: u32,
        mode: u32,
    ) -> Result<(), PlanError> {
        let path = text("path", path)?;
        let parts: [&[u8]; 4] = [
            &size.to_le_bytes(),
            &inodes.to_le_bytes(),
            &mode.to_le_bytes(),
            &path,
        ];
        self.record(Tag::Tmpfs, &parts);
        Ok(())
    }

    pub(crate) fn mount(&mut self, path: &str, handle: u32) -> Result<(), PlanError> {
        let path = text("path", path)?;
        self.record(Tag::Mount, &[&handle.to_le_bytes(), &path]);
        Ok(())
    }

    pub(crate) fn argument(&mut self, argument: &str) -> Result<(), PlanError> {
        let argument = text("argument", argument)?;
        self.record(Tag::Argument, &[&argument]);
        self.arguments += 1;
        Ok(())
    }

    pub(crate) fn variable(&mut self, name: &str, value: &str) -> Result<(), PlanError> {
        let line = text("variable", &format!("{name}={value}"))?;
        self.record(Tag::Variable, &[&line]);
        self.variables += 1;
        Ok(())
    }

    /// A socket to listen on at this port, numbered in the order of the calls.
    pub(crate) fn listener(&mut self, port: u16) {
        let [low, high] = port.to_le_bytes();
        self.record(Tag::Listener, &[&[self.listeners, 0, low, high]]);
        // More than a few are refused in the end.
        self.listeners = self.listeners.saturating_add(1);
    }

    pub(crate) fn host_name(&mut self, name: &str) -> Result<(), PlanError> {
        let name = text("host name", name)?;
        self.record(Tag::HostName, &[&name]);
        Ok(())
    }

    pub(crate) fn working_directory(&mut self, path: &str) -> Result<(), PlanError> {
        let path = text("working directory", path)?;
        self.record(Tag::WorkingDirectory, &[&path]);
        Ok(())
    }

    pub(crate) fn entry(&mut self, path: &str) -> Result<(), PlanError> {
        let path = text("entry", path)?;
        self.record(Tag::Entry, &[&path]);
        Ok(())
    }

    pub(crate) fn filter(&mut self, program: &[u8]) -> Result<(), PlanError> {
        if program.is_empty() || !program.len().is_multiple_of(8) {
            return Err(PlanError::Filter {
                bytes: program.len(),
            });
        }
        self.record(Tag::Filter, &[program]);
        Ok(())
    }

    pub(crate) fn landlock(&mut self, landlock: &Landlock) {
        self.record(Tag::Landlock, &[&landlock.to_bytes()]);
    }

    pub(crate) fn landlock_rule(&mut self, path: &str, rights: u64) -> Result<(), PlanError> {
        let path = text("path", path)?;
        self.record(Tag::LandlockRule, &[&rights.to_le_bytes(), &path]);
        Ok(())
    }

    /// The plan's bytes.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, PlanError> {
        for (what, count, limit) in [
            ("arguments", self.arguments, ARGUMENTS_LIMIT),
            ("variables", self.variables, VARIABLES_LIMIT),
            ("listeners", self.listeners.into(), LISTENERS_LIMIT),
            ("bytes of plan", self.bytes.len(), LIMIT_BYTES),
        ] {
            if count > limit {
                return Err(PlanError::TooMany { what, count, limit });
            }
        }
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let header = [
            MAGIC.to_le_bytes(),
            VERSION.to_le_bytes(),
            length.to_le_bytes(),
        ];
        for (to, from) in self.bytes.iter_mut().zip(header.as_flattened()) {
            *to = *from;
        }
        Ok(self.bytes)
    }

    fn record(&mut self, tag: Tag, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        // A longer one makes the whole plan too long, which `finish` refuses.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.bytes.extend((tag as u16).to_le_bytes());
        self.bytes.extend([0; 2]);
        self.bytes.extend(length.to_le_bytes());
        for part in parts {
            self.bytes.extend(*part);
        }
    }
}

/// Puts the bytes into a memory file that nobody can change any more. `more` are seals beyond those
/// against writing and resizing.
pub(crate) fn seal(
    name: &str,
    bytes: &[u8],
    flags: MemfdFlags,
    more: SealFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(name, flags)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    let seals = seals | more;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file)
}

fn text(what: &'static str, text: &str) -> Result<Vec<u8>, PlanError> {
    let terminated = CString::new(text).map_err(|_: NulError| PlanError::ZeroByte { what })?;
    Ok(terminated.into_bytes_with_nul())
}

#[cfg(test)]
mod tests;
