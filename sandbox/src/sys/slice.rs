//! How long a thread may run before another's turn comes: sched_setattr(2).

use std::time::Duration;

/// Of linux/sched/types.h, in its first version.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

const SIZE: u32 = 48;
const _: () = assert!(size_of::<Attributes>() == SIZE as usize);

/// Does the work with a slice of its own for this thread and for what it starts meanwhile; they pass it
/// on. Whoever wakes up with a shorter one need not wait until it is over. Linux takes it for ordinary
/// threads since 6.12; before that, and where nothing is wanted, the work is all that is done.
pub(crate) fn with<T>(slice: Option<Duration>, work: impl FnOnce() -> T) -> T {
    let Some((slice, before)) = slice.zip(get()) else {
        return work();
    };
    let wanted = Attributes {
        runtime: u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX),
        ..before
    };
    set(&wanted);
    let done = work();
    // Zero is the kernel's own.
    set(&Attributes {
        runtime: 0,
        ..before
    });
    done
}

/// This thread's, if it is an ordinary one.
fn get() -> Option<Attributes> {
    let mut now = Attributes::default();
    // SAFETY: writes at most `SIZE` bytes to `now`, which has as many and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut now, SIZE, 0) };
    (result == 0 && now.policy == libc::SCHED_OTHER.cast_unsigned()).then_some(now)
}

/// A thread that is refused keeps what it has: it asks for no more than that, and nothing of a jail
/// hangs on it.
fn set(wanted: &Attributes) {
    let wanted = Attributes {
        size: SIZE,
        flags: 0,
        ..*wanted
    };
    // SAFETY: reads `SIZE` bytes from `wanted`, which has as many and outlives the call.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) };
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{get, with};

    #[test]
    fn what_is_started_meanwhile_has_the_slice_and_what_comes_after_has_not() {
        let slice = || get().map(|now| Duration::from_nanos(now.runtime));
        let started = || std::thread::spawn(slice).join().unwrap();
        let (own, before) = (Duration::from_millis(10), slice());
        let meanwhile = with(Some(own), started);
        // Before 6.12 there is none, and nothing changes.
        if before.is_some_and(|before| !before.is_zero()) {
            assert_eq!(meanwhile, Some(own));
        } else {
            assert_eq!(meanwhile, before);
        }
        assert_eq!((slice(), started()), (before, before));
        assert_eq!(with(None, started), before);
    }
}
