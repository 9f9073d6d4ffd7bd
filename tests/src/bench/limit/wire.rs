//! Frames of yamux and messages of gob, as far as lengths go.
//!
//! Sources: the yamux specification of HashiCorp, and the documentation of Go's encoding/gob.

use anyhow::{Context as _, bail};

/// A frame's header: version, kind, flags, stream, length, in 12 bytes.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Frame {
    pub(in crate::bench) kind: Kind,
    flags: u16,
    pub(in crate::bench) stream: u32,
    /// Of the data that follows; of a window the grant, of a ping its value.
    pub(in crate::bench) length: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Kind {
    Data,
    Window,
    Ping,
    GoAway,
}

const HEADER_BYTES: usize = 12;
/// Opens a stream, or asks with a ping.
const SYN: u16 = 1;
/// Answers.
const ACK: u16 = 2;

impl Frame {
    pub(in crate::bench) fn open(stream: u32) -> Self {
        Self {
            kind: Kind::Window,
            flags: SYN,
            stream,
            length: 0,
        }
    }

    /// The header of this data.
    pub(in crate::bench) fn data(stream: u32, data: &[u8]) -> anyhow::Result<Self> {
        Ok(Self {
            kind: Kind::Data,
            flags: 0,
            stream,
            length: u32::try_from(data.len())?,
        })
    }

    pub(in crate::bench) fn grant(stream: u32, bytes: u32) -> Self {
        Self {
            kind: Kind::Window,
            flags: 0,
            stream,
            length: bytes,
        }
    }

    /// Whether a ping wants an answer.
    pub(in crate::bench) fn is_asked(self) -> bool {
        self.flags & SYN != 0
    }

    /// The answer to a ping.
    pub(in crate::bench) fn answer(self) -> Self {
        Self { flags: ACK, ..self }
    }

    pub(in crate::bench) fn put(self, output: &mut Vec<u8>) {
        let kind = match self.kind {
            Kind::Data => 0,
            Kind::Window => 1,
            Kind::Ping => 2,
            Kind::GoAway => 3,
        };
        output.extend([0, kind]);
        output.extend(self.flags.to_be_bytes());
        output.extend(self.stream.to_be_bytes());
        output.extend(self.length.to_be_bytes());
    }

    /// The next whole frame with its data, after which `at` is set.
    pub(in crate::bench) fn take<'a>(
        input: &'a [u8],
        at: &mut usize,
    ) -> anyhow::Result<Option<(Self, &'a [u8])>> {
        let rest = input.get(*at..).unwrap_or_default();
        let Some(header) = rest.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [_, kind, f1, f2, s1, s2, s3, s4, l1, l2, l3, l4] = *header;
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Window,
            2 => Kind::Ping,
            3 => Kind::GoAway,
            other => bail!("there is no yamux frame of kind {other}"),
        };
        let frame = Self {
            kind,
            flags: u16::from_be_bytes([f1, f2]),
            stream: u32::from_be_bytes([s1, s2, s3, s4]),
            length: u32::from_be_bytes([l1, l2, l3, l4]),
        };
        let length = match kind {
            Kind::Data => usize::try_from(frame.length)?,
            _ => 0,
        };
        let Some(data) = rest.get(HEADER_BYTES..HEADER_BYTES + length) else {
            return Ok(None);
        };
        *at += HEADER_BYTES + length;
        Ok(Some((frame, data)))
    }
}

/// An unsigned number: below 128 itself, else the complement of its length and its bytes.
pub(in crate::bench) fn put_number(output: &mut Vec<u8>, number: u64) {
    let bytes = number.to_be_bytes();
    let skipped = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = bytes.get(skipped..).unwrap_or_default();
    match *bytes {
        [] => output.push(0),
        [small @ ..128] => output.push(small),
        _ => {
            let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
            output.push(length.wrapping_neg());
            output.extend(bytes);
        }
    }
}

/// The number that the bytes begin with, and what follows it.
pub(in crate::bench) fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < 128 {
        return Some((first.into(), rest));
    }
    let (bytes, rest) = rest.split_at_checked(first.wrapping_neg().into())?;
    let value = bytes
        .iter()
        .fold(0, |value: u64, byte| (value << 8) | u64::from(*byte));
    Some((value, rest))
}

/// Bytes of text: their number and themselves.
pub(in crate::bench) fn put_text(output: &mut Vec<u8>, text: &str) {
    put_number(output, u64::try_from(text.len()).unwrap_or(u64::MAX));
    output.extend_from_slice(text.as_bytes());
}

/// A message: its length and itself.
pub(in crate::bench) fn message(body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    put_number(&mut message, u64::try_from(body.len()).unwrap_or(u64::MAX));
    message.extend_from_slice(body);
    message
}

/// The next whole message, after which `at` is set.
pub(in crate::bench) fn take_message<'a>(input: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let (length, rest) = number(input.get(*at..)?)?;
    let message = rest.get(..usize::try_from(length).ok()?)?;
    *at = input.len() - rest.len() + message.len();
    Some(message)
}

/// The value in a message; `None` where it defines a type: those have negative numbers, whose
/// lowest bit is set.
pub(in crate::bench) fn value(message: &[u8]) -> anyhow::Result<Option<&[u8]>> {
    let (kind, rest) = number(message).context("a message has a type")?;
    Ok((kind & 1 == 0).then_some(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_gob_documents_them() {
        // The package documentation of encoding/gob: 7 is 07, 256 is fe0100.
        for (value, bytes) in [
            (0, vec![0]),
            (7, vec![7]),
            (127, vec![127]),
            (128, vec![0xff, 128]),
            (256, vec![0xfe, 1, 0]),
        ] {
            let mut out = Vec::new();
            put_number(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(number(&out), Some((value, &[][..])));
            assert_eq!(number(&out[..bytes.len() - 1]), None);
        }
    }
}
