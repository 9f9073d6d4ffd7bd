//! What a watched instance was noted for: lines that are only ever added to, so that one that was
//! killed leaves what was seen until then.
//!
//! ```text
//! pinfold-watch 1
//! plugin hello
//! run 5f0c
//! generation 3
//! profile go
//! arch x86_64
//! allowed 257
//! refused 38 332 0x3 0x7f… 0x0 0x0 0x0 0x0
//! count 1204 allowed 257
//! end
//! ```

use std::collections::BTreeMap;
use std::fmt;

use crate::{Generation, PluginId};

/// Most bytes of a record that are read: a few thousand different calls, each with its count.
pub const WATCH_RECORD_LIMIT_BYTES: u64 = 1024 * 1024;

/// First line: what it is, and the version.
const MAGIC: &str = "pinfold-watch 1";
/// Last line of one that is whole.
const END: &str = "end";

/// What stands at the beginning of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchHead {
    /// The plugin.
    pub plugin: PluginId,
    /// Which run, [`super::WatchOrder::run`].
    pub run: String,
    /// Which of the plugin's instances.
    pub generation: Generation,
    /// The syscall profile under which it ran.
    pub profile: String,
    /// The architecture whose numbers these are: `x86_64`, `aarch64`.
    pub arch: String,
}

/// One kind of call and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WatchedCall {
    /// It was allowed, and made.
    Allowed {
        /// Its number.
        number: u32,
    },
    /// It failed with this error.
    Refused {
        /// The error, as errno(3) numbers it.
        errno: u32,
        /// Its number.
        number: u32,
    },
    /// The jail was ended for it.
    Killed {
        /// Its number.
        number: u32,
    },
}

/// A record, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRecord {
    /// Its beginning.
    pub head: WatchHead,
    /// Each kind of call, with the arguments of the first that was not allowed.
    pub calls: BTreeMap<WatchedCall, Option<[u64; 6]>>,
    /// How often each was made; empty where it is not whole.
    pub counts: BTreeMap<WatchedCall, u64>,
    /// Whether it was written to the instance's end.
    pub is_whole: bool,
}

/// Why a text is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the record is not one of a watched run's")]
pub struct RecordError {
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for WatchHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            plugin,
            run,
            generation,
            profile,
            arch,
        } = self;
        writeln!(f, "{MAGIC}\nplugin {plugin}\nrun {run}")?;
        writeln!(
            f,
            "generation {}\nprofile {profile}\narch {arch}",
            generation.0
        )
    }
}

impl fmt::Display for WatchedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed { number } => write!(f, "allowed {number}"),
            Self::Refused { errno, number } => write!(f, "refused {errno} {number}"),
            Self::Killed { number } => write!(f, "killed {number}"),
        }
    }
}

impl WatchedCall {
    /// The call's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Allowed { number } | Self::Refused { number, .. } | Self::Killed { number } => {
                number
            }
        }
    }

    /// The line that says that it was made for the first time. Arguments are said of what was not
    /// allowed: they may be what it was refused for.
    #[must_use]
    pub fn first_line(self, arguments: &[u64; 6]) -> String {
        let mut line = self.to_string();
        if !matches!(self, Self::Allowed { .. }) {
            for argument in arguments {
                line.push_str(&format!(" {argument:#x}"));
            }
        }
        line.push('\n');
        line
    }

    /// The words of a line up to those that say something else.
    fn take<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let number = |words: &mut dyn Iterator<Item = &'a str>| words.next()?.parse().ok();
        Some(match words.next()? {
            "allowed" => Self::Allowed {
                number: number(words)?,
            },
            "refused" => Self::Refused {
                errno: number(words)?,
                number: number(words)?,
            },
            "killed" => Self::Killed {
                number: number(words)?,
            },
            _ => return None,
        })
    }
}

impl WatchRecord {
    /// The lines at the end of a record that is whole.
    #[must_use]
    pub fn last_lines(counts: &BTreeMap<WatchedCall, u64>) -> String {
        let mut text = String::new();
        for (call, count) in counts {
            text.push_str(&format!("count {count} {call}\n"));
        }
        text.push_str(END);
        text.push('\n');
        text
    }

    /// Reads a record. What comes after its last whole line is left out: it was being written.
    ///
    /// # Errors
    /// [`RecordError`] with the first line that does not belong there.
    pub fn parse(text: &str) -> Result<Self, RecordError> {
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let mut lines = whole.lines().zip(1..);
        let head = head(&mut lines)?;
        let mut record = Self {
            head,
            calls: BTreeMap::new(),
            counts: BTreeMap::new(),
            is_whole: false,
        };
        for (text, line) in lines {
            record.line(text).ok_or(RecordError { line })?;
        }
        Ok(record)
    }

    fn line(&mut self, text: &str) -> Option<()> {
        if self.is_whole {
            return None;
        }
        if text == END {
            self.is_whole = true;
            return Some(());
        }
        let mut words = text.split(' ');
        if let Some(rest) = text.strip_prefix("count ") {
            let mut words = rest.split(' ');
            let count = words.next()?.parse().ok()?;
            let call = WatchedCall::take(&mut words)?;
            self.counts.insert(call, count);
            return words.next().is_none().then_some(());
        }
        let call = WatchedCall::take(&mut words)?;
        let arguments = match call {
            WatchedCall::Allowed { .. } => None,
            _ => {
                let mut arguments = [0; 6];
                for argument in &mut arguments {
                    let digits = words.next()?.strip_prefix("0x")?;
                    *argument = u64::from_str_radix(digits, 16).ok()?;
                }
                Some(arguments)
            }
        };
        self.calls.insert(call, arguments);
        words.next().is_none().then_some(())
    }
}

fn head<'a>(lines: &mut impl Iterator<Item = (&'a str, usize)>) -> Result<WatchHead, RecordError> {
    let mut value = |key: &str, expected: usize| {
        let missing = RecordError { line: expected };
        let (text, line) = lines.next().ok_or(missing)?;
        let value = text.strip_prefix(key).ok_or(RecordError { line })?;
        Ok::<_, RecordError>((value, RecordError { line }))
    };
    match value(MAGIC, 1)? {
        ("", _) => {}
        (_, error) => return Err(error),
    }
    let (plugin, error) = value("plugin ", 2)?;
    let plugin = plugin.parse().map_err(|_| error)?;
    let (run, _) = value("run ", 3)?;
    let (generation, error) = value("generation ", 4)?;
    let generation = Generation(generation.parse().map_err(|_| error)?);
    let (profile, _) = value("profile ", 5)?;
    let (arch, _) = value("arch ", 6)?;
    Ok(WatchHead {
        plugin,
        run: run.to_owned(),
        generation,
        profile: profile.to_owned(),
        arch: arch.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (WatchRecord, String) {
        let allowed = WatchedCall::Allowed { number: 257 };
        let refused = WatchedCall::Refused {
            errno: 38,
            number: 332,
        };
        let arguments = [3, 0x7fff_0000_0000, 0, 0, 0, u64::MAX];
        let record = WatchRecord {
            head: WatchHead {
                plugin: "hello".parse().unwrap(),
                run: "5f0c".into(),
                generation: Generation(3),
                profile: "go".into(),
                arch: "x86_64".into(),
            },
            calls: [(allowed, None), (refused, Some(arguments))].into(),
            counts: [(allowed, 1204), (refused, 1)].into(),
            is_whole: true,
        };
        let mut text = record.head.to_string();
        for (call, arguments) in &record.calls {
            text += &call.first_line(&arguments.unwrap_or_default());
        }
        text += &WatchRecord::last_lines(&record.counts);
        (record, text)
    }

    #[test]
    fn what_is_written_is_read_and_a_torn_end_is_left_out() {
        let (record, text) = sample();
        assert_eq!(WatchRecord::parse(&text), Ok(record.clone()));
        let torn = text.split("count").next().unwrap().to_owned() + "allowed 2";
        let read = WatchRecord::parse(&torn).unwrap();
        assert_eq!((read.calls, read.is_whole), (record.calls, false));
    }

    #[test]
    fn lines_of_anything_else_are_refused_by_number() {
        let (_, text) = sample();
        for (from, to, line) in [
            ("pinfold-watch 1", "pinfold-watch 2", 1),
            ("plugin hello", "plugin ../x", 2),
            ("allowed 257\nrefused", "allowed x\nrefused", 7),
            ("refused 38 332 0x3", "refused 38 332", 8),
            ("end\n", "end\nallowed 1\n", 12),
        ] {
            let error = WatchRecord::parse(&text.replacen(from, to, 1)).unwrap_err();
            assert_eq!(error, RecordError { line }, "{to}");
        }
        assert_eq!(WatchRecord::parse(""), Err(RecordError { line: 1 }));
    }
}
