//! Primitive encodings: integers, floats, counted bytes, message prefixes.

use crate::error::DecodeError;

/// Widest integer, in bytes after the width byte.
const WIDEST: usize = 8;

/// Reads primitives from one message, and steps to the messages after it.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    /// What is left of the current message.
    message: &'a [u8],
    /// What follows the current message in the buffer.
    following: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8], following: &'a [u8]) -> Self {
        Self { message, following }
    }

    /// Bytes left in the current message.
    pub(crate) fn remaining(&self) -> usize {
        self.message.len()
    }

    /// Bytes after the current message.
    pub(crate) fn following(&self) -> usize {
        self.following.len()
    }

    #[inline]
    pub(crate) fn uint(&mut self, reading: &'static str) -> Result<u64, DecodeError> {
        match self.message.split_first() {
            Some((&first, rest)) if first < 0x80 => {
                self.message = rest;
                Ok(u64::from(first))
            }
            Some((&first, rest)) => {
                let bytes = width(first)?;
                let (digits, rest) = rest
                    .split_at_checked(bytes)
                    .ok_or(DecodeError::UnexpectedEnd { reading })?;
                self.message = rest;
                Ok(big_endian(digits))
            }
            None => Err(DecodeError::UnexpectedEnd { reading }),
        }
    }

    #[inline]
    pub(crate) fn int(&mut self, reading: &'static str) -> Result<i64, DecodeError> {
        self.uint(reading).map(unzigzag)
    }

    pub(crate) fn float(&mut self) -> Result<f64, DecodeError> {
        self.uint("a float")
            .map(|bits| f64::from_bits(bits.swap_bytes()))
    }

    /// Passes over one byte if it is zero, and says so.
    pub(crate) fn take_zero(&mut self) -> bool {
        match self.message.split_first() {
            Some((0, rest)) => {
                self.message = rest;
                true
            }
            _ => false,
        }
    }

    /// Count, then that many bytes.
    #[inline]
    pub(crate) fn counted(&mut self, reading: &'static str) -> Result<&'a [u8], DecodeError> {
        let count = self.uint(reading)?;
        self.take(count, reading)
    }

    #[inline]
    pub(crate) fn take(
        &mut self,
        count: u64,
        reading: &'static str,
    ) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = usize::try_from(count)
            .ok()
            .and_then(|count| self.message.split_at_checked(count))
            .ok_or(DecodeError::UnexpectedEnd { reading })?;
        self.message = rest;
        Ok(taken)
    }

    /// Goes on with the message that follows; what is left of this one is dropped. `None` when
    /// that message is not wholly there; otherwise its length. `limit` bounds that length.
    pub(crate) fn next_message(&mut self, limit: usize) -> Result<Option<usize>, DecodeError> {
        let Some((message, following)) = split_message(self.following, limit)? else {
            return Ok(None);
        };
        self.message = message;
        self.following = following;
        Ok(Some(message.len()))
    }
}

/// A message, without its prefix, and what follows; or `None`.
type Split<'a> = Option<(&'a [u8], &'a [u8])>;

/// Splits the first message off `buffer`, without its prefix. `None` when more bytes are needed.
pub(crate) fn split_message(buffer: &[u8], limit: usize) -> Result<Split<'_>, DecodeError> {
    let Some((length, rest)) = split_length(buffer)? else {
        return Ok(None);
    };
    match usize::try_from(length) {
        Ok(length) if length <= limit => Ok(rest.split_at_checked(length)),
        _ => Err(DecodeError::MessageTooLarge { length, limit }),
    }
}

/// The length of the first message of `buffer`, and what follows its prefix. `None` when more bytes are needed.
pub(crate) fn split_length(buffer: &[u8]) -> Result<Option<(u64, &[u8])>, DecodeError> {
    let Some((&first, rest)) = buffer.split_first() else {
        return Ok(None);
    };
    let (length, rest) = if first < 0x80 {
        (u64::from(first), rest)
    } else {
        let Some((digits, rest)) = rest.split_at_checked(width(first)?) else {
            return Ok(None);
        };
        (big_endian(digits), rest)
    };
    if length == 0 {
        return Err(DecodeError::EmptyMessage);
    }
    Ok(Some((length, rest)))
}

pub(crate) fn put_uint(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value.to_le_bytes()[0]);
    } else {
        let (bytes, skip) = wide(value);
        out.extend(bytes.iter().skip(skip));
    }
}

pub(crate) fn put_int(out: &mut Vec<u8>, value: i64) {
    put_uint(out, zigzag(value));
}

pub(crate) fn put_float(out: &mut Vec<u8>, value: f64) {
    put_uint(out, value.to_bits().swap_bytes());
}

pub(crate) fn put_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

pub(crate) fn put_len(out: &mut Vec<u8>, length: usize) {
    put_uint(out, len_u64(length));
}

/// Puts `value` in front of what was written since `start`, where [`hold_uint`] held its place.
pub(crate) fn fill_uint(out: &mut Vec<u8>, start: usize, value: u64) {
    if value < 0x80 {
        if let Some(held) = out.get_mut(start) {
            *held = value.to_le_bytes()[0];
        }
    } else {
        let (bytes, skip) = wide(value);
        out.splice(start..=start, bytes.into_iter().skip(skip));
    }
}

/// Holds the place of an integer that is known later; returns it for [`fill_uint`].
pub(crate) fn hold_uint(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.push(0);
    start
}

/// A length as the wire's integer: `usize` is never wider on what Rust runs on.
pub(crate) fn len_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    let half = (value >> 1).cast_signed();
    if value & 1 == 0 { half } else { !half }
}

/// Width byte and digits of an integer of 128 or more, and how many of the nine are not sent.
fn wide(value: u64) -> ([u8; 9], usize) {
    let zeros = value.leading_zeros() / 8;
    let skip = usize::try_from(zeros).unwrap_or(0).min(7);
    let mut bytes = [0; 9];
    let (head, digits) = bytes.split_at_mut(1);
    digits.copy_from_slice(&value.to_be_bytes());
    // The width byte goes right before the first digit that is sent.
    let width = 0u8.wrapping_sub(8u8.saturating_sub(skip.to_le_bytes()[0]));
    match skip
        .checked_sub(1)
        .and_then(|before| digits.get_mut(before))
    {
        Some(place) => *place = width,
        None => head.fill(width),
    }
    (bytes, skip)
}

/// Number of digits that a width byte announces.
fn width(first: u8) -> Result<usize, DecodeError> {
    let bytes = usize::from(first.wrapping_neg());
    if bytes > WIDEST {
        Err(DecodeError::IntegerTooWide { bytes })
    } else {
        Ok(bytes)
    }
}

fn big_endian(digits: &[u8]) -> u64 {
    digits
        .iter()
        .fold(0, |value, &digit| (value << 8) | u64::from(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsigned_integers_match_the_documentation() {
        for (value, bytes) in [
            (0, &[0][..]),
            (127, &[127]),
            (128, &[0xff, 0x80]),
            (256, &[0xfe, 1, 0]),
            (u64::MAX, &[0xf8, 255, 255, 255, 255, 255, 255, 255, 255]),
        ] {
            let mut out = Vec::new();
            put_uint(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(Reader::new(&out, &[]).uint("x"), Ok(value));
        }
    }

    #[test]
    fn signed_integers_match_the_documentation() {
        for (value, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (64, &[0xff, 0x80]),
            (-64, &[0x7f]),
            (-65, &[0xff, 0x81]),
            (-129, &[0xfe, 1, 1]),
            (i64::MIN, &[0xf8, 255, 255, 255, 255, 255, 255, 255, 255]),
        ] {
            let mut out = Vec::new();
            put_int(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(Reader::new(&out, &[]).int("x"), Ok(value));
        }
    }

    #[test]
    fn a_held_place_takes_integers_of_any_width() {
        for value in [0, 127, 128, 70_000, u64::MAX] {
            let mut out = vec![9];
            let start = hold_uint(&mut out);
            out.extend([1, 2, 3]);
            fill_uint(&mut out, start, value);
            let mut expected = vec![9];
            put_uint(&mut expected, value);
            expected.extend([1, 2, 3]);
            assert_eq!(out, expected);
        }
    }
}
