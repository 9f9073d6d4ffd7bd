//! As much of yamux and gob as a host of pre-encoded requests needs: headers, lengths and sequence
//! numbers. It trusts the plugin, and is good for measuring alone.

/// Length of a yamux header.
pub(super) const HEADER_BYTES: usize = 12;

/// Types and flags of yamux frames.
pub(super) const DATA: u8 = 0;
pub(super) const WINDOW: u8 = 1;
pub(super) const PING: u8 = 2;
pub(super) const SYN: u16 = 1;
pub(super) const ACK: u16 = 2;

/// Numbers that gob gives to basic types.
pub(super) const UINT: u8 = 3;
pub(super) const BYTES: u8 = 5;
pub(super) const STRING: u8 = 6;

/// A yamux header as read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) flags: u16,
    pub(super) stream: u32,
    /// Bytes that follow, or what a window grows by, or a ping's number.
    pub(super) length: u32,
}

impl Header {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let [_version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] =
            *bytes.first_chunk::<HEADER_BYTES>()?;
        Some(Self {
            kind,
            flags: u16::from_be_bytes([f0, f1]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }

    /// Length of the data that follow it.
    pub(super) fn data_bytes(&self) -> usize {
        if self.kind == DATA {
            self.length as usize
        } else {
            0
        }
    }
}

/// Appends a yamux header.
pub(super) fn frame(out: &mut Vec<u8>, kind: u8, flags: u16, stream: u32, length: u32) {
    out.extend([0, kind]);
    out.extend(flags.to_be_bytes());
    out.extend(stream.to_be_bytes());
    out.extend(length.to_be_bytes());
}

/// Appends a number as gob writes it.
pub(super) fn put_uint(out: &mut Vec<u8>, number: u64) {
    if let Ok(small) = u8::try_from(number)
        && small < 128
    {
        out.push(small);
        return;
    }
    let bytes = number.to_be_bytes();
    let significant = bytes
        .get(number.leading_zeros() as usize / 8..)
        .unwrap_or(&bytes);
    out.push(0_u8.wrapping_sub(u8::try_from(significant.len()).unwrap_or(8)));
    out.extend(significant);
}

/// A number, and how many bytes it took; `None` where it is not whole yet.
pub(super) fn get_uint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    if first < 128 {
        return Some((first.into(), 1));
    }
    let count = usize::from(0_u8.wrapping_sub(first));
    let number = bytes.get(1..=count)?;
    let number = number
        .iter()
        .fold(0, |all, byte| all << 8 | u64::from(*byte));
    Some((number, count + 1))
}

/// Appends bytes after their length.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// A gob message: its body after the body's length.
pub(super) fn message(body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(body.len() + 4);
    put_bytes(&mut message, body);
    message
}

/// The definition of a struct type of basic fields (name, gob's number), itself numbered `id`.
pub(super) fn definition(id: u8, name: &str, fields: &[(&str, u8)]) -> Vec<u8> {
    let mut body = vec![0xff, id * 2 - 1, 3, 1, 1];
    put_bytes(&mut body, name.as_bytes());
    body.extend([1, 0xff, id * 2, 0, 1]);
    put_uint(&mut body, fields.len() as u64);
    for (name, kind) in fields {
        body.push(1);
        put_bytes(&mut body, name.as_bytes());
        body.extend([1, kind * 2, 0]);
    }
    body.extend([0, 0]);
    message(&body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_gob_documents_them() {
        // The package documentation of encoding/gob: 7 is 07, 256 is fe0100.
        for (number, bytes) in [
            (7, vec![7]),
            (127, vec![127]),
            (128, vec![0xff, 128]),
            (256, vec![0xfe, 1, 0]),
        ] {
            let mut out = Vec::new();
            put_uint(&mut out, number);
            assert_eq!(out, bytes);
            assert_eq!(get_uint(&out), Some((number, bytes.len())));
            assert_eq!(get_uint(&out[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn a_definition_is_as_gob_documents_it() {
        // From the package documentation, for `type Point struct { X, Y int }`, there numbered 65.
        let expected = [
            0x1f, 0xff, 0x81, 0x03, 0x01, 0x01, 0x05, b'P', b'o', b'i', b'n', b't', 0x01, 0xff,
            0x82, 0x00, 0x01, 0x02, 0x01, 0x01, b'X', 0x01, 0x04, 0x00, 0x01, 0x01, b'Y', 0x01,
            0x04, 0x00, 0x00, 0x00,
        ];
        assert_eq!(definition(65, "Point", &[("X", 2), ("Y", 2)]), expected);
    }
}
