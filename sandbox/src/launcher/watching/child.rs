//! The child that answers for a watched plugin: without rights, and with the few system calls that it
//! needs. It asks the profile's own program, by which an unwatched jail is confined, and answers what that
//! says; it never looks at memory of the plugin's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use caps::CapSet;
use pinfold_policy::{WatchRecord, WatchedCall};

use crate::jail::Stopped;
use crate::seccomp::{Action, Program, SyscallData, watcher_filter};
use crate::sys::filter;
use crate::sys::notify::{self, Answer, Next};

/// Most kinds of calls that are told apart: there are some 400 calls, each with an answer or two. What a
/// plugin makes up beyond is answered and not noted.
const KINDS_LIMIT: usize = 2048;

/// Answers until nobody has the filter any more; gives the exit status, 0 for that end. The jail does not
/// outlive any other.
pub(super) fn answer_calls(
    listener: BorrowedFd<'_>,
    program: &Program,
    record: &File,
    words: BorrowedFd<'_>,
) -> u8 {
    let confined = confine(program);
    let answered = confined.and_then(|()| answers(listener, program, record, words));
    match answered {
        Ok(()) => 0,
        Err(error) => {
            super::log::line(&format!("the watcher of a run ends: {error}"));
            1
        }
    }
}

fn confine(program: &Program) -> io::Result<()> {
    for set in [
        CapSet::Ambient,
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
    ] {
        caps::clear(None, set).map_err(io::Error::other)?;
    }
    filter::install(&watcher_filter(program.arch()).to_bytes())
}

fn answers(
    listener: BorrowedFd<'_>,
    program: &Program,
    mut record: &File,
    words: BorrowedFd<'_>,
) -> io::Result<()> {
    let mut counts: BTreeMap<WatchedCall, u64> = BTreeMap::new();
    let mut is_refused = false;
    loop {
        let (id, call) = match notify::next(listener, None)? {
            Next::Nothing => continue,
            Next::End => {
                record.write_all(WatchRecord::last_lines(&counts).as_bytes())?;
                return Word::End.send(words);
            }
            Next::Call { id, call } => (id, call),
        };
        let action = asked(program, &call);
        let kind = kind(action, call.number);
        let kinds = counts.len();
        if let Some(count) = counts.get_mut(&kind) {
            *count = count.saturating_add(1);
        } else if kinds < KINDS_LIMIT {
            counts.insert(kind, 1);
            record.write_all(kind.first_line(&call.arguments).as_bytes())?;
        }
        match action {
            Action::Allow => notify::answer(listener, id, Answer::Made)?,
            Action::Errno(errno) => notify::answer(listener, id, Answer::Failed(errno.number()))?,
            // Never answered: the jail ends for the first, and with it whatever waits.
            Action::Kill if is_refused => {}
            Action::Kill => {
                is_refused = true;
                Word::Refused(call).send(words)?;
            }
        }
    }
}

/// What the profile says of a call. A program without an answer, which none of ours is, kills.
fn asked(program: &Program, call: &Stopped) -> Action {
    let data = SyscallData {
        number: call.number,
        arch: program.arch().audit_value(),
        instruction_pointer: 0,
        args: call.arguments,
    };
    program.evaluate(&data).unwrap_or(Action::Kill)
}

const fn kind(action: Action, number: u32) -> WatchedCall {
    match action {
        Action::Allow => WatchedCall::Allowed { number },
        Action::Errno(errno) => WatchedCall::Refused {
            errno: errno.number(),
            number,
        },
        Action::Kill => WatchedCall::Killed { number },
    }
}

/// What is said to the launcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The record is whole.
    End,
    /// The profile kills for this call.
    Refused(Stopped),
}

impl Word {
    /// Kind, number, six arguments.
    pub(super) const BYTES: usize = 1 + 4 + 6 * 8;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        if let Self::Refused(Stopped { number, arguments }) = self {
            let words = number.to_ne_bytes().into_iter();
            let words = words.chain(arguments.into_iter().flat_map(u64::to_ne_bytes));
            for (to, from) in bytes.iter_mut().zip([1].into_iter().chain(words)) {
                *to = from;
            }
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (number, mut rest) = rest.split_first_chunk()?;
        match kind {
            0 => Some(Self::End),
            1 => {
                let mut arguments = [0; 6];
                for argument in &mut arguments {
                    let (value, after) = rest.split_first_chunk()?;
                    *argument = u64::from_ne_bytes(*value);
                    rest = after;
                }
                let number = u32::from_ne_bytes(*number);
                Some(Self::Refused(Stopped { number, arguments }))
            }
            _ => None,
        }
    }

    fn send(self, words: impl AsFd) -> io::Result<()> {
        let bytes = self.to_bytes();
        match rustix::io::write(words, &bytes)? {
            Self::BYTES => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{Arch, Profile, syscall_number};

    #[test]
    fn a_word_arrives_as_it_was_sent() {
        let call = Stopped {
            number: 321,
            arguments: [1, u64::MAX, 3, 4, 5, 6 << 40],
        };
        for word in [Word::End, Word::Refused(call)] {
            assert_eq!(Word::from_bytes(&word.to_bytes()), Some(word));
        }
        assert_eq!(Word::from_bytes(&[2; Word::BYTES]), None);
    }

    #[test]
    fn the_profile_is_asked_with_the_arguments() {
        let arch = Arch::native().unwrap();
        let program = Profile::builtin("go").unwrap().compile(arch).unwrap();
        let call = |name: &str, first| Stopped {
            number: syscall_number(arch, name).unwrap(),
            arguments: [first, 1, 0, 0, 0, 0],
        };
        assert_eq!(asked(&program, &call("socket", 1)), Action::Allow);
        assert!(matches!(
            asked(&program, &call("socket", 16)),
            Action::Errno(_)
        ));
        assert_eq!(asked(&program, &call("bpf", 0)), Action::Kill);
    }
}
