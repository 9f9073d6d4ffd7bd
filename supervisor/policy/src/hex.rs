//! Hex digits, two for a byte.

/// The bytes that `digits` stand for, either case; `Err` is the place of the first that is none.
/// `digits` has `2 * N` of them.
pub(crate) fn decode<const N: usize>(digits: &[u8]) -> Result<[u8; N], usize> {
    let mut bytes = [0; N];
    for (at, digit) in digits.iter().enumerate() {
        let value = char::from(*digit).to_digit(16).ok_or(at)?;
        let value = u8::try_from(value).map_err(|_| at)?;
        let byte = bytes.get_mut(at / 2).ok_or(at)?;
        *byte = *byte << 4 | value;
    }
    match digits.len() == 2 * N {
        true => Ok(bytes),
        false => Err(digits.len()),
    }
}

/// The digits of `bytes`, lower-case.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for nibble in bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        text.extend(char::from_digit(nibble.into(), 16));
    }
    text
}
