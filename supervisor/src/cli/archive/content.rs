//! What is in an entry, as it was announced: exactly so many bytes of a file, a link's text to the byte.

use std::fs::File;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::tree::Why;

/// Reads exactly so many bytes, and hashes them: what is put into a header before must be true.
pub(super) struct Hashing {
    pub(super) from: File,
    pub(super) left: u64,
    pub(super) hash: Sha256,
    /// Whether zeros stand for what is not read.
    pub(super) is_padded: bool,
    pub(super) fault: Option<Why>,
}

impl Hashing {
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.fault.is_some() {
            buffer.fill(0);
            return Ok(buffer.len());
        }
        let fault = match self.from.read(buffer) {
            Ok(0) => Why::Short,
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Why::Damaged(error),
            read => return read,
        };
        self.fault = Some(fault);
        match self.is_padded {
            true => self.take(buffer),
            false => Err(io::Error::other("not read")),
        }
    }
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        let room = room.min(buffer.len());
        let Some(buffer) = buffer.get_mut(..room).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let count = self.take(buffer)?;
        self.hash.update(buffer.get(..count).unwrap_or_default());
        self.left -= count as u64;
        Ok(count)
    }
}

/// Gives a link's header what the link says, byte for byte: where that does not fit it comes before, as GNU tar
/// has it.
pub(super) fn link_text(
    builder: &mut Builder<io::BufWriter<File>>,
    header: &mut Header,
    text: &[u8],
) -> io::Result<()> {
    if text.len() <= header.as_old().linkname.len() {
        return header.set_link_name_literal(text);
    }
    let mut long = Header::new_gnu();
    for (slot, byte) in long.as_old_mut().name.iter_mut().zip(b"././@LongLink") {
        *slot = *byte;
    }
    long.set_entry_type(EntryType::GNULongLink);
    long.set_mode(0o644);
    long.set_uid(0);
    long.set_gid(0);
    long.set_mtime(0);
    // With the zero byte that ends it.
    long.set_size(text.len() as u64 + 1);
    long.set_cksum();
    builder.append(&long, text.chain(&b"\0"[..]))
}
