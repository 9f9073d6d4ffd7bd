//! One packet on the socket: bytes and the descriptors that travel with them.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use super::{LISTENERS_LIMIT, PACKET_LIMIT_BYTES};

/// Descriptors of a launched instance without its listeners.
pub(crate) const LAUNCHED_DESCRIPTORS: usize = 4;

/// Most descriptors that any packet carries: a launched instance's.
pub(crate) const DESCRIPTORS_LIMIT: usize = LAUNCHED_DESCRIPTORS + LISTENERS_LIMIT;

/// Room for more descriptors than any packet may have, so that one too many is seen and closed
/// like the others, not cut off by the kernel.
const DESCRIPTORS_SPACE: usize = 2 * DESCRIPTORS_LIMIT;

/// One packet.
#[derive(Debug, Default)]
pub(crate) struct Packet {
    /// Its bytes, at most [`PACKET_LIMIT_BYTES`].
    pub(crate) bytes: Vec<u8>,
    /// Its descriptors, all close-on-exec.
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// Why no packet came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// None is there; the socket does not block.
    #[error("no packet is waiting")]
    WouldBlock,
    /// The other side is gone.
    #[error("the other side has closed the connection")]
    Closed,
    /// Longer than any packet, or with more descriptors than fit: closed and dropped.
    #[error("a packet is longer than {PACKET_LIMIT_BYTES} bytes or has too many descriptors")]
    Truncated,
    /// The system call failed.
    #[error("receive a packet")]
    System(#[source] std::io::Error),
}

/// Sends one packet whole.
///
/// # Errors
/// The system call's; [`Errno::AGAIN`] where the socket does not block and is full.
pub(crate) fn send(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_SPACE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL);
    }
    let flags = SendFlags::NOSIGNAL;
    loop {
        match rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Receives one packet. Its descriptors are close-on-exec from birth.
///
/// # Errors
/// [`ReceiveError`]; descriptors that came with a refused packet are closed.
pub(crate) fn receive(socket: impl AsFd) -> Result<Packet, ReceiveError> {
    let mut bytes = vec![0; PACKET_LIMIT_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_SPACE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match rustix::net::recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => break received,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Err(ReceiveError::WouldBlock),
            Err(Errno::CONNRESET) => return Err(ReceiveError::Closed),
            Err(errno) => return Err(ReceiveError::System(errno.into())),
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(ReceiveError::Truncated);
    }
    // No message has no bytes, so this is the end of the connection.
    if received.bytes == 0 {
        return Err(ReceiveError::Closed);
    }
    bytes.truncate(received.bytes);
    Ok(Packet { bytes, descriptors })
}
