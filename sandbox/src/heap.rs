//! The heap of a process that lives long. It is here, and not with the daemon, because the call has
//! no safe form.

/// Gives the system back what the heap holds and nobody uses: glibc keeps whatever does not lie at a
/// heap's end. Takes some milliseconds for each hundred megabytes, and holds up whoever allocates for
/// a part of it. Where the allocator is another, nothing happens.
pub fn give_back() {
    crate::sys::heap::trim();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages of memory that are no file's, in KiB: proc_pid_statm(5).
    fn anonymous_kib() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        let mut fields = text.split(' ').skip(1).map(|f| f.parse::<usize>().unwrap());
        let (resident, shared) = (fields.next().unwrap(), fields.next().unwrap());
        (resident - shared) * 4
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_lies_between_used_blocks_is_given_back() {
        const BLOCKS: usize = 2000;
        let blocks: Vec<Vec<u8>> = (0..BLOCKS).map(|_| vec![1; 64 * 1024]).collect();
        let kept: Vec<_> = blocks.into_iter().skip(9).step_by(10).collect();
        let before = anonymous_kib();
        give_back();
        let after = anonymous_kib();
        assert!(after + 64 * 1024 < before, "{before} KiB, then {after}");
        assert!(kept.iter().flatten().all(|byte| *byte == 1));
    }
}
