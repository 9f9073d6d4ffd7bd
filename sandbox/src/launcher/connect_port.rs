//! `ConnectPort`: to a TCP port that a plugin listens on, in its own network.
//!
//! A socket belongs to the network that it was made in, and the launcher never leaves its own: a
//! short-lived child enters the jail's, connects, and passes the socket over. In that network there
//! is nobody but the jail, so whoever answers is in it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use pinfold_policy::InstanceId;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::failure;
use super::instance::Instance;
use crate::protocol::{Failure, FailureKind, Loopback, RequestId};
use crate::sys::child::{self, Child};

/// Longest time for a connection: one that is not accepted for so long, because the plugin's queue
/// is full, is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most connections of all instances under way; each is a process.
pub(super) const PORTS_LIMIT: usize = 64;

/// Most of them to one instance: one that accepts nothing must leave room for the others.
pub(super) const PORTS_PER_INSTANCE: usize = 4;

/// A connection under way.
#[derive(Debug)]
pub(super) struct PortConnecting {
    pub(super) request: RequestId,
    pub(super) instance: InstanceId,
    port: NonZeroU16,
    child: Child,
    channel: OwnedFd,
    pub(super) deadline: Instant,
}

/// What the child's message begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Step {
    Connected,
    Enter,
    Socket,
    Connect,
}

/// A step and an errno.
const MESSAGE_BYTES: usize = 5;

impl PortConnecting {
    /// Starts the child: wait for [`Self::descriptor`], then call [`Self::finish`].
    pub(super) fn start(
        request: RequestId,
        id: InstanceId,
        instance: &Instance,
        to: (Loopback, NonZeroU16),
    ) -> Result<Self, Failure> {
        let not_running =
            || failure::new(FailureKind::Request, format!("instance {id} does not run"));
        let running = instance.running().ok_or_else(not_running)?;
        let network = running.network.as_ref().ok_or_else(not_running)?;
        let (loopback, port) = to;
        if !running.loopback {
            return Err(failure::new(
                FailureKind::Plugin,
                format!("port {port} cannot be reached: the policy says loopback = false"),
            ));
        }
        if running.listening.contains(&port.get()) {
            return Err(failure::new(
                FailureKind::Plugin,
                format!("port {port} of the jail is the host's own, not the plugin's"),
            ));
        }
        let address = SocketAddr::new(
            match loopback {
                Loopback::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
                Loopback::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
            },
            port.get(),
        );
        let host = |error: io::Error| failure::of(FailureKind::Host, &error);
        let (channel, childs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|errno| host(errno.into()))?;
        let child = child::spawn(&[network.as_fd(), childs.as_fd()], || {
            let outcome = connect(network.as_fd(), &address);
            u8::from(say(childs.as_fd(), outcome).is_err())
        })
        .map_err(host)?;
        Ok(Self {
            request,
            instance: id,
            port,
            child,
            channel,
            deadline: Instant::now() + PATIENCE,
        })
    }

    /// Readable once the child has ended.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.child.pidfd()
    }

    /// What the child came to.
    pub(super) fn finish(mut self) -> Result<OwnedFd, Failure> {
        let heard = self.child.wait().and_then(|_| hear(self.channel.as_fd()));
        match heard {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err((Step::Connect, error))) => {
                Err(self.refuse(format!("cannot be connected to: {error}")))
            }
            Ok(Err((step, error))) => {
                let what = match step {
                    Step::Enter => "enter the jail's network",
                    _ => "make a socket in the jail's network",
                };
                Err(failure::new(FailureKind::Host, format!("{what}: {error}")))
            }
            Err(error) => {
                let message = format!("the child that connects: {error}");
                Err(failure::new(FailureKind::Host, message))
            }
        }
    }

    /// The failure of one that took too long; its child is ended.
    pub(super) fn timed_out(self) -> Failure {
        self.refuse(format!("accepts no connection within {PATIENCE:?}"))
    }

    fn refuse(&self, why: String) -> Failure {
        let message = format!("the plugin's port {} {why}", self.port);
        failure::new(FailureKind::Plugin, message)
    }
}

/// The child's work.
fn connect(network: BorrowedFd<'_>, address: &SocketAddr) -> Result<OwnedFd, (Step, Errno)> {
    move_into_link_name_space(network, Some(LinkNameSpaceType::Network))
        .map_err(|errno| (Step::Enter, errno))?;
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|errno| (Step::Socket, errno))?;
    rustix::net::connect(&socket, address).map_err(|errno| (Step::Connect, errno))?;
    Ok(socket)
}

fn say(channel: BorrowedFd<'_>, outcome: Result<OwnedFd, (Step, Errno)>) -> io::Result<()> {
    let (step, errno) = match &outcome {
        Ok(_) => (Step::Connected, 0),
        Err((step, errno)) => (*step, errno.raw_os_error()),
    };
    let [a, b, c, d] = errno.to_ne_bytes();
    let message = [step as u8, a, b, c, d];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd<'_>> = outcome.iter().map(AsFd::as_fd).collect();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let slices = [IoSlice::new(&message)];
    rustix::net::sendmsg(channel, &slices, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn hear(channel: BorrowedFd<'_>) -> io::Result<Result<OwnedFd, (Step, io::Error)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut message = [0; MESSAGE_BYTES];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut slices = [IoSliceMut::new(&mut message)];
    let received = rustix::net::recvmsg(channel, &mut slices, &mut control, flags)?;
    let socket = control.drain().find_map(|part| match part {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    let [step, errno @ ..] = message;
    let error = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
    // It ended before it had anything to say.
    let unexpected = || Err(io::ErrorKind::UnexpectedEof.into());
    if received.bytes != MESSAGE_BYTES {
        return unexpected();
    }
    let failed = [Step::Enter, Step::Socket, Step::Connect]
        .into_iter()
        .find(|one| *one as u8 == step);
    match (failed, socket) {
        (Some(failed), None) => Ok(Err((failed, error))),
        (None, Some(socket)) if step == Step::Connected as u8 => Ok(Ok(socket)),
        _ => unexpected(),
    }
}
