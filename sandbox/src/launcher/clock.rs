//! The time of day by which keys expire: one that does not go back while the launcher runs.
//!
//! Whoever may set the machine's clock could otherwise make an expired key good again. So the time is
//! the later of two: what the clock says, and what it said at the start plus what has passed since
//! (`CLOCK_BOOTTIME`, which counts suspended time and which nobody can set, clock_gettime(2)).

use pinfold_policy::Moment;
use rustix::time::{ClockId, clock_gettime};

/// The time of day at the launcher's start, and the machine's at the same moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    wall_seconds: u64,
    boot_seconds: u64,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            wall_seconds: seconds(ClockId::Realtime),
            boot_seconds: seconds(ClockId::Boottime),
        }
    }

    pub(super) fn now(self) -> Moment {
        self.at(seconds(ClockId::Realtime), seconds(ClockId::Boottime))
    }

    fn at(self, wall_seconds: u64, boot_seconds: u64) -> Moment {
        let passed = boot_seconds.saturating_sub(self.boot_seconds);
        let reckoned = self.wall_seconds.saturating_add(passed);
        Moment::from_unix_seconds(wall_seconds.max(reckoned))
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
        let clock = Clock {
            wall_seconds: 1000,
            boot_seconds: 50,
        };
        let at = |wall, boot| clock.at(wall, boot).unix_seconds();
        assert_eq!(at(1010, 60), 1010);
        assert_eq!(at(3, 60), 1010);
        // One that was wrong at the start is put right.
        assert_eq!(at(5000, 60), 5000);
        assert!(Clock::start().now().unix_seconds() > 1_700_000_000);
    }
}
