//! R17: waiting for the plugin's end, or the launcher's.

use crate::message::{Ended, LIMIT_BYTES, Message};
use crate::plan::descriptor;
use crate::setup::{self, report};
use crate::sys;

/// A jail whose plugin stage has been forked.
pub(crate) struct Started {
    /// The plugin's process id in the jail.
    pub(crate) plugin: i32,
}

/// Where the descriptor is that tells the plugin stage's failure, or has its end when the program
/// was executed.
pub(crate) const ERRORS: i32 = descriptor::STDOUT;

/// Where the descriptor is that is readable when a child ended.
pub(crate) const SIGNALS: i32 = descriptor::STDERR;

/// Reaps until the plugin's main process or the launcher is gone. The kernel then kills the rest
/// of the jail.
pub(crate) fn serve(started: &Started) -> ! {
    let mut errors = ERRORS;
    loop {
        let watched = [descriptor::LIFE, errors, SIGNALS];
        let Ok([launcher_gone, stage, child]) = sys::wait_readable(watched, false) else {
            sys::exit(setup::FAILED)
        };
        if launcher_gone {
            sys::exit(setup::FAILED);
        }
        if stage {
            stage_spoke();
            // A negative number is passed over by the kernel.
            errors = -1;
        }
        if child {
            reap(started);
        }
    }
}

/// Passes on why the plugin's program could not be executed, or that it was.
fn stage_spoke() {
    let mut packet = [0; LIMIT_BYTES];
    let length = rustix::io::read(sys::fixed(ERRORS), &mut packet).unwrap_or(0);
    match packet.get(..length).and_then(Message::read) {
        Some(failed) => {
            report(&failed);
            sys::exit(setup::FAILED)
        }
        None => {
            report(&Message::Running);
        }
    }
}

fn reap(started: &Started) {
    let mut pending = [0; 128];
    // Only to make the descriptor unreadable again: several ends may be one signal.
    rustix::io::read(sys::fixed(SIGNALS), &mut pending).unwrap_or_default();
    while let Ok(Some((pid, ended))) = sys::reap_one() {
        if pid == started.plugin {
            report(&Message::Ended(ended));
            sys::exit(match ended {
                Ended::Code(code) => code,
                Ended::Signal(signal) => 128 + signal,
            });
        }
    }
}
