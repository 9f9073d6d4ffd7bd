//! The time of day by which keys expire: one that does not go back while the launcher runs.
//!
//! Whoever may set the machine's clock could otherwise make an expired key good again. So the time is
//! the later of two: what the clock says, and what it was taken to be when it was last asked plus what
//! has passed since (`CLOCK_BOOTTIME`, which counts suspended time and which nobody can set,
//! clock_gettime(2)).

use std::cell::Cell;

use pinfold_policy::Moment;
use rustix::time::{ClockId, clock_gettime};

/// The clock.
#[derive(Debug)]
pub(super) struct Clock(Cell<Asked>);

/// The time of day as it was given last, and what had passed since the machine's start then.
#[derive(Clone, Copy, Debug)]
struct Asked {
    wall_seconds: u64,
    boot_seconds: u64,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self(Cell::new(Asked {
            wall_seconds: seconds(ClockId::Realtime),
            boot_seconds: seconds(ClockId::Boottime),
        }))
    }

    pub(super) fn now(&self) -> Moment {
        self.at(seconds(ClockId::Realtime), seconds(ClockId::Boottime))
    }

    fn at(&self, wall_seconds: u64, boot_seconds: u64) -> Moment {
        let last = self.0.get();
        let passed = boot_seconds.saturating_sub(last.boot_seconds);
        let reckoned = last.wall_seconds.saturating_add(passed);
        let wall_seconds = wall_seconds.max(reckoned);
        self.0.set(Asked {
            wall_seconds,
            boot_seconds,
        });
        Moment::from_unix_seconds(wall_seconds)
    }
}

fn seconds(clock: ClockId) -> u64 {
    // Before 1970 is 1970.
    u64::try_from(clock_gettime(clock).tv_sec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_set_back_does_not_bring_back_the_time() {
        let clock = Clock(Cell::new(Asked {
            wall_seconds: 1000,
            boot_seconds: 50,
        }));
        let at = |wall, boot| clock.at(wall, boot).unix_seconds();
        assert_eq!(at(1010, 60), 1010);
        assert_eq!(at(3, 60), 1010);
        // One that was wrong at the start is put right.
        assert_eq!(at(5000, 60), 5000);
        // Once it has been put right, it stays so.
        assert_eq!(at(1020, 70), 5010);
        assert!(Clock::start().now().unix_seconds() > 1_700_000_000);
    }
}
