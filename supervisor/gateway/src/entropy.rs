//! Random bytes for ids, drawn from the kernel many at a time: a system call for each id is among
//! the dearest things on the way of a request.

use std::cell::RefCell;

/// Bytes drawn at once: 25 ids of a request and its call.
const DRAWN_BYTES: usize = 640;

thread_local! {
    static DRAWN: RefCell<Drawn> = const { RefCell::new(Drawn { bytes: [0; DRAWN_BYTES], used: DRAWN_BYTES }) };
}

struct Drawn {
    bytes: [u8; DRAWN_BYTES],
    /// How many from the front are given away, and overwritten.
    used: usize,
}

/// Random bytes of the kernel's, each given away once.
///
/// For ids that must not meet and that nobody should guess by the way; keys and tokens of users ask
/// the kernel themselves.
///
/// # Panics
/// When the kernel gives no random bytes, which it does from its start on (getrandom(2)).
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    const { assert!(N <= DRAWN_BYTES, "more than is drawn at once") };
    DRAWN.with_borrow_mut(|drawn| {
        if DRAWN_BYTES - drawn.used < N {
            getrandom::fill(&mut drawn.bytes).expect("the kernel gives random bytes");
            drawn.used = 0;
        }
        let mut taken = [0; N];
        let end = drawn.used + N;
        if let Some(next) = drawn.bytes.get_mut(drawn.used..end) {
            taken.copy_from_slice(next);
            next.fill(0);
        }
        drawn.used = end;
        taken
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_byte_is_given_twice() {
        let drawn: HashSet<[u8; 16]> = (0..1_000).map(|_| random()).collect();
        assert_eq!(drawn.len(), 1_000);
        // Of another length in between, so that what is left over at the end varies.
        let mixed: HashSet<[u8; 16]> = (0..1_000)
            .map(|_| {
                assert_ne!(random::<10>(), [0; 10]);
                random()
            })
            .collect();
        assert_eq!(mixed.len(), 1_000);
        assert!(drawn.is_disjoint(&mixed));
    }
}
