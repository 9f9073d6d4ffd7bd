//! The allocator's own calls.

/// Gives the system back what the allocator holds and nobody uses: malloc_trim(3). Elsewhere than
/// under glibc it does nothing.
pub(crate) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and may be called at any time, from any thread (MT-Safe): it looks
    // at each arena under the arena's lock, and touches no block that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
