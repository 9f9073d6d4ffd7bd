//! C5a: clocks of the plugin's own, which begin when it does (time_namespaces(7)).

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::failure::{During, Failure};
use crate::message::Optional;
use crate::plan::Wish;
use crate::procfs::{Decimal, OwnProc};
use crate::setup::Setup;
use crate::step::Step;
use crate::sys;

const STEP: Step = Step::C5a;

/// Room for both lines: two names, signs, twenty digits each.
const LINES_BYTES: usize = 80;

/// Makes a time namespace and enters it. It belongs to the user namespace of the plugin, in which this
/// process still has every right; outside one nobody here may set a clock, and there is no `proc`.
pub(super) fn time_namespace(setup: &Setup, proc: Option<&OwnProc>) -> Result<(), Failure> {
    setup.begin(STEP)?;
    let made = match (setup.plan.settings().time_namespace, proc) {
        (Wish::Off, _) => return Ok(()),
        (_, None) => Err(Errno::PERM).during(STEP, "there is no user namespace for it"),
        (_, Some(proc)) => enter(proc),
    };
    let wish = setup.plan.settings().time_namespace;
    made.or_else(|failure| setup.optional(wish, Optional::TimeNamespace, failure))
}

fn enter(proc: &OwnProc) -> Result<(), Failure> {
    sys::unshare(UnshareFlags::NEWTIME).during(STEP, "new time namespace")?;
    let mut lines = Lines {
        bytes: [0; LINES_BYTES],
        length: 0,
    };
    lines.push_offset(b"monotonic", libc::CLOCK_MONOTONIC)?;
    lines.push_offset(b"boottime", libc::CLOCK_BOOTTIME)?;
    let text = lines.bytes.get(..lines.length).unwrap_or_default();
    proc.write(c"self/timens_offsets", text)
        .during(STEP, "set its clocks")?;
    // It would be entered when the program is executed, but not before Linux 6.1.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::openat(proc, c"self/ns/time_for_children", flags, Mode::empty())
        .during(STEP, "open the time namespace")?;
    rustix::thread::move_into_link_name_space(
        rustix::fd::AsFd::as_fd(&namespace),
        Some(LinkNameSpaceType::Time),
    )
    .during(STEP, "enter the time namespace")
}

struct Lines {
    bytes: [u8; LINES_BYTES],
    length: usize,
}

impl Lines {
    /// The offset that has this clock begin in the second of now.
    fn push_offset(&mut self, name: &[u8], clock: libc::clockid_t) -> Result<(), Failure> {
        let mut seconds = Decimal::new(sys::seconds_of(clock).during(STEP, "read a clock")?);
        self.push(name);
        self.push(b" ");
        self.push(seconds.text(true).to_bytes());
        self.push(b" 0\n");
        Ok(())
    }

    fn push(&mut self, more: &[u8]) {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(more) {
            *to = *from;
            self.length += 1;
        }
    }
}
