//! The loop: one thread, one epoll, and everything that is under way. Nothing here waits for
//! anything but the next event.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pinfold_policy::{Control, InstanceId, PluginId};
use rustix::event::epoll::EventFlags;

use super::connect::Connecting;
use super::connect_port::PortConnecting;
use super::controls::Findings;
use super::given_up::GivenUp;
use super::ground::Ground;
use super::handover::Between;
use super::instance::{Instance, Removing};
use super::log;
use super::manager::Manager;
use super::origin::Origin;
use super::outbox::Outbox;
use super::poller::{Poller, Source};
use super::probe::Probing;
use super::quota::{COUNTING_LIMIT, Counting};
use super::requests::COPIES_LIMIT;
use super::watching::Endings;
use crate::posture::State;
use crate::protocol::RequestId;
use crate::protocol::packet::{self, ReceiveError};
use crate::stage::{Shelf, Staging};

/// Most requests taken in before other events are looked at.
const REQUESTS_AT_ONCE: usize = 16;

/// Longest time that the end of the launcher waits for jails and groups to be gone.
pub(super) const END_LIMIT: Duration = Duration::from_secs(10);

/// Everything that the launcher holds.
#[derive(Debug)]
pub(super) struct Launcher {
    pub(super) ground: Ground,
    pub(super) manager: Manager,
    pub(super) origin: Origin,
    pub(super) between: Between,
    pub(super) poller: Poller,
    pub(super) outbox: Outbox,
    signals: SignalFd,
    interest: EventFlags,
    pub(super) findings: Findings,
    pub(super) shelf: Shelf,
    pub(super) stagings: BTreeMap<u32, (RequestId, Staging)>,
    pub(super) stagings_waiting: VecDeque<(Instant, RequestId, PluginId)>,
    pub(super) copies_given_up: GivenUp,
    pub(super) next_staging: u32,
    pub(super) countings: BTreeMap<u32, Counting>,
    pub(super) countings_given_up: GivenUp,
    pub(super) next_counting: u32,
    pub(super) instances: BTreeMap<InstanceId, Instance>,
    pub(super) next_instance: u64,
    pub(super) connecting: Vec<Connecting>,
    pub(super) ports: BTreeMap<u32, PortConnecting>,
    pub(super) next_port: u32,
    pub(super) removing: Vec<Removing>,
    pub(super) watchers: Endings,
    pub(super) probing: Option<Probing>,
    /// When to look again, without being asked.
    next_probe: Option<Instant>,
    pub(super) probes_waiting: Vec<(RequestId, Option<PluginId>)>,
    /// Set once the launcher ends: no later than this.
    ending: Option<Instant>,
}

impl Launcher {
    /// Makes the first probe (L3) and gets ready to serve the daemon on `socket`; another may come on
    /// `door`.
    pub(super) fn new(
        mut ground: Ground,
        (socket, door): (OwnedFd, Option<OwnedFd>),
        manager: Manager,
    ) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let signals = signals()?;
        let poller = Poller::new()?;
        poller.add(Source::Socket, &socket, EventFlags::IN)?;
        poller.add(Source::Signals, &signals, EventFlags::IN)?;
        // Both children work at the same time.
        ground.networks.fill();
        let (found, leaf) = Probing::start(&mut ground)?.finish(&mut ground);
        let mut findings = found?;
        ground.networks.filled();
        findings.insert(Control::NetworkPool, ground.networks.tried());
        let next_probe = next_probe(&ground, &findings);
        let shelf = Shelf::new(ground.config.stages_memory.0);
        let between = Between::new(door, ground.config.handover_limit.0);
        Ok(Self {
            ground,
            manager,
            origin: Origin::now(),
            between,
            poller,
            outbox: Outbox::new(socket),
            signals,
            interest: EventFlags::IN,
            findings,
            shelf,
            stagings: BTreeMap::new(),
            stagings_waiting: VecDeque::new(),
            copies_given_up: GivenUp::new("copied", COPIES_LIMIT),
            next_staging: 0,
            countings: BTreeMap::new(),
            countings_given_up: GivenUp::new("counted the files of", COUNTING_LIMIT),
            next_counting: 0,
            instances: BTreeMap::new(),
            next_instance: 1,
            connecting: Vec::new(),
            ports: BTreeMap::new(),
            next_port: 0,
            removing: leaf.map(Removing::of_probe).into_iter().collect(),
            watchers: Endings::default(),
            probing: None,
            next_probe,
            probes_waiting: Vec::new(),
            ending: None,
        })
    }

    /// Serves until the daemon's connection ends or SIGTERM comes, and then ends every jail.
    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            if let Some(limit) = self.ending {
                let is_clear = self.instances.is_empty() && self.removing.is_empty();
                if is_clear || Instant::now() >= limit {
                    self.last_words();
                    return Ok(());
                }
            }
            for source in self.poller.wait(self.deadline())? {
                self.on(source);
            }
            self.on_time(Instant::now());
            self.send()?;
        }
    }

    fn on(&mut self, source: Source) {
        match source {
            Source::Socket => self.on_socket(),
            Source::Signals => self.on_signals(),
            Source::Staging(number) => self.on_staged(number),
            Source::Counting(number) => self.on_counted(number),
            Source::Port(number) => self.on_port(number),
            Source::Probe => self.on_probed(),
            Source::Networks => self.on_networks(),
            Source::Starting(id) => self.on_starting(id),
            Source::Ended(id) => self.on_ended(id),
            Source::Memory(id) => self.on_memory(id),
            Source::Refused(id) => self.on_refused(id),
            Source::Door => self.on_door(),
        }
    }

    fn on_socket(&mut self) {
        for _ in 0..REQUESTS_AT_ONCE {
            let is_served = self.ending.is_none() && !self.between.has_no_daemon();
            if !is_served || self.outbox.is_full() {
                return;
            }
            match packet::receive(&self.outbox) {
                Ok(packet) => self.on_packet(packet),
                Err(ReceiveError::WouldBlock) => return,
                Err(ReceiveError::Closed) => {
                    return self.hung_up("the daemon's connection has ended");
                }
                Err(error @ (ReceiveError::Truncated | ReceiveError::System(_))) => {
                    return self.end(&log::chain(&error));
                }
            }
        }
    }

    fn on_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            // The others come from a terminal, to the daemon too, which ends in order.
            if signal.ssi_signo == Signal::SIGTERM as u32 {
                self.end("SIGTERM");
            }
        }
    }

    /// Begins the end: every jail is killed, what is under way is dropped.
    pub(super) fn end(&mut self, why: &str) {
        if self.ending.is_some() {
            return;
        }
        log::line(&format!("ends with every jail: {why}"));
        self.manager.stopping(why);
        self.ground.say_ending();
        self.ending = Some(Instant::now() + END_LIMIT);
        self.drop_connection();
        self.shut_door();
        self.abandon_probe();
        let ids: Vec<InstanceId> = self.instances.keys().copied().collect();
        for id in ids {
            self.abandon(id);
        }
    }

    /// Drops what is under way for the daemon, which hears no answer any more.
    pub(super) fn drop_connection(&mut self) {
        drop(self.poller.remove(&self.outbox));
        self.connecting.clear();
        self.ports.clear();
        for (number, (_, staging)) in std::mem::take(&mut self.stagings) {
            self.give_up(number, staging);
        }
        self.drop_countings();
        self.stagings_waiting.clear();
        self.probes_waiting.clear();
    }

    /// Serves another daemon from now on.
    pub(super) fn connected(&mut self, socket: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        self.poller.add(Source::Socket, &socket, EventFlags::IN)?;
        self.interest = EventFlags::IN;
        // What the one before was not sent any more goes with it.
        self.outbox = Outbox::new(socket);
        Ok(())
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    fn last_words(&self) {
        for (id, instance) in &self.instances {
            log::line(&format!("instance {id} of {} did not end", instance.plugin));
        }
        for removing in &self.removing {
            let name = removing.leaf.name();
            log::line(&format!("the group {name} stays for the sweep"));
        }
    }

    /// When to wake without any event.
    fn deadline(&self) -> Option<Instant> {
        let instances = self.instances.values().filter_map(Instance::deadline);
        let stagings = self.stagings.values().map(|(_, one)| one.deadline());
        let countings = self.countings.values().map(|one| one.deadline);
        let connecting = self.connecting.iter().map(|one| one.next);
        let ports = self.ports.values().map(|one| one.deadline);
        let removing = self.removing.iter().map(|one| one.next);
        let probing = self.probing.iter().map(|one| one.deadline);
        // One that ends needs none.
        let networks = match self.ending {
            None => self.ground.networks.deadline(),
            Some(_) => None,
        };
        instances
            .chain(stagings)
            .chain(countings)
            .chain(connecting)
            .chain(ports)
            .chain(removing)
            .chain(probing)
            .chain(self.next_probe.filter(|_| self.ending.is_none()))
            .chain(networks)
            .chain(self.watchers.deadline())
            .chain(
                self.outbox
                    .deadline()
                    .filter(|_| self.ending.is_none() && !self.between.has_no_daemon()),
            )
            .chain(self.between.deadline())
            .chain(self.manager.deadline())
            .chain(self.ending)
            .min()
    }

    fn on_time(&mut self, now: Instant) {
        self.instances_on_time(now);
        self.stagings_on_time(now);
        self.countings_on_time(now);
        self.connecting_on_time(now);
        self.ports_on_time(now);
        self.removing_on_time(now);
        self.watchers.on_time(now);
        self.probing_on_time(now);
        self.next_probe_on_time(now);
        self.networks_on_time(now);
        self.handover_on_time(now);
        self.manager.on_time(now);
    }

    fn send(&mut self) -> io::Result<()> {
        if self.ending.is_some() || self.between.has_no_daemon() {
            return Ok(());
        }
        if let Err(errno) = self.outbox.flush() {
            self.hung_up(&format!("send: {}", io::Error::from(errno)));
            return Ok(());
        }
        let mut interest = EventFlags::empty();
        if !self.outbox.is_full() {
            interest |= EventFlags::IN;
        }
        if self.outbox.wants_room() {
            interest |= EventFlags::OUT;
        }
        if interest != self.interest {
            self.poller
                .modify(Source::Socket, self.outbox.as_fd(), interest)?;
            self.interest = interest;
        }
        Ok(())
    }
}

/// Takes the signals that would end a process in its ordinary way and gives them as a descriptor.
/// A child inherits the mask; a jail's reaper clears it.
fn signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        set.add(signal);
    }
    set.thread_block()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&set, flags)?)
}

/// Where something is in force no more, the next look is no later than that: what a machine that is out
/// of something could not do for a moment must not refuse launches for long.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

fn next_probe(ground: &Ground, findings: &Findings) -> Option<Instant> {
    let interval = ground.config.probe_interval.0;
    let has_failed = findings.values().any(|tried| tried.state == State::Failed);
    let interval = match has_failed {
        true => interval.min(AFTER_FAILURE),
        false => interval,
    };
    (!interval.is_zero()).then(|| Instant::now() + interval)
}

impl Launcher {
    fn probing_on_time(&mut self, now: Instant) {
        if self.probing.as_ref().is_some_and(|one| now >= one.deadline) {
            self.abandon_probe();
            let error = io::Error::from(io::ErrorKind::TimedOut);
            self.probed(Err(error));
        }
    }

    /// A probe that nobody asked for: what was in force may be so no more.
    fn next_probe_on_time(&mut self, now: Instant) {
        if self.is_ending() || self.next_probe.is_none_or(|next| now < next) {
            return;
        }
        self.next_probe = next_probe(&self.ground, &self.findings);
        if let Err(error) = self.begin_probe() {
            log::line(&format!("begin a probe: {error}"));
        }
    }

    fn on_probed(&mut self) {
        if let Some(probing) = self.probing.take() {
            let (found, leaf) = probing.finish(&mut self.ground);
            self.removing.extend(leaf.map(Removing::of_probe));
            self.probed(found);
            self.next_probe = next_probe(&self.ground, &self.findings);
        }
    }

    pub(super) fn abandon_probe(&mut self) {
        let leaf = self
            .probing
            .take()
            .and_then(|probing| probing.abandon(&mut self.ground));
        self.removing.extend(leaf.map(Removing::of_probe));
    }

    fn on_networks(&mut self) {
        self.ground.networks.filled();
        self.networks_found();
    }

    fn networks_on_time(&mut self, now: Instant) {
        if self.is_ending() || !self.ground.networks.on_time(now) {
            return;
        }
        if let Some(child) = self.ground.networks.descriptor()
            && let Err(error) = self.poller.add(Source::Networks, child, EventFlags::IN)
        {
            log::line(&format!("wait for network namespaces: {error}"));
        }
        self.networks_found();
    }

    /// What the pool comes to now is what a posture shows and a launch goes by.
    pub(super) fn networks_found(&mut self) {
        let tried = self.ground.networks.tried();
        self.findings.insert(Control::NetworkPool, tried);
    }
}
