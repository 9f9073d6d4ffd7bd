//! When a plugin that ended by itself is started again, and when no more.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::RestartSection;

/// The ends of one plugin that nobody asked for. Times are monotonic: the machine's clock may be
/// set as one likes.
#[derive(Debug, Default)]
pub(super) struct Crashes {
    /// The latest, oldest first; at most one more than the limit.
    times: VecDeque<Instant>,
    /// Starts in a row since then that the machine was too short of something for.
    shortages: usize,
}

/// What follows a crash.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Start again after this time.
    Again(Duration),
    /// It has crashed so often within the window: no more.
    Loop(usize),
}

impl Crashes {
    /// Forgets them: an operator or new files give the plugin another chance.
    pub(super) fn clear(&mut self) {
        self.times.clear();
        self.shortages = 0;
    }

    /// Notes an end at `now`, after an instance had served for `served`.
    pub(super) fn crashed(
        &mut self,
        now: Instant,
        served: Duration,
        settings: &RestartSection,
    ) -> Verdict {
        if served >= settings.longest.0 {
            // As long as the longest wait: what came before has nothing to do with this.
            self.clear();
        }
        self.shortages = 0;
        let window = settings.window.0;
        self.times
            .retain(|time| now.saturating_duration_since(*time) < window);
        self.times.push_back(now);
        let count = self.times.len();
        if count > settings.limit as usize {
            return Verdict::Loop(count);
        }
        Verdict::Again(wait_after(count - 1, settings))
    }

    /// Whether the machine was too short of something for the last start.
    pub(super) fn is_short(&self) -> bool {
        self.shortages > 0
    }

    /// Notes that one came to serve: the machine had what it takes.
    pub(super) fn served(&mut self) {
        self.shortages = 0;
    }

    /// How long to wait after a start that the machine was too short of something for. Nothing of the
    /// plugin has ended: however often it is so, that is no crash loop.
    pub(super) fn short(&mut self, settings: &RestartSection) -> Duration {
        let before = self.shortages;
        self.shortages = before.saturating_add(1);
        wait_after(before, settings)
    }
}

/// The wait after so many others.
fn wait_after(before: usize, settings: &RestartSection) -> Duration {
    let doublings = u32::try_from(before).unwrap_or(u32::MAX).min(31);
    let wait = settings.first.0.saturating_mul(1 << doublings);
    jittered(wait.min(settings.longest.0))
}

/// Between three quarters of the time and all of it, by chance: plugins that fell together, with
/// what they all need, do not come back together.
fn jittered(wait: Duration) -> Duration {
    // Without randomness the wait is merely the same for all.
    let chance = getrandom::u32().unwrap_or(u32::MAX);
    wait.mul_f64(0.75 + 0.25 * f64::from(chance) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> RestartSection {
        RestartSection::default()
    }

    #[test]
    fn waits_double_up_to_the_longest_and_the_sixth_crash_in_the_window_is_the_last() {
        let mut crashes = Crashes::default();
        let start = Instant::now();
        let mut now = start;
        for expected in [1, 2, 4, 8, 16] {
            let Verdict::Again(wait) = crashes.crashed(now, Duration::ZERO, &settings()) else {
                panic!("not yet a loop");
            };
            let full = Duration::from_secs(expected);
            assert!(wait <= full && wait >= full.mul_f64(0.75), "{wait:?}");
            now += wait;
        }
        let verdict = crashes.crashed(now, Duration::ZERO, &settings());
        assert_eq!(verdict, Verdict::Loop(6));
        crashes.clear();
        assert!(matches!(
            crashes.crashed(now, Duration::ZERO, &settings()),
            Verdict::Again(_)
        ));
    }

    #[test]
    fn crashes_outside_the_window_and_before_a_long_run_do_not_count() {
        let mut crashes = Crashes::default();
        let mut now = Instant::now();
        for _ in 0..100 {
            let verdict = crashes.crashed(now, Duration::from_secs(60), &settings());
            assert!(matches!(verdict, Verdict::Again(_)), "{verdict:?}");
            now += Duration::from_secs(121);
        }
        let served = Duration::from_secs(300);
        for _ in 0..100 {
            let Verdict::Again(wait) = crashes.crashed(now, served, &settings()) else {
                panic!("each had served long enough");
            };
            assert!(wait <= Duration::from_secs(1));
        }
    }

    #[test]
    fn a_shortage_is_waited_for_up_to_the_longest_however_often_it_is_met_and_counts_as_no_crash() {
        let none = RestartSection {
            limit: 0,
            ..settings()
        };
        let mut crashes = Crashes::default();
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300] {
            let wait = crashes.short(&none);
            let full = Duration::from_secs(expected);
            assert!(wait <= full && wait >= full.mul_f64(0.75), "{wait:?}");
            assert!(crashes.is_short());
        }
        // The first end after it is the first, and a shortage after that a new one.
        let verdict = crashes.crashed(Instant::now(), Duration::ZERO, &settings());
        assert!(
            matches!(verdict, Verdict::Again(wait) if wait <= Duration::from_secs(1)),
            "{verdict:?}"
        );
        assert!(!crashes.is_short());
        assert!(crashes.short(&settings()) <= Duration::from_secs(1));
        crashes.served();
        assert!(!crashes.is_short());
        assert!(crashes.short(&settings()) <= Duration::from_secs(1));
        crashes.clear();
        assert!(crashes.short(&settings()) <= Duration::from_secs(1));
    }

    #[test]
    fn with_a_limit_of_none_the_first_crash_is_the_last() {
        let settings = RestartSection {
            limit: 0,
            ..settings()
        };
        let verdict = Crashes::default().crashed(Instant::now(), Duration::MAX, &settings);
        assert_eq!(verdict, Verdict::Loop(1));
    }
}
