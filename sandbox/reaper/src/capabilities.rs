//! Giving up rights: what the reaper (R16) and the plugin stage (C3 to C6) have in common.

use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

use crate::failure::{During, Failure};
use crate::step::Step;
use crate::sys;

/// No kernel has more: the sets are of 64 bits.
const MOST_CAPABILITIES: u32 = 64;

/// Drops every capability that this kernel knows from the bounding set.
pub(crate) fn drop_bounding_set(step: Step) -> Result<(), Failure> {
    for capability in 0..MOST_CAPABILITIES {
        match sys::drop_bounding(capability) {
            Ok(()) => {}
            // Past the kernel's last one; the first is there everywhere.
            Err(Errno::INVAL) if capability > 0 => break,
            Err(errno) => return Err(errno).during(step, "drop the bounding set"),
        }
    }
    Ok(())
}

/// No rights for user id zero, none by changing ids, none kept, none ambient, for ever.
pub(crate) fn lock_securebits(step: Step) -> Result<(), Failure> {
    let bits = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    rustix::thread::set_capabilities_secure_bits(bits).during(step, "lock the secure bits")
}

/// No supplementary group; group and user id, real, effective and saved; then looks.
pub(crate) fn change_ids(step: Step, id: u32) -> Result<(), Failure> {
    let (gid, uid) = (Gid::from_raw(id), Uid::from_raw(id));
    rustix::thread::set_thread_groups(&[]).during(step, "no supplementary groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).during(step, "group id")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).during(step, "user id")?;
    let ids = sys::ids().during(step, "read the ids back")?;
    if ids == [id; 6] {
        Ok(())
    } else {
        Err(Errno::PERM).during(step, "ids did not change")
    }
}

/// Empties the ambient, inheritable, permitted and effective sets.
pub(crate) fn empty_sets(step: Step) -> Result<(), Failure> {
    rustix::thread::clear_ambient_capability_set().during(step, "clear the ambient set")?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none).during(step, "empty the capability sets")?;
    let now = rustix::thread::capabilities(None).during(step, "read the capabilities back")?;
    if now == none {
        Ok(())
    } else {
        Err(Errno::PERM).during(step, "capabilities are left")
    }
}
