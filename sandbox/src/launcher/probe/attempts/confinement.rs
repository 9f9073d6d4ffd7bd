//! What a process takes from itself: file access by path, and making code.

use std::fs;
use std::io;

use rustix::io::Errno;

use super::{expect, failed, failed_before, in_child};
use crate::jail::{NEWEST_LANDLOCK, landlock_handled, landlock_lacks};
use crate::launcher::controls::Tried;
use crate::sys::{landlock, memory};

/// Handles all that a jail does, grants nothing, and sees that the root cannot be listed.
pub(super) fn landlock() -> Tried {
    let abi = match landlock::abi() {
        Ok(abi) => abi,
        Err(error) => {
            let old = Errno::NOSYS;
            let reason = failed_before("5.13", old, "ask for the version of landlock", error);
            return Tried::missing(reason);
        }
    };
    let attempt = in_child(|| {
        rustix::thread::set_no_new_privs(true)
            .map_err(|errno| failed("set no_new_privs", errno))?;
        fs::read_dir("/").map_err(|error| failed("list the root", error))?;
        let handled = landlock_handled(abi);
        landlock::forbid(
            handled.files,
            handled.reaper_network,
            handled.scopes,
            usize::try_from(handled.size).unwrap_or(0),
        )
        .map_err(|error| failed("restrict itself", error))?;
        expect(
            fs::read_dir("/").is_err_and(|error| is(&error, Errno::ACCESS)),
            "the root could still be listed",
        )
    });
    let how = format!("ABI {}", abi.min(NEWEST_LANDLOCK));
    match (attempt, landlock_lacks(abi)) {
        (Err(reason), _) => Tried::missing(reason),
        (Ok(()), lacks) if lacks.is_empty() => Tried::enforced(how),
        (Ok(()), lacks) => Tried::partial(how, format!("this kernel does not confine {lacks}")),
    }
}

/// Makes code, forbids that, and sees that it cannot any more.
pub(super) fn write_xor_execute() -> Tried {
    let attempt = in_child(|| {
        memory::make_code().map_err(|error| failed("make code before", error))?;
        memory::forbid_making_code()
            .map_err(|error| failed_before("6.3", Errno::INVAL, "set PR_SET_MDWE", error))?;
        expect(
            memory::make_code().is_err_and(|error| is(&error, Errno::ACCESS)),
            "code could still be made",
        )
    });
    match attempt {
        Ok(()) => Tried::enforced("PR_SET_MDWE"),
        Err(reason) => Tried::missing(reason),
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}
