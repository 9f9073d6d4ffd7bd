//! Requests: each is answered at once, or handed to what will answer it.

use std::collections::BTreeSet;
use std::io;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pinfold_policy::{Digest, InstanceId, PluginId};
use rustix::event::epoll::EventFlags;

use super::connect::{self, CONNECTING_LIMIT};
use super::connect_port::{PORTS_LIMIT, PORTS_PER_INSTANCE, PortConnecting};
use super::controls::{self, Findings};
use super::files::{Policy, ProfileUse};
use super::instance::{Instance, KILL_AGAIN};
use super::launch::{self, INSTANCES_LIMIT, Wanting};
use super::poller::Source;
use super::probe::{Probing, advice};
use super::serve::Launcher;
use super::{failure, log, mounts, runtime, sealed, watching};
use crate::posture::{PolicyTrust, Posture, StageState};
use crate::protocol::packet::Packet;
use crate::protocol::{
    Event, Failure, FailureKind, KillHow, Loopback, Reply, Request, RequestId, SocketDirectory,
    Stats, codec,
};
use crate::stage::{Signatures, Stage, StageError, Staging};

/// Most directories copied at a time.
const STAGINGS_LIMIT: usize = 4;

/// Most children that copy, or were given up: as many may hang as may copy.
pub(super) const COPIES_LIMIT: usize = 2 * STAGINGS_LIMIT;

/// Most that wait for their turn.
const STAGINGS_WAITING_LIMIT: usize = 256;

/// How long one of them may wait: as long as pinfoldd waits for an answer. It asks again, and would on a slow disk
/// have the same directories copied again and again for nobody.
const STAGING_WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Most requests that wait for one probe.
const PROBES_WAITING_LIMIT: usize = 64;

impl Launcher {
    pub(super) fn on_packet(&mut self, packet: Packet) {
        let id = codec::request_id(&packet.bytes);
        match codec::decode_request(packet) {
            Ok((id, request)) => self.on_request(id, request),
            Err(error) => match id {
                Some(id) => {
                    let failure = failure::of(FailureKind::Request, &error);
                    self.outbox.reply(id, Err(failure));
                }
                // Whoever is there speaks another language; nothing it says can be answered.
                None => self.end(&format!("the daemon's packet is no request: {error}")),
            },
        }
    }

    fn on_request(&mut self, id: RequestId, request: Request) {
        let answer = match request {
            Request::Probe { plugin } => self.probe(id, plugin),
            Request::Stage { plugin } => self.stage(id, plugin),
            Request::Launch {
                plugin,
                generation,
                digest,
                values,
            } => self.launch(Wanting {
                request: id,
                plugin,
                generation,
                digest,
                values,
            }),
            Request::Connect {
                instance,
                directory,
                name,
            } => self.connect(id, instance, directory, &name),
            Request::ConnectPort {
                instance,
                loopback,
                port,
            } => self.connect_port(id, instance, (loopback, port)),
            Request::Kill { instance, how } => self.kill(instance, how).map(Some),
            Request::Stats { instance } => self.stats(instance).map(Some),
            Request::Trust { plugin, digest } => self.trust(&plugin, &digest).map(Some),
            Request::Handover => self.handover().map(Some),
            Request::Keep { instance, note } => self.keep(instance, note).map(Some),
            Request::Adopt { plugin, digest } => Ok(Some(self.adopt(&plugin, &digest))),
            Request::Discard { plugin } => Ok(Some(self.discard(plugin.as_ref()))),
        };
        match answer {
            Ok(Some(reply)) => self.outbox.reply(id, Ok(reply)),
            // Something under way answers it.
            Ok(None) => {}
            Err(failure) => self.outbox.reply(id, Err(failure)),
        }
    }

    fn probe(&mut self, id: RequestId, plugin: Option<PluginId>) -> Result<Option<Reply>, Failure> {
        if self.probes_waiting.len() >= PROBES_WAITING_LIMIT {
            let message = format!("{PROBES_WAITING_LIMIT} probes wait already");
            return Err(failure::new(FailureKind::Host, message));
        }
        self.begin_probe()
            .map_err(|error| failure::of(FailureKind::Host, &error))?;
        self.probes_waiting.push((id, plugin));
        Ok(None)
    }

    /// Starts a probe, unless one is under way.
    pub(super) fn begin_probe(&mut self) -> io::Result<()> {
        if self.probing.is_some() {
            return Ok(());
        }
        let probing = Probing::start(&mut self.ground)?;
        let added = self
            .poller
            .add(Source::Probe, probing.descriptor(), EventFlags::IN);
        self.probing = Some(probing);
        if added.is_err() {
            self.abandon_probe();
        }
        added
    }

    /// A probe has ended: everybody who waits gets the posture, with what is wanted by theirs.
    pub(super) fn probed(&mut self, found: io::Result<Findings>) {
        let waiting = std::mem::take(&mut self.probes_waiting);
        match found {
            Ok(mut findings) => {
                for change in controls::changes(&self.findings, &mut findings) {
                    let now = match change.is_in_force {
                        true => "in force again",
                        false => "in force no more",
                    };
                    let reason = &change.reason;
                    log::line(&format!("control {}: {now}: {reason}", change.control));
                    self.outbox.event(&Event::ControlChanged(change));
                }
                self.findings = findings;
                self.networks_found();
                for (id, plugin) in waiting {
                    let answer = self.posture(plugin);
                    self.outbox.reply(id, answer);
                }
            }
            Err(error) => {
                log::line(&format!("probe: {error}"));
                for (id, _) in waiting {
                    let message = format!("probe: {error}");
                    let failure = failure::new(FailureKind::Host, message);
                    self.outbox.reply(id, Err(failure));
                }
            }
        }
    }

    fn posture(&mut self, plugin: Option<PluginId>) -> Result<Reply, Failure> {
        let policy = match &plugin {
            Some(plugin) => Some(
                self.ground
                    .files
                    .policy(plugin)
                    .map_err(|error| failure::of_files(&error))?,
            ),
            None => None,
        };
        let used = match &policy {
            Some(policy) => ProfileUse::of(&policy.file),
            None => ProfileUse::plain("default"),
        };
        let filter = self.ground.files.filter(used);
        let filter = filter.map_err(|error| log::chain(&error));
        let filter = match &filter {
            Ok(filter) => Ok(&*filter.about),
            Err(reason) => Err(reason.as_str()),
        };
        let own = &*self;
        let stages = own.shelf.iter().flat_map(|kept| {
            let digest = kept.stage.digest();
            kept.plugins.keys().map(move |plugin| StageState {
                plugin: plugin.to_string(),
                digest,
                bytes: kept.stage.memory_bytes(),
                instances: own.instances_of(plugin, digest),
            })
        });
        let posture = Posture {
            mode: self.ground.mode,
            policy_trust: match self.ground.config.dev_grants {
                Some(_) => PolicyTrust::Development,
                None => PolicyTrust::Operator,
            },
            require_signatures: self.ground.require_signatures,
            trust: plugin
                .as_ref()
                .and_then(|plugin| self.trust_of_newest(plugin)),
            watched_until: plugin
                .as_ref()
                .and_then(|plugin| watching::order(&self.ground, plugin))
                .map(|order| order.until),
            mounts: plugin
                .as_ref()
                .zip(policy.as_ref())
                .map(
                    |(
                        plugin,
                        Policy {
                            file,
                            is_development,
                            ..
                        },
                    )| {
                        let (files, config) = (&self.ground.files, &self.ground.config);
                        mounts::states(files, config, (plugin, file), *is_development)
                    },
                )
                .unwrap_or_default(),
            plugin: plugin.map(String::from),
            runtime: policy
                .iter()
                .filter_map(|policy| policy.file.runtime.as_ref())
                .flat_map(|named| runtime::states(&self.ground.files, &self.ground.config, named))
                .collect(),
            controls: {
                let policy = policy.as_ref().map(|policy| &policy.file);
                controls::states(&self.findings, policy, filter)
            },
            host: advice(),
            stages: stages.collect(),
        };
        let toml = sealed::file("pinfold-posture", posture.to_toml().as_bytes())
            .map_err(|error| failure::of(FailureKind::Host, &error))?;
        Ok(Reply::Posture { toml })
    }

    /// What a launch of the plugin's newest stage would say to the trust in it.
    fn trust_of_newest(&self, plugin: &PluginId) -> Option<String> {
        let digest = self.shelf.newest(plugin)?;
        Some(match self.trust(plugin, &digest) {
            Ok(Reply::Trusted { basis }) => basis,
            Ok(_) => return None,
            Err(failure) => format!("refused: {failure}"),
        })
    }

    fn instances_of(&self, plugin: &PluginId, digest: Digest) -> u32 {
        let count = self
            .instances
            .values()
            .filter(|one| &one.plugin == plugin && one.stage.digest() == digest)
            .count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn stage(&mut self, id: RequestId, plugin: PluginId) -> Result<Option<Reply>, Failure> {
        if self.stagings.len() < STAGINGS_LIMIT {
            self.start_staging(id, &plugin)?;
            return Ok(None);
        }
        self.refuse_overdue();
        if self.stagings_waiting.len() >= STAGINGS_WAITING_LIMIT {
            let message = format!("{STAGINGS_WAITING_LIMIT} directories wait to be staged already");
            return Err(failure::new(FailureKind::Host, message));
        }
        self.stagings_waiting
            .push_back((Instant::now(), id, plugin));
        Ok(None)
    }

    /// Refuses those that have waited so long that nobody waits for their answer.
    fn refuse_overdue(&mut self) {
        let is_overdue = |since: &Instant| since.elapsed() >= STAGING_WAIT_LIMIT;
        while let Some((_, id, plugin)) = self
            .stagings_waiting
            .pop_front_if(|(since, ..)| is_overdue(since))
        {
            let message = format!("{plugin} has waited to be staged for {STAGING_WAIT_LIMIT:?}");
            let failure = failure::new(FailureKind::Host, message);
            self.outbox.reply(id, Err(failure));
        }
    }

    fn start_staging(&mut self, id: RequestId, plugin: &PluginId) -> Result<(), Failure> {
        let under_way = self.stagings.len();
        self.copies_given_up
            .check(plugin, under_way)
            .map_err(|message| {
                let failure = failure::new(FailureKind::Host, message);
                failure::with_hint(
                    failure,
                    "look at the file system of the plugin directory: it does not answer",
                )
            })?;
        let asked = self.perhaps_gone(plugin);
        let ground = &self.ground;
        let staging = Staging::start(
            &ground.config.plugin_dir,
            plugin,
            &ground.reader,
            &ground.attach_dir,
            asked,
        )
        .map_err(|error| failure::of(FailureKind::Host, &error))?;
        self.next_staging = self.next_staging.wrapping_add(1);
        let number = self.next_staging;
        let source = Source::Staging(number);
        if let Err(error) = self.poller.add(source, &staging, EventFlags::IN) {
            self.give_up(number, staging);
            return Err(failure::of(FailureKind::Host, &error));
        }
        self.stagings.insert(number, (id, staging));
        Ok(())
    }

    /// The plugins that the shelf would forget if it had no room and they had no directory any more:
    /// those of which nothing runs, but for the one that is staged.
    fn perhaps_gone(&self, staged: &PluginId) -> BTreeSet<PluginId> {
        let instances = self.instances.values();
        let running: BTreeSet<&PluginId> = instances.map(|one| &one.plugin).collect();
        let idle = self.shelf.plugins().filter(|plugin| {
            let is_staged = *plugin == staged;
            !is_staged && !running.contains(plugin)
        });
        idle.cloned().collect()
    }

    pub(super) fn on_staged(&mut self, number: u32) {
        let Some((id, staging)) = self.stagings.remove(&number) else {
            // It was given up, and its child has ended at last.
            self.copies_given_up.ended(number);
            return;
        };
        let plugin = staging.plugin().clone();
        let answer = match staging.finish() {
            Ok((stage, gone)) => self.keep_stage(&plugin, stage, gone),
            Err(error) => Err(stage_failure(&error)),
        };
        match answer {
            Ok(reply) => {
                let uncounted = launch::prepare(&mut self.ground, &self.findings, &plugin);
                self.count(uncounted, id, reply);
            }
            Err(failure) => self.outbox.reply(id, Err(failure)),
        }
        self.next_staging();
    }

    fn keep_stage(
        &mut self,
        plugin: &PluginId,
        stage: Stage,
        mut gone: BTreeSet<PluginId>,
    ) -> Result<Reply, Failure> {
        // What was started meanwhile is in use.
        for instance in self.instances.values() {
            gone.remove(&instance.plugin);
        }
        let stage = self
            .shelf
            .put(plugin, stage, &gone)
            .map_err(|error| failure::of(FailureKind::Host, &error))?;
        // Those under way may have looked before this plugin came, and it is about to be launched.
        for (_, other) in self.stagings.values_mut() {
            other.ask_no_more(plugin);
        }
        Ok(Reply::Staged {
            digest: stage.digest(),
            root: launch::root_of(&stage)?,
        })
    }

    /// Starts those that wait, as far as there is room.
    fn next_staging(&mut self) {
        self.refuse_overdue();
        while self.stagings.len() < STAGINGS_LIMIT {
            let Some((_, id, plugin)) = self.stagings_waiting.pop_front() else {
                return;
            };
            if let Err(failure) = self.start_staging(id, &plugin) {
                self.outbox.reply(id, Err(failure));
            }
        }
    }

    pub(super) fn stagings_on_time(&mut self, now: Instant) {
        let late: Vec<u32> = self
            .stagings
            .iter()
            .filter(|(_, (_, staging))| now >= staging.deadline())
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            if let Some((id, staging)) = self.stagings.remove(&number) {
                let failure = stage_failure(&self.give_up(number, staging));
                self.outbox.reply(id, Err(failure));
            }
            self.next_staging();
        }
    }

    /// Ends a copy without waiting for its child; gives what to call that where it was late.
    pub(super) fn give_up(&mut self, number: u32, staging: Staging) -> StageError {
        let plugin = staging.plugin().clone();
        let (error, killed) = staging.give_up();
        self.copies_given_up.keep(number, plugin, killed);
        error
    }

    fn launch(&mut self, wanting: Wanting) -> Result<Option<Reply>, Failure> {
        if self.instances.len() >= INSTANCES_LIMIT {
            let message = format!("{INSTANCES_LIMIT} instances are there, which is the most");
            return Err(failure::new(FailureKind::Host, message));
        }
        let stage = self.staged(&wanting.plugin, &wanting.digest)?;
        self.replace_kept(&wanting.plugin);
        let id = InstanceId(self.next_instance);
        self.next_instance += 1;
        let instance = launch::start(&mut self.ground, &self.findings, stage, id, wanting)?;
        let watched = self.watch(id, &instance);
        self.instances.insert(id, instance);
        if let Err(error) = watched {
            self.abandon(id);
            return Err(failure::of(FailureKind::Host, &error));
        }
        Ok(None)
    }

    /// An instance of the daemon's that is connected.
    pub(super) fn of_daemon(&mut self, id: InstanceId) -> Result<&mut Instance, Failure> {
        let instance = self.instances.get_mut(&id);
        instance
            .filter(|instance| instance.is_daemons())
            .ok_or_else(|| unknown(id))
    }

    pub(super) fn staged(
        &self,
        plugin: &PluginId,
        digest: &Digest,
    ) -> Result<(Rc<Stage>, Rc<Signatures>), Failure> {
        self.shelf.get(plugin, digest).ok_or_else(|| {
            let message = format!("there is no stage of plugin \"{plugin}\" with digest {digest}");
            let failure = failure::new(FailureKind::Request, message);
            failure::with_hint(failure, "stage the plugin first")
        })
    }

    /// What a launch would say to the trust in a stage; nothing is started or ended.
    fn trust(&self, plugin: &PluginId, digest: &Digest) -> Result<Reply, Failure> {
        let (stage, signatures) = self.staged(plugin, digest)?;
        let (_, basis) = launch::judge(&self.ground, plugin, stage.digest(), &signatures)?;
        Ok(Reply::Trusted {
            basis: basis.to_string(),
        })
    }

    fn connect(
        &mut self,
        request: RequestId,
        id: InstanceId,
        directory: SocketDirectory,
        name: &str,
    ) -> Result<Option<Reply>, Failure> {
        let instance = &*self.of_daemon(id)?;
        let mut connecting = connect::prepare(request, id, instance, directory, name)?;
        match connecting.attempt(instance) {
            Some(result) => result.map(|socket| Some(Reply::Connected { socket })),
            None if self.connecting.len() >= CONNECTING_LIMIT => {
                let message = format!("{CONNECTING_LIMIT} connections wait already");
                Err(failure::new(FailureKind::Host, message))
            }
            None => {
                self.connecting.push(connecting);
                Ok(None)
            }
        }
    }

    pub(super) fn connecting_on_time(&mut self, now: Instant) {
        let waiting = std::mem::take(&mut self.connecting);
        for mut one in waiting {
            if now < one.next {
                self.connecting.push(one);
                continue;
            }
            let result = match self.instances.get(&one.instance) {
                Some(instance) => one.attempt(instance),
                None => Some(Err(unknown(one.instance))),
            };
            match result {
                Some(result) => {
                    let answer = result.map(|socket| Reply::Connected { socket });
                    self.outbox.reply(one.request, answer);
                }
                None => self.connecting.push(one),
            }
        }
    }

    fn connect_port(
        &mut self,
        request: RequestId,
        id: InstanceId,
        to: (Loopback, NonZeroU16),
    ) -> Result<Option<Reply>, Failure> {
        let to_it = self.ports.values().filter(|one| one.instance == id);
        let to_it = to_it.count();
        let waiting = self.ports.len();
        let instance = &*self.of_daemon(id)?;
        if waiting >= PORTS_LIMIT || to_it >= PORTS_PER_INSTANCE {
            let message = "as many connections to ports wait as may";
            return Err(failure::new(FailureKind::Host, message));
        }
        let connecting = PortConnecting::start(request, id, instance, to)?;
        self.next_port = self.next_port.wrapping_add(1);
        let number = self.next_port;
        self.poller
            .add(
                Source::Port(number),
                connecting.descriptor(),
                EventFlags::IN,
            )
            .map_err(|error| failure::of(FailureKind::Host, &error))?;
        self.ports.insert(number, connecting);
        Ok(None)
    }

    pub(super) fn on_port(&mut self, number: u32) {
        if let Some(connecting) = self.ports.remove(&number) {
            let request = connecting.request;
            let answer = connecting.finish();
            let answer = answer.map(|socket| Reply::Connected { socket });
            self.outbox.reply(request, answer);
        }
    }

    pub(super) fn ports_on_time(&mut self, now: Instant) {
        let late = self.ports.extract_if(.., |_, one| now >= one.deadline);
        for (_, connecting) in late.collect::<Vec<_>>() {
            let request = connecting.request;
            self.outbox.reply(request, Err(connecting.timed_out()));
        }
    }

    fn kill(&mut self, id: InstanceId, how: KillHow) -> Result<Reply, Failure> {
        let instance = self.of_daemon(id)?;
        let running = instance.running().ok_or_else(|| unknown(id))?;
        let sent = match how {
            KillHow::Terminate => running.jail.terminate(),
            KillHow::Kill => running.jail.kill(),
        };
        sent.map_err(|error| failure::of(FailureKind::Host, &error))?;
        instance.asked = Some(how);
        if how == KillHow::Kill {
            instance.kill_again = Some(Instant::now() + KILL_AGAIN);
        }
        Ok(Reply::Killed)
    }

    fn stats(&mut self, id: InstanceId) -> Result<Reply, Failure> {
        let instance = &*self.of_daemon(id)?;
        let stats = instance.leaf.stats();
        let micros = |time: Option<Duration>| {
            time.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
        };
        Ok(Reply::Stats(Stats {
            memory_current_bytes: stats.memory_bytes,
            memory_peak_bytes: stats.memory_peak_bytes,
            memory_limit_bytes: stats.memory_limit_bytes,
            cpu_usage_us: micros(stats.cpu_usage),
            cpu_throttled_us: micros(stats.cpu_throttled),
            tasks_current: stats.tasks,
            tasks_refused: stats.tasks_refused,
            oom_kills: stats.oom_kills,
        }))
    }
}

fn unknown(id: InstanceId) -> Failure {
    failure::new(FailureKind::Request, format!("there is no instance {id}"))
}

fn stage_failure(error: &StageError) -> Failure {
    let kind = match error {
        StageError::Files { .. } | StageError::Timeout { .. } => FailureKind::Stage,
        _ => FailureKind::Host,
    };
    let failure = failure::new(kind, log::chain(error));
    match kind {
        FailureKind::Stage => failure,
        _ => failure::with_hint(failure, "the launcher's log may say more"),
    }
}
