//! Standard base64 without padding, as go-plugin writes certificates.

/// Decodes `text`; the error is the offset of the first byte that does not belong there.
pub(super) fn decode_unpadded(text: &[u8]) -> Result<Vec<u8>, usize> {
    let mut bytes = Vec::with_capacity(text.len());
    for (group_index, group) in text.chunks(4).enumerate() {
        let start = group_index.saturating_mul(4);
        let mut bits: u32 = 0;
        for (index, byte) in group.iter().enumerate() {
            let value = sextet(*byte).ok_or(start.saturating_add(index))?;
            bits = bits << 6 | u32::from(value);
        }
        let [_, first, second, third] = match group.len() {
            4 => bits,
            3 => bits << 6,
            2 => bits << 12,
            // A single character holds six bits: not a byte.
            _ => return Err(start),
        }
        .to_be_bytes();
        let kept = group.len().saturating_sub(1);
        bytes.extend([first, second, third].into_iter().take(kept));
    }
    Ok(bytes)
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => byte.checked_sub(b'A'),
        b'a'..=b'z' => byte.checked_sub(b'a')?.checked_add(26),
        b'0'..=b'9' => byte.checked_sub(b'0')?.checked_add(52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 4648 section 10, without the padding.
    #[test]
    fn test_vectors_of_the_standard_decode() {
        let cases = [
            ("", ""),
            ("Zg", "f"),
            ("Zm8", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYmFy", "foobar"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                decode_unpadded(text.as_bytes()),
                Ok(expected.as_bytes().to_vec())
            );
        }
    }

    #[test]
    fn padding_other_alphabets_and_lone_characters_are_refused() {
        assert_eq!(decode_unpadded(b"Zg=="), Err(2));
        assert_eq!(decode_unpadded(b"Zm9_"), Err(3));
        assert_eq!(decode_unpadded(b"Zm9vY"), Err(4));
    }
}
