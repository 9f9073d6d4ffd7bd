//! A runtime of one thread: what runs on it takes the same way each time.

use tokio::runtime::{Builder, Runtime};

/// What the two ends of an in-memory connection may have under way, in bytes: the default of a
/// Unix socket's buffer, so that a large payload goes in pieces as it does there.
pub(crate) const DUPLEX_BYTES: usize = 208 << 10;

pub(crate) fn one_thread() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime of this thread alone needs nothing that could be lacking")
}
