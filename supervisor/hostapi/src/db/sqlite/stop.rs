//! When a statement is interrupted: at its deadline, and when it has written more than it may.
//!
//! Sorting and what is kept aside go to temporary files, which SQLite does not bound. A connection
//! has a thread of its own, so what that thread has written is what the statement has.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

/// Time between two looks at what was written: a disk takes some megabytes in it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// Unit in which the kernel counts what a thread has written, getrusage(2).
const BLOCK_BYTES: u64 = 512;

/// Says when the statement that a connection runs is to end.
#[derive(Debug)]
pub(super) struct Stop {
    origin: Instant,
    after_nanos: AtomicU64,
    write_limit_bytes: u64,
    /// What the thread had written when this statement began; not known before the first look.
    base_bytes: AtomicU64,
    look_nanos: AtomicU64,
    has_written_too_much: AtomicBool,
}

const UNKNOWN: u64 = u64::MAX;

impl Stop {
    /// For statements that may write as much.
    pub(super) fn new(write_limit_bytes: u64) -> Self {
        Self {
            origin: Instant::now(),
            after_nanos: AtomicU64::new(u64::MAX),
            write_limit_bytes,
            base_bytes: AtomicU64::new(UNKNOWN),
            look_nanos: AtomicU64::new(0),
            has_written_too_much: AtomicBool::new(false),
        }
    }

    /// Begins a statement that ends at `deadline`.
    pub(super) fn at(&self, deadline: Instant) {
        self.base_bytes.store(UNKNOWN, Ordering::Relaxed);
        self.look_nanos.store(0, Ordering::Relaxed);
        self.has_written_too_much.store(false, Ordering::Relaxed);
        let after = deadline.saturating_duration_since(self.origin);
        self.after_nanos.store(nanos(after), Ordering::Relaxed);
    }

    pub(super) fn now(&self) {
        self.after_nanos.store(0, Ordering::Relaxed);
    }

    /// The limit, where that is why the statement was interrupted.
    pub(super) fn written_too_much(&self) -> Option<u64> {
        let too_much = self.has_written_too_much.load(Ordering::Relaxed);
        too_much.then_some(self.write_limit_bytes)
    }

    /// Asked by the engine, on its own thread, every so many instructions.
    pub(super) fn is_due(&self) -> bool {
        let now = nanos(self.origin.elapsed());
        if now >= self.after_nanos.load(Ordering::Relaxed) {
            return true;
        }
        if now >= self.look_nanos.load(Ordering::Relaxed) {
            let next = now.saturating_add(nanos(BETWEEN_LOOKS));
            self.look_nanos.store(next, Ordering::Relaxed);
            self.look();
        }
        self.has_written_too_much.load(Ordering::Relaxed)
    }

    fn look(&self) {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_THREAD) else {
            return;
        };
        let written = u64::try_from(usage.block_writes()).unwrap_or(0) * BLOCK_BYTES;
        match self.base_bytes.load(Ordering::Relaxed) {
            UNKNOWN => self.base_bytes.store(written, Ordering::Relaxed),
            base if written.saturating_sub(base) > self.write_limit_bytes => {
                self.has_written_too_much.store(true, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
