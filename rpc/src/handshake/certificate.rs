//! Whether bytes have the outer form of an X.509 certificate.

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// Whether `der` is one sequence of the certificate's body (a sequence), an algorithm (a sequence) and a signature (a
/// bit string), as RFC 5280 section 4.1 has it. The inside is for the TLS library, which compares the whole anyway.
pub(super) fn is_certificate(der: &[u8]) -> bool {
    let parts = || {
        let (outer, rest) = element(der, SEQUENCE)?;
        let (_, outer) = element(outer, SEQUENCE)?;
        let (_, outer) = element(outer, SEQUENCE)?;
        let (_, outer) = element(outer, BIT_STRING)?;
        Some((outer, rest))
    };
    parts().is_some_and(|(inner, after)| inner.is_empty() && after.is_empty())
}

/// Splits one element with this tag off the front: its content, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, bytes) = bytes.split_first()?;
    let (first, bytes) = bytes.split_first()?;
    if *found != tag {
        return None;
    }
    // Lengths below 128 stand for themselves; above, the low bits say how many bytes of length follow.
    let (length, bytes) = match first {
        0..=0x7f => (usize::from(*first), bytes),
        0x81..=0x84 => {
            let (digits, bytes) = bytes.split_at_checked(usize::from(first & 0x7f))?;
            (
                digits
                    .iter()
                    .fold(0, |sum, digit| sum << 8 | usize::from(*digit)),
                bytes,
            )
        }
        _ => return None,
    };
    bytes.split_at_checked(length)
}
