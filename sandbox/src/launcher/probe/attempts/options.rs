//! Controls that a policy may ask for and that are off by default.

use std::fs;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::super::Setting;
use super::{Mapped, NO_PLUGIN_ID, expect, failed, failed_before, tried};
use crate::launcher::controls::Tried;
use crate::sys::core;

/// As the plugin stage makes it: in a user namespace of the plugin's id, whose right to set clocks
/// ends there; and sees that they begin anew.
pub(super) fn time_namespace(setting: &Setting) -> Tried {
    let Some(mapped) = Mapped::of(setting) else {
        return Tried::missing(NO_PLUGIN_ID);
    };
    tried("clocks begin with the plugin", || {
        let kind = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);
        mapped.enter()?;
        unshare(kind)
            .map_err(|errno| failed_before("5.6", Errno::INVAL, "new time namespace", errno))?;
        let now = clock_gettime(ClockId::Boottime).tv_sec;
        fs::write("/proc/self/timens_offsets", format!("boottime -{now} 0\n"))
            .map_err(|error| failed("set its clocks", error))?;
        let own = fs::File::open("/proc/self/ns/time_for_children")
            .map_err(|error| failed("open the time namespace", error))?;
        setns(own, kind).map_err(|errno| failed("enter the time namespace", errno))?;
        let after = clock_gettime(ClockId::Boottime).tv_sec;
        // A machine that is up for less hides nothing by it.
        const MOMENT: i64 = 60;
        expect(after <= now.min(MOMENT), "its clock does not begin anew")
    })
}

/// A cookie is made and found.
pub(super) fn core_scheduling() -> Tried {
    tried("one cookie for each jail", || {
        core::own_core().map_err(|error| match error.raw_os_error() {
            Some(libc::ENODEV) => {
                "each core of this machine has one thread: there is nobody to keep away".to_owned()
            }
            Some(libc::EINVAL) => format!(
                "{}; it came with Linux 5.14, and kernels may be built without it",
                failed("make a cookie", error)
            ),
            _ => failed("make a cookie", error),
        })?;
        let cookie = core::core_cookie(0).map_err(|error| failed("read the cookie", error))?;
        expect(cookie != 0, "there is no cookie")
    })
}
