//! Network namespaces that are prepared ahead of the launches that use them: to make one is the
//! largest single part of a launch.
//!
//! A short-lived child makes them and passes them over; the launcher itself never changes its
//! namespaces. One instance uses each, and nobody after it: what is taken does not come back. The
//! refill begins [`REST`] after something was taken, out of the way of the launch that took it and
//! of its plugin's start. A launch that finds none makes its own, as all do without the pool.

mod prepare;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use pinfold_policy::NETNS_POOL_LIMIT;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use super::controls::Tried;
use super::log;
use crate::sys::child::{self, Child};

/// From the first use of a prepared namespace to the refill. Some ten times a plugin's start.
const REST: Duration = Duration::from_millis(100);

/// Longest time that the child may take; it takes about a millisecond for each namespace.
const FILL_LIMIT: Duration = Duration::from_secs(10);

/// After a refill that failed, until the next.
const RETRY: Duration = Duration::from_secs(30);

/// Longest reason that the child gives.
const REASON_LIMIT_BYTES: usize = 512;

/// The prepared namespaces.
#[derive(Debug)]
pub(super) struct Networks {
    /// How many there are to be; `netns-pool` of launcher.toml.
    size: usize,
    ready: Vec<OwnedFd>,
    filling: Option<Filling>,
    /// When to fill up next.
    due: Option<Instant>,
    /// Why the last refill came to less than it should.
    failure: Option<String>,
}

/// A child that makes namespaces.
#[derive(Debug)]
struct Filling {
    child: Child,
    channel: OwnedFd,
    deadline: Instant,
}

impl Networks {
    /// An empty pool of this size; none is made where it is zero.
    pub(super) fn new(size: usize) -> Self {
        Self {
            size: size.min(NETNS_POOL_LIMIT),
            ready: Vec::new(),
            filling: None,
            due: None,
            failure: None,
        }
    }

    /// One that nobody has used or will use, where one is ready.
    pub(super) fn take(&mut self) -> Option<OwnedFd> {
        let taken = self.ready.pop()?;
        if self.filling.is_none() && self.due.is_none() {
            self.due = Some(Instant::now() + REST);
        }
        Some(taken)
    }

    /// Starts the child that makes what is lacking, where something is: wait for
    /// [`Self::descriptor`], then call [`Self::filled`].
    pub(super) fn fill(&mut self) {
        self.due = None;
        let lacking = self.size.saturating_sub(self.ready.len());
        if lacking == 0 || self.filling.is_some() {
            return;
        }
        match Filling::start(lacking) {
            Ok(filling) => self.filling = Some(filling),
            Err(error) => self.failed(&format!("start the child that makes them: {error}")),
        }
    }

    /// Readable once the child has ended; none where there is no child.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.filling.as_ref().map(|filling| filling.child.pidfd())
    }

    /// Takes in what the child made; waits for it if it has not ended.
    pub(super) fn filled(&mut self) {
        let Some(filling) = self.filling.take() else {
            return;
        };
        match filling.finish() {
            Ok((made, reason)) => {
                self.ready.extend(made);
                self.ready.truncate(self.size);
                match reason.as_str() {
                    "" => self.failure = None,
                    reason => self.failed(reason),
                }
            }
            Err(error) => self.failed(&format!("the child that makes them: {error}")),
        }
        // Some may have been taken meanwhile.
        if self.ready.len() < self.size && self.due.is_none() {
            self.due = Some(Instant::now() + REST);
        }
    }

    /// When [`Self::on_time`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let filling = self.filling.as_ref().map(|filling| filling.deadline);
        filling.or(self.due)
    }

    /// Fills up where that is due, and gives up a child that is late. True where a child was
    /// started.
    pub(super) fn on_time(&mut self, now: Instant) -> bool {
        if self.filling.as_ref().is_some_and(|one| one.deadline <= now) {
            // Dropping it ends the child.
            self.filling = None;
            self.failed(&format!("not made within {FILL_LIMIT:?}"));
        }
        let is_due = self.filling.is_none() && self.due.is_some_and(|due| due <= now);
        if is_due {
            self.fill();
        }
        is_due && self.filling.is_some()
    }

    /// What this comes to as a control.
    pub(super) fn tried(&self) -> Tried {
        match (&self.failure, self.size) {
            (_, 0) => Tried::missing("netns-pool is 0: each launch makes its own namespace"),
            (Some(reason), _) => Tried::missing(reason.clone()),
            (None, size) => Tried::enforced(format!("a pool of {size}")),
        }
    }

    fn failed(&mut self, reason: &str) {
        let reason = format!("prepare network namespaces: {reason}");
        if self.failure.as_ref() != Some(&reason) {
            log::line(&format!("{reason}; launches make their own"));
        }
        self.failure = Some(reason);
        self.due = Some(Instant::now() + RETRY);
    }
}

impl Filling {
    fn start(count: usize) -> io::Result<Self> {
        let (channel, childs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let child = child::spawn(&[childs.as_fd()], || match make(count, childs.as_fd()) {
            Ok(()) => 0,
            Err(_) => 1,
        })?;
        Ok(Self {
            child,
            channel,
            deadline: Instant::now() + FILL_LIMIT,
        })
    }

    /// What was made, and why it is not more.
    fn finish(mut self) -> io::Result<(Vec<OwnedFd>, String)> {
        self.child.wait()?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(NETNS_POOL_LIMIT))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut reason = [0; REASON_LIMIT_BYTES];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut slices = [io::IoSliceMut::new(&mut reason)];
        let received = rustix::net::recvmsg(&self.channel, &mut slices, &mut control, flags)?;
        let made: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(rights) => Some(rights),
                _ => None,
            })
            .flatten()
            .collect();
        // A message begins with one byte, so that none is empty.
        let text = reason
            .get(1..received.bytes)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok((made, String::from_utf8_lossy(text).into_owned()))
    }
}

/// The child's work: makes as many as it can and sends them with what stopped it.
fn make(count: usize, channel: BorrowedFd<'_>) -> io::Result<()> {
    let mut made = Vec::with_capacity(count);
    let mut text = vec![0];
    let outcome = prepare::begin().and_then(|()| {
        while made.len() < count {
            made.push(prepare::one()?);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        text.extend(log::chain(&error).bytes().take(REASON_LIMIT_BYTES - 1));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(NETNS_POOL_LIMIT))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd<'_>> = made.iter().map(AsFd::as_fd).collect();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let text = [io::IoSlice::new(&text)];
    rustix::net::sendmsg(channel, &text, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
