//! Lines of the log on their way to standard error. Those of the access log, one for each request,
//! are written many at once: a system call for each would be a good part of what a request costs.
//! Every other line is written before the one who logs it goes on, after those that came before it.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// Target of the lines that may wait.
const ACCESS: &str = "pinfold::access";
/// Longest time from a line to standard error, if that takes it.
const DELAY: Duration = Duration::from_millis(20);
/// So many bytes do not wait for that time.
const ENOUGH_BYTES: usize = 64 << 10;
/// Most bytes that wait. Whoever has one more line writes them all: where standard error takes
/// nothing, requests wait for it, and nothing is lost.
const LIMIT_BYTES: usize = 256 << 10;

static LINES: State = State {
    waiting: Mutex::new(Vec::new()),
    some: Condvar::new(),
    enough: Condvar::new(),
    writing: Mutex::new(()),
    together: AtomicBool::new(false),
};

struct State {
    waiting: Mutex<Vec<u8>>,
    /// A line waits, and none did before.
    some: Condvar,
    /// [`ENOUGH_BYTES`] wait, or nobody is to wait any longer.
    enough: Condvar,
    /// Held by whoever writes: lines are taken and written under it, and so keep their order.
    writing: Mutex<()>,
    /// Whether there is somebody who writes what waits.
    together: AtomicBool,
}

impl State {
    fn waiting(&self) -> MutexGuard<'_, Vec<u8>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a line wait, which is what is written here one after the other.
    fn add(&self, line: [&[u8]; 2]) {
        let mut waiting = self.waiting();
        let before = waiting.len();
        if before + line[0].len() + line[1].len() > LIMIT_BYTES {
            drop(waiting);
            self.write(line);
            return;
        }
        waiting.extend_from_slice(line[0]);
        waiting.extend_from_slice(line[1]);
        let after = waiting.len();
        drop(waiting);
        if before == 0 {
            self.some.notify_one();
        }
        if before < ENOUGH_BYTES && after >= ENOUGH_BYTES {
            self.enough.notify_one();
        }
    }

    /// Writes what waits, and then `line`.
    fn write(&self, line: [&[u8]; 2]) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = std::mem::take(&mut *self.waiting());
        waiting.extend_from_slice(line[0]);
        put(&waiting);
        put(line[1]);
    }

    /// Writes what waits, again and again until nobody is to.
    fn keep_writing(&self) {
        while self.together.load(Ordering::Acquire) {
            let waiting = self.waiting();
            let go_on =
                |waiting: &mut Vec<u8>| waiting.is_empty() && self.together.load(Ordering::Acquire);
            let waiting = self.some.wait_while(waiting, go_on);
            let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            let few = |waiting: &mut Vec<u8>| {
                waiting.len() < ENOUGH_BYTES && self.together.load(Ordering::Acquire)
            };
            let waited = self.enough.wait_timeout_while(waiting, DELAY, few);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            self.write(NOTHING);
        }
    }
}

const NOTHING: [&[u8]; 2] = [b"", b""];

/// A log that nobody takes any longer is no reason to fail.
fn put(bytes: &[u8]) {
    if !bytes.is_empty() {
        io::stderr().write_all(bytes).unwrap_or_default();
    }
}

/// Whether a line is one of the access log.
pub(super) fn may_wait(about: &Metadata<'_>) -> bool {
    about.target() == ACCESS
}

/// Where `tracing` writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    /// What each line begins with.
    pub(super) prefix: &'static str,
}

/// One line.
#[derive(Debug)]
pub(super) struct Line {
    prefix: &'static str,
    may_wait: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line {
            prefix: self.prefix,
            may_wait: false,
        }
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Line {
        Line {
            prefix: self.prefix,
            may_wait: may_wait(about) && LINES.together.load(Ordering::Acquire),
        }
    }
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let whole = [self.prefix.as_bytes(), line];
        if self.may_wait {
            LINES.add(whole);
        } else {
            LINES.write(whole);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Has lines of the access log written together from now on, by a thread of its own, until what is
/// returned goes. A panic, which ends the process, writes what waits first.
///
/// # Errors
/// Where there can be no such thread: lines are then written one by one, as before.
pub(crate) fn write_together() -> io::Result<Together> {
    LINES.together.store(true, Ordering::Release);
    let spawned = std::thread::Builder::new()
        .name("log".into())
        .spawn(|| LINES.keep_writing());
    let thread = spawned.inspect_err(|_| LINES.together.store(false, Ordering::Release))?;
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // Whoever panicked may hold the lock.
        match LINES.waiting.try_lock() {
            Ok(mut waiting) => put(&std::mem::take(&mut *waiting)),
            Err(TryLockError::Poisoned(poisoned)) => {
                put(&std::mem::take(&mut *poisoned.into_inner()))
            }
            Err(TryLockError::WouldBlock) => {}
        }
        before(panic);
    }));
    Ok(Together {
        thread: Some(thread),
    })
}

/// Lines are written together as long as this is there.
#[derive(Debug)]
pub(crate) struct Together {
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Together {
    fn drop(&mut self) {
        LINES.together.store(false, Ordering::Release);
        // Between its look and its wait the thread holds this: it cannot miss what follows.
        drop(LINES.waiting());
        LINES.some.notify_all();
        LINES.enough.notify_all();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_default();
        }
        LINES.write(NOTHING);
    }
}
