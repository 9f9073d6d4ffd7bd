//! A control group for each subject: the same processors, no quota, and its own account of
//! processor time and memory.
//!
//! The hierarchies are found in `/proc`, never by a fixed path: cgroups(7). A subject enters by
//! itself, before it is the program that is measured, so that nothing of it is charged elsewhere.

mod enter;
mod find;
mod remove;
mod signal;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;

pub use enter::enter;
use find::{Hierarchy, Kind};
pub use remove::sweep;
pub use signal::remove_at_signal;

/// Every name starts with it, and goes on with the number of the process that made the group.
const PREFIX: &str = "pinfold-bench-";

/// Where groups can be made.
#[derive(Debug)]
pub struct Groups {
    hierarchies: Vec<Hierarchy>,
    /// The program whose `enter` puts a subject into its group.
    program: PathBuf,
}

/// A group of a subject's own in each hierarchy. It is removed, with every process in it, when the
/// value is dropped.
#[derive(Debug)]
pub struct Group {
    parts: Vec<Part>,
    program: PathBuf,
}

#[derive(Debug)]
struct Part {
    directory: PathBuf,
    kind: Kind,
}

/// What a group holds in memory.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// All that is charged to it, file pages and kernel memory with it.
    pub charged_bytes: u64,
    /// Pages that no file stands behind: heaps and stacks.
    pub anonymous_bytes: u64,
    /// The most that was charged at once, where the kernel keeps it.
    pub peak_bytes: Option<u64>,
}

impl Groups {
    /// Finds where groups can be made, and removes those that an earlier benchmark left.
    /// `program` is this benchmark's own.
    ///
    /// # Errors
    /// Where no group can be made, or none that counts processor time.
    pub fn discover(program: PathBuf) -> anyhow::Result<Self> {
        let groups = Self {
            hierarchies: find::hierarchies()?,
            program,
        };
        sweep(|owner| !Path::new("/proc").join(owner.to_string()).exists())?;
        // What cannot be had is to be known now, not in the middle of a run.
        let tried = groups.make()?;
        tried.processor_time()?;
        tried.remove()?;
        Ok(groups)
    }

    /// None: subjects run where the benchmark runs, and nothing is known of their processor time.
    #[must_use]
    pub fn none(program: PathBuf) -> Self {
        Self {
            hierarchies: Vec::new(),
            program,
        }
    }

    /// A new group.
    ///
    /// # Errors
    /// Where a directory cannot be made.
    pub fn make(&self) -> anyhow::Result<Group> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let mut group = Group {
            parts: Vec::new(),
            program: self.program.clone(),
        };
        for hierarchy in &self.hierarchies {
            let directory = hierarchy.make(&name)?;
            group.parts.push(Part {
                directory,
                kind: hierarchy.kind,
            });
        }
        Ok(group)
    }

    /// What they are, for the report.
    #[must_use]
    pub fn describe(&self) -> String {
        if self.hierarchies.is_empty() {
            return "none".to_owned();
        }
        let names: Vec<String> = self.hierarchies.iter().map(Hierarchy::describe).collect();
        names.join(", ")
    }
}

impl Group {
    /// The start of a program within this group.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        if self.parts.is_empty() {
            return Command::new(program);
        }
        let mut command = Command::new(&self.program);
        command.arg("enter");
        for part in &self.parts {
            command.arg("--group").arg(&part.directory);
        }
        command.arg("--").arg(program);
        command
    }

    /// The start, within this group, of a subject that this program itself is:
    /// [`super::section::Section::serve`] of the named section.
    pub fn subject(&self, section: &str, spec: &str) -> Command {
        let mut command = self.command(&self.program);
        command.args(["subject", section, spec]);
        command
    }

    /// Processor time that everything in it has used so far.
    ///
    /// # Errors
    /// Where no group counts it.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        let usage = |part: &Part| match part.kind {
            Kind::Version1 { accounts: true, .. } => {
                let path = part.directory.join("cpuacct.usage");
                Some(number(&path).map(Duration::from_nanos))
            }
            Kind::Version2 => {
                let path = part.directory.join("cpu.stat");
                Some(entry(&path, "usage_usec").map(Duration::from_micros))
            }
            Kind::Version1 { .. } => None,
        };
        let usage = self.parts.iter().find_map(usage);
        Ok(usage.context("no control group counts processor time")??)
    }

    /// What it holds in memory.
    ///
    /// # Errors
    /// Where no group counts it.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let memory = |part: &Part| {
            let file = |name: &str| part.directory.join(name);
            match part.kind {
                Kind::Version1 { memory: true, .. } => {
                    Some(file("memory.usage_in_bytes")).map(|usage| -> io::Result<Memory> {
                        Ok(Memory {
                            charged_bytes: number(&usage)?,
                            anonymous_bytes: entry(&file("memory.stat"), "total_rss")?,
                            peak_bytes: number(&file("memory.max_usage_in_bytes")).ok(),
                        })
                    })
                }
                Kind::Version2 if file("memory.current").exists() => Some((|| {
                    Ok(Memory {
                        charged_bytes: number(&file("memory.current"))?,
                        anonymous_bytes: entry(&file("memory.stat"), "anon")?,
                        peak_bytes: number(&file("memory.peak")).ok(),
                    })
                })()),
                _ => None,
            }
        };
        let memory = self.parts.iter().find_map(memory);
        Ok(memory.context("no control group counts memory")??)
    }

    /// Numbers of the processes in it, of groups below it too.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let mut found: Vec<u32> = self
            .parts
            .iter()
            .flat_map(|part| remove::processes(&part.directory))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Ends what is in it, and removes it.
    ///
    /// # Errors
    /// Where it is still there after seconds of trying.
    pub fn remove(mut self) -> anyhow::Result<()> {
        self.clear()
    }

    fn clear(&mut self) -> anyhow::Result<()> {
        let parts = std::mem::take(&mut self.parts);
        let directories: Vec<PathBuf> = parts.into_iter().map(|part| part.directory).collect();
        remove::remove(&directories)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What stays is the next benchmark's to sweep.
        self.clear().unwrap_or_default();
    }
}

fn number(path: &Path) -> io::Result<u64> {
    parse(path, Some(fs::read_to_string(path)?.trim()))
}

/// The number after a name, in a file of such lines.
fn entry(path: &Path, name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    parse(path, value)
}

fn parse(path: &Path, text: Option<&str>) -> io::Result<u64> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        let what = format!("{} has no such number", path.display());
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}
