//! A daemon that has been taken over, as far as its socket goes: packets of its own making, and what the
//! kernel says of the jails that it gets by them.

use std::collections::BTreeMap;
use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use pinfold_sandbox::protocol::{Failure, FailureKind, Incoming, Reply, Request};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use sha2::{Digest as _, Sha256};

use crate::machine::Machine;

/// A packet that is made by hand.
#[derive(Clone, Debug)]
pub(crate) struct Forged(pub(crate) Vec<u8>);

impl Forged {
    /// The head of a request like this one: version, type and number.
    pub(crate) fn like(request: &Request) -> Self {
        let mut bytes = request.to_bytes(1).unwrap();
        bytes.truncate(6);
        Self(bytes)
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(crate) fn text(self, text: &[u8]) -> Self {
        let length = u16::try_from(text.len()).unwrap();
        self.bytes(&length.to_be_bytes()).bytes(text)
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_be_bytes())
    }
}

impl Machine {
    /// Sends bytes with this many descriptors.
    pub(crate) fn send_raw(
        &self,
        bytes: &[u8],
        descriptors: usize,
    ) -> Result<(), rustix::io::Errno> {
        let file = fs::File::open("/dev/null").unwrap();
        let passed: Vec<BorrowedFd<'_>> = (0..descriptors).map(|_| file.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !passed.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&passed)));
        }
        let socket = self.client.as_fd();
        let parts = [IoSlice::new(bytes)];
        rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL).map(drop)
    }

    /// The answer to the request that was sent last.
    pub(crate) fn answer(&self) -> Result<Reply, Failure> {
        loop {
            match self.client.receive().unwrap() {
                Incoming::Reply { result, .. } => return result,
                Incoming::Event(_) => {}
            }
        }
    }

    /// What a forged request is refused with.
    #[track_caller]
    pub(crate) fn refused(&self, what: &str, forged: &Forged, descriptors: usize) -> FailureKind {
        self.send_raw(&forged.0, descriptors).unwrap();
        match self.answer() {
            Err(failure) => failure.kind,
            Ok(reply) => panic!("{what}: {reply:?}"),
        }
    }

    pub(crate) fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(path).unwrap().count()
    }

    /// Memory of the launcher's own, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let lines = status(self.child.id());
        let value = lines["VmRSS"].trim_end_matches(" kB");
        value.parse().unwrap()
    }
}

fn status(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// What makes a jail one, as the kernel tells it from outside. Two jails of one plugin have the same.
pub(crate) fn facts(pid: u32) -> Vec<String> {
    let mut facts = Vec::new();
    let status = status(pid);
    for name in [
        "Uid",
        "Gid",
        "Groups",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
    ] {
        let value = status.get(name).map_or("", String::as_str);
        facts.push(format!("{name} {value}"));
    }
    let depth = status["NSpid"].split_whitespace().count();
    facts.push(format!("depth {depth}"));
    for kind in ["pid", "mnt", "net", "ipc", "uts", "cgroup", "user"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        let is_own = of(&pid.to_string()) != of("self");
        facts.push(format!("namespace {kind} of its own: {is_own}"));
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    facts.extend(limits.lines().map(str::to_owned));
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    for line in mounts.lines() {
        let (mount, system) = line.split_once(" - ").unwrap();
        let fields: Vec<&str> = mount.split(' ').collect();
        facts.push(format!("mount {} {} {system}", fields[4], fields[5]));
    }
    facts.push(format!("runs {}", hash(&format!("/proc/{pid}/exe"))));
    facts
}

/// SHA-256 of a file.
pub(crate) fn hash(path: &str) -> String {
    let sum = Sha256::digest(fs::read(path).unwrap());
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}
