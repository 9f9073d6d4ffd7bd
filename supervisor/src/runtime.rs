//! The threads that serve requests and plugins.

use std::io;
use std::num::NonZero;

use tokio::runtime::{Builder, Runtime};

/// Starts the daemon's runtime with `threads` workers; 0 is half as many as there are processors,
/// at least one.
///
/// The other half is the plugins': a request's work is mostly theirs, and a worker that is woken on
/// a second processor for every message costs more than it does (docs/decisions/008).
///
/// # Errors
/// Where the kernel gives no thread.
pub(crate) fn start(threads: u16) -> io::Result<Runtime> {
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, NonZero::get) / 2,
        threads => threads.into(),
    };
    Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .enable_all()
        .build()
}
