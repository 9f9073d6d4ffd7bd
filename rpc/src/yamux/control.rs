//! Frames that bring nothing or next to nothing: how many are taken from a peer before it has to wait.
use std::time::Duration;

/// What one frame without data takes of the time: ten thousand a second. Ours and Go's grant a window in halves of 256 KiB, so that even a stream of a gigabyte
/// a second comes with no more.
const EACH: Duration = Duration::from_micros(100);
/// What one frame with a few bytes of data takes: a million a second. Such are honest, and no peer that makes each for a
/// purpose comes near; but a window holds back bytes alone, and a hundred thousand of them fit into the room of one.
const EACH_SMALL: Duration = Duration::from_micros(1);
/// Data of fewer bytes is small.
const SMALL_BYTES: u32 = 256;
/// How many of them may come at once, as the time in which they are allowed.
const BURST: Duration = Duration::from_secs(1);
/// Once there were too many, the socket is left alone until as many are allowed as in this time.
const AT_ONCE: Duration = Duration::from_millis(50);

/// Counts pings, grants, openings, ends and what belongs to no stream. Each is little work, but without data no window
/// holds the peer back, and it makes them faster than this side takes them.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// When all that were counted will have been allowed.
    paid: Duration,
    until: Option<Duration>,
}

impl Control {
    /// Counts one without data, or with data for nobody.
    pub(super) fn count(&mut self, now: Duration) {
        self.pay(EACH, now);
    }

    /// Counts one with so many bytes of data.
    pub(super) fn count_data(&mut self, bytes: u32, now: Duration) {
        if bytes < SMALL_BYTES {
            self.pay(EACH_SMALL, now);
        }
    }

    fn pay(&mut self, price: Duration, now: Duration) {
        self.paid = self.paid.max(now).saturating_add(price);
        if self.paid > now.saturating_add(BURST) {
            self.until = Some(self.paid.saturating_sub(BURST).saturating_add(AT_ONCE));
        }
    }

    /// Until when nothing is to be read.
    pub(super) fn until(&self) -> Option<Duration> {
        self.until
    }

    /// Lets the peer go on if it is time.
    pub(super) fn check(&mut self, now: Duration) {
        if self.until.is_some_and(|until| until <= now) {
            self.until = None;
        }
    }
}
