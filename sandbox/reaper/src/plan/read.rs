//! Reading a plan in place.

use core::ffi::CStr;
use core::fmt;

use super::{
    ARGUMENTS_LIMIT, HEADER_BYTES, LIMIT_BYTES, LISTENERS_LIMIT, Landlock, MAGIC, MOUNTS_LIMIT,
    PROCESSORS_LIMIT, Rule, Settings, TASKS_LIMIT, Tag, VARIABLES_LIMIT, VERSION, Wish,
};

/// A plan that was found whole.
#[derive(Clone, Copy)]
pub struct Plan<'p> {
    settings: Settings,
    records: &'p [u8],
    host_name: &'p CStr,
    working_directory: &'p CStr,
    entry: &'p CStr,
    filter: &'p [u8],
    landlock: Option<Landlock>,
}

/// A resource limit, hard and soft alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Number of the resource, as in getrlimit(2).
    pub resource: u32,
    /// The limit; `u64::MAX` is none.
    pub value: u64,
}

/// A TCP socket to listen on, at 127.0.0.1 of the jail's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What tells it from the others, when its descriptor is sent up.
    pub number: u8,
    /// Its port, not zero.
    pub port: u16,
}

/// One thing to make in the new root. Paths are relative to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'p> {
    /// A directory.
    Directory {
        /// Where.
        path: &'p CStr,
        /// Permissions.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Where.
        path: &'p CStr,
        /// Permissions.
        mode: u32,
        /// What is in it.
        content: &'p [u8],
    },
    /// A symbolic link.
    Link {
        /// Where.
        path: &'p CStr,
        /// What it says.
        target: &'p CStr,
    },
    /// A new file system in memory, mounted `nosuid,nodev,noexec`.
    Tmpfs {
        /// Where.
        path: &'p CStr,
        /// Size in bytes.
        size: u64,
        /// Most inodes.
        inodes: u32,
        /// Permissions of its root.
        mode: u32,
    },
    /// A mount handle to attach.
    Mount {
        /// Where.
        path: &'p CStr,
        /// Which handle, from zero.
        handle: u32,
    },
}

/// Why bytes are no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// Not this magic, version or length.
    Header,
    /// The record at this offset after the header is malformed.
    Record(usize),
    /// A record that must be there once is absent or repeated, or a count is over its limit.
    Content,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("plan has another magic, version or length"),
            Self::Record(at) => write!(f, "record at byte {at} of the plan is malformed"),
            Self::Content => f.write_str("plan lacks a record, repeats one or exceeds a limit"),
        }
    }
}

impl<'p> Plan<'p> {
    /// Checks every record.
    ///
    /// # Errors
    /// [`PlanError`], the first thing that is wrong.
    pub fn parse(bytes: &'p [u8]) -> Result<Self, PlanError> {
        let (header, records) = bytes
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(PlanError::Header)?;
        let length = u32::try_from(bytes.len()).map_err(|_| PlanError::Header)?;
        let expected = [
            MAGIC.to_le_bytes(),
            VERSION.to_le_bytes(),
            length.to_le_bytes(),
        ];
        if bytes.len() > LIMIT_BYTES || header.as_slice() != expected.as_flattened() {
            return Err(PlanError::Header);
        }
        let mut once = Once::default();
        let (mut arguments, mut variables, mut listeners) = (0, 0, 0);
        for record in Records(records) {
            let offset = records.len() - record.remaining;
            let malformed = PlanError::Record(offset);
            match record.tag.ok_or(malformed)? {
                Tag::Settings => {
                    let settings = Settings::from_bytes(record.payload).ok_or(malformed)?;
                    set(&mut once.settings, settings)?;
                }
                Tag::Limit => {
                    limit(record.payload).ok_or(malformed)?;
                }
                tag @ (Tag::Directory | Tag::File | Tag::Link | Tag::Tmpfs | Tag::Mount) => {
                    operation(tag, record.payload).ok_or(malformed)?;
                }
                Tag::Argument => {
                    text(record.payload).ok_or(malformed)?;
                    arguments += 1;
                }
                Tag::Variable => {
                    text(record.payload).ok_or(malformed)?;
                    variables += 1;
                }
                Tag::HostName => {
                    set(&mut once.host_name, text(record.payload).ok_or(malformed)?)?;
                }
                Tag::WorkingDirectory => {
                    set(
                        &mut once.working_directory,
                        text(record.payload).ok_or(malformed)?,
                    )?;
                }
                Tag::Entry => set(&mut once.entry, text(record.payload).ok_or(malformed)?)?,
                Tag::Filter => set(&mut once.filter, record.payload)?,
                Tag::Landlock => {
                    let landlock = Landlock::from_bytes(record.payload).ok_or(malformed)?;
                    set(&mut once.landlock, landlock)?;
                }
                Tag::LandlockRule => {
                    rule(record.payload).ok_or(malformed)?;
                }
                Tag::Processor => {
                    processor(record.payload).ok_or(malformed)?;
                }
                Tag::Listener => {
                    listener(record.payload).ok_or(malformed)?;
                    listeners += 1;
                }
            }
        }
        let plan = once.complete(records).ok_or(PlanError::Content)?;
        let in_bounds = (1..=ARGUMENTS_LIMIT).contains(&arguments)
            && variables <= VARIABLES_LIMIT
            && listeners <= LISTENERS_LIMIT
            && plan.settings.tasks <= TASKS_LIMIT
            && plan.settings.mounts <= MOUNTS_LIMIT
            && (plan.settings.landlock == Wish::Off || plan.landlock.is_some())
            && !plan.filter.is_empty()
            && plan.filter.len().is_multiple_of(8);
        in_bounds.then_some(plan).ok_or(PlanError::Content)
    }

    /// The fixed part.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Host name.
    #[must_use]
    pub const fn host_name(&self) -> &'p CStr {
        self.host_name
    }

    /// Working directory of the plugin.
    #[must_use]
    pub const fn working_directory(&self) -> &'p CStr {
        self.working_directory
    }

    /// Path of the program.
    #[must_use]
    pub const fn entry(&self) -> &'p CStr {
        self.entry
    }

    /// The filter's instructions, eight bytes each, at least one.
    #[must_use]
    pub const fn filter(&self) -> &'p [u8] {
        self.filter
    }

    /// What Landlock handles; there unless the settings want none.
    #[must_use]
    pub const fn landlock(&self) -> Option<Landlock> {
        self.landlock
    }

    /// What the plugin may do with files.
    pub fn rules(&self) -> impl Iterator<Item = Rule<'p>> + use<'p> {
        Records(self.records)
            .filter(|record| record.tag == Some(Tag::LandlockRule))
            .filter_map(|record| rule(record.payload))
    }

    /// Resource limits.
    pub fn limits(&self) -> impl Iterator<Item = Limit> + use<'p> {
        Records(self.records)
            .filter(|record| record.tag == Some(Tag::Limit))
            .filter_map(|record| limit(record.payload))
    }

    /// Sockets to listen on.
    pub fn listeners(&self) -> impl Iterator<Item = Listener> + use<'p> {
        Records(self.records)
            .filter(|record| record.tag == Some(Tag::Listener))
            .filter_map(|record| listener(record.payload))
    }

    /// Processors that the jail may run on; all of them where there is none.
    pub fn processors(&self) -> impl Iterator<Item = u16> + use<'p> {
        Records(self.records)
            .filter(|record| record.tag == Some(Tag::Processor))
            .filter_map(|record| processor(record.payload))
    }

    /// What to make in the new root, in order.
    pub fn operations(&self) -> impl Iterator<Item = Operation<'p>> + use<'p> {
        Records(self.records).filter_map(|record| operation(record.tag?, record.payload))
    }

    /// The program's arguments, its name first.
    pub fn arguments(&self) -> impl Iterator<Item = &'p CStr> + use<'p> {
        self.texts(Tag::Argument)
    }

    /// The program's variables.
    pub fn variables(&self) -> impl Iterator<Item = &'p CStr> + use<'p> {
        self.texts(Tag::Variable)
    }

    fn texts(&self, tag: Tag) -> impl Iterator<Item = &'p CStr> + use<'p> {
        Records(self.records)
            .filter(move |record| record.tag == Some(tag))
            .filter_map(|record| text(record.payload))
    }
}

#[derive(Default)]
struct Once<'p> {
    settings: Option<Settings>,
    host_name: Option<&'p CStr>,
    working_directory: Option<&'p CStr>,
    entry: Option<&'p CStr>,
    filter: Option<&'p [u8]>,
    landlock: Option<Landlock>,
}

impl<'p> Once<'p> {
    fn complete(self, records: &'p [u8]) -> Option<Plan<'p>> {
        Some(Plan {
            settings: self.settings?,
            records,
            host_name: self.host_name?,
            working_directory: self.working_directory?,
            entry: self.entry?,
            filter: self.filter?,
            landlock: self.landlock,
        })
    }
}

fn set<T>(place: &mut Option<T>, value: T) -> Result<(), PlanError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(PlanError::Content),
    }
}

struct Record<'p> {
    /// `None`: the record itself is malformed, and nothing follows it.
    tag: Option<Tag>,
    payload: &'p [u8],
    remaining: usize,
}

struct Records<'p>(&'p [u8]);

impl<'p> Iterator for Records<'p> {
    type Item = Record<'p>;

    fn next(&mut self) -> Option<Record<'p>> {
        if self.0.is_empty() {
            return None;
        }
        let whole = core::mem::take(&mut self.0);
        let remaining = whole.len();
        let malformed = Record {
            tag: None,
            payload: &[],
            remaining,
        };
        let Some(([t0, t1, _, _, l0, l1, l2, l3], rest)) = whole.split_first_chunk() else {
            return Some(malformed);
        };
        let length = u32::from_le_bytes([*l0, *l1, *l2, *l3]);
        let parts = usize::try_from(length)
            .ok()
            .and_then(|length| rest.split_at_checked(length));
        let Some((payload, rest)) = parts else {
            return Some(malformed);
        };
        self.0 = rest;
        Some(Record {
            tag: Tag::from_number(u16::from_le_bytes([*t0, *t1])),
            payload,
            remaining,
        })
    }
}

fn text(payload: &[u8]) -> Option<&CStr> {
    CStr::from_bytes_with_nul(payload).ok()
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), rest))
}

fn long(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), rest))
}

fn limit(payload: &[u8]) -> Option<Limit> {
    let (resource, rest) = number(payload)?;
    let (_, rest) = number(rest)?;
    let (value, rest) = long(rest)?;
    rest.is_empty().then_some(Limit { resource, value })
}

fn rule(payload: &[u8]) -> Option<Rule<'_>> {
    let (rights, path) = long(payload)?;
    Some(Rule {
        path: text(path)?,
        rights,
    })
}

fn listener(payload: &[u8]) -> Option<Listener> {
    let [number, 0, low, high] = *payload else {
        return None;
    };
    let port = u16::from_le_bytes([low, high]);
    (port != 0).then_some(Listener { number, port })
}

fn processor(payload: &[u8]) -> Option<u16> {
    let [low, high, 0, 0] = *payload else {
        return None;
    };
    let number = u16::from_le_bytes([low, high]);
    (number < PROCESSORS_LIMIT).then_some(number)
}

fn operation(tag: Tag, payload: &[u8]) -> Option<Operation<'_>> {
    Some(match tag {
        Tag::Directory => {
            let (mode, path) = number(payload)?;
            Operation::Directory {
                path: text(path)?,
                mode,
            }
        }
        Tag::File => {
            let (mode, rest) = number(payload)?;
            let (length, rest) = number(rest)?;
            let (path, content) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Operation::File {
                path: text(path)?,
                mode,
                content,
            }
        }
        Tag::Link => {
            let path = CStr::from_bytes_until_nul(payload).ok()?;
            let target = payload.get(path.count_bytes() + 1..)?;
            Operation::Link {
                path,
                target: text(target)?,
            }
        }
        Tag::Tmpfs => {
            let (size, rest) = long(payload)?;
            let (inodes, rest) = number(rest)?;
            let (mode, path) = number(rest)?;
            Operation::Tmpfs {
                path: text(path)?,
                size,
                inodes,
                mode,
            }
        }
        Tag::Mount => {
            let (handle, path) = number(payload)?;
            Operation::Mount {
                path: text(path)?,
                handle,
            }
        }
        _ => return None,
    })
}
