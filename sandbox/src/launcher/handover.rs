//! `Handover`: from one daemon to the next. The one that is about to end names the instances that the
//! next is to have, and the launcher keeps those jails, with their pipes and sockets, until it comes.
//!
//! Everything about it is closed unless somebody opens it: without `Handover` the end of the connection
//! is the end of every jail; after it, of every jail that was not named; and what is kept is ended
//! where nobody adopts it in time, or where a launch of the same files would not be the same any more.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use pinfold_policy::{Digest, InstanceId, PluginId};
use rustix::event::epoll::EventFlags;

use super::failure;
use super::given::Ends;
use super::instance::Instance;
use super::launch;
use super::log;
use super::poller::Source;
use super::serve::Launcher;
use crate::protocol::{Adopted, EndedKept, Failure, FailureKind, Reply};

/// Whose an instance is.
#[derive(Debug)]
pub(super) enum Whose {
    /// The daemon's that is connected, with whose connection it ends.
    Daemons,
    /// The same, but that it outlives the connection, for the next one.
    ThenTheNexts {
        /// What that one is to know of it.
        note: String,
    },
    /// The next daemon's that asks for it in time: until then nobody can ask for anything of it.
    Waits {
        /// What that one is to know of it.
        note: String,
        /// In time.
        until: Instant,
    },
    /// Nobody's: its daemon is gone and did not keep it, and its end is under way.
    Nobodys,
}

/// How it stands between daemons.
#[derive(Debug, Default)]
pub(super) struct Between {
    /// Where the next one comes in; none where this launcher was given its one connection, or keeps
    /// nothing.
    door: Option<OwnedFd>,
    /// Whether the daemon that is connected has asked for it.
    asked: bool,
    /// Until when the next one is waited for, while there is none.
    until: Option<Instant>,
    /// How what was named for the next daemon has ended since, for the one that asks for it: at most one
    /// for each plugin. What a daemon has not asked for by its own `Handover` is forgotten with that.
    ended: BTreeMap<PluginId, EndedKept>,
}

impl Between {
    /// With the socket on which daemons come in, and how long one is waited for.
    pub(super) fn new(door: Option<OwnedFd>, limit: Duration) -> Self {
        Self {
            door: door.filter(|_| !limit.is_zero()),
            ..Self::default()
        }
    }

    /// Whether jails can be kept at all.
    pub(super) fn is_possible(&self) -> bool {
        self.door.is_some()
    }

    /// Whether no daemon is connected.
    pub(super) fn has_no_daemon(&self) -> bool {
        self.until.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until
    }

    /// Notes how an instance has ended that is the next daemon's.
    pub(super) fn note_end(&mut self, ended: EndedKept) {
        self.ended.insert(ended.plugin.clone(), ended);
    }

    /// How one has ended, of a plugin or of any; told once.
    fn take_ended(&mut self, plugin: Option<&PluginId>) -> Option<EndedKept> {
        match plugin {
            Some(plugin) => self.ended.remove(plugin),
            None => self.ended.pop_first().map(|(_, ended)| ended),
        }
    }
}

impl Instance {
    /// Whether the daemon that is connected may ask for something of it.
    pub(super) fn is_daemons(&self) -> bool {
        matches!(self.whose, Whose::Daemons | Whose::ThenTheNexts { .. })
    }

    /// Until when it can be adopted, where it waits for that and its end is not under way.
    pub(super) fn adoptable_until(&self) -> Option<Instant> {
        match self.whose {
            Whose::Waits { until, .. } if self.kill_again.is_none() => Some(until),
            _ => None,
        }
    }

    /// What is told of its end to the daemon that asks for it.
    pub(super) fn ended_kept(&self, reason: String) -> EndedKept {
        EndedKept {
            plugin: self.plugin.clone(),
            generation: self.generation,
            reason,
        }
    }

    /// Whether it is to go on without the daemon that is connected.
    fn outlives_daemon(&self) -> bool {
        let is_kept = matches!(self.whose, Whose::ThenTheNexts { .. } | Whose::Waits { .. });
        is_kept && self.kill_again.is_none()
    }
}

impl Launcher {
    pub(super) fn handover(&mut self) -> Result<Reply, Failure> {
        let refused = |message: &str| Err(failure::new(FailureKind::Request, message));
        let is_again = std::mem::take(&mut self.between.asked);
        let limit = self.ground.config.handover_limit.0;
        if limit.is_zero() {
            return refused("handover-limit is 0: nothing is kept for another daemon");
        }
        if !self.between.is_possible() {
            return refused("this launcher was given its one connection: no other daemon can come");
        }
        if let Some(what) = self.origin.replaced() {
            return refused(&format!(
                "the launcher's {what} has been replaced: the new one is to start"
            ));
        }
        if let Err(error) = self.ground.is_configured_as_read() {
            return Err(failure::of(FailureKind::Request, &error));
        }
        if !is_again {
            // What the daemon before this one has left, and this one has not asked for, is nobody's.
            self.between.ended.clear();
        }
        self.between.asked = true;
        Ok(Reply::HandingOver { limit })
    }

    pub(super) fn keep(&mut self, id: InstanceId, note: String) -> Result<Reply, Failure> {
        let refused = |message| Err(failure::new(FailureKind::Request, message));
        if !self.between.asked {
            return refused("nothing is kept before Handover".to_owned());
        }
        let instance = self.of_daemon(id)?;
        match instance.running() {
            None => refused(format!("instance {id} does not run")),
            Some(_) if instance.kill_again.is_some() => {
                refused(format!("instance {id} is being ended"))
            }
            // Whoever answers for its calls does so for the daemon that had it watched.
            Some(running) if running.held.is_none() => {
                refused(format!("instance {id} is watched, and is not kept"))
            }
            Some(_) => {
                instance.whose = Whose::ThenTheNexts { note };
                Ok(Reply::Kept)
            }
        }
    }

    pub(super) fn adopt(&mut self, plugin: &PluginId, digest: &Digest) -> Reply {
        let waiting = self.waiting_of(Some(plugin));
        let Some((id, others)) = waiting.split_last() else {
            let ended = self.between.take_ended(Some(plugin));
            return Reply::NotKept { ended };
        };
        for other in others {
            let ended = self.end_kept(*other, "another instance of its plugin is taken over");
            if let Some(ended) = ended {
                self.between.note_end(ended);
            }
        }
        let given = self
            .trust_in_kept(*id, digest)
            .and_then(|trust| self.given_over(*id, trust));
        match given {
            Ok(adopted) => {
                log::line(&format!("instance {id} of {plugin} is taken over"));
                Reply::Adopted(adopted)
            }
            Err(reason) => Reply::NotKept {
                ended: self.end_kept(*id, &reason),
            },
        }
    }

    /// Ends one of those that wait to be adopted, of a plugin or of any, or tells of one that has ended by
    /// itself.
    pub(super) fn discard(&mut self, plugin: Option<&PluginId>) -> Reply {
        let ended = match self.waiting_of(plugin).first() {
            Some(id) => self.end_kept(*id, "the next daemon does not go on with it"),
            None => self.between.take_ended(plugin),
        };
        Reply::NotKept { ended }
    }

    /// Ends what is kept of a plugin of which another instance is launched.
    pub(super) fn replace_kept(&mut self, plugin: &PluginId) {
        self.between.ended.remove(plugin);
        for id in self.waiting_of(Some(plugin)) {
            self.end_kept(id, "another is started in its place");
        }
    }

    /// The daemon's connection has ended: with it every jail, or every one that it did not name.
    pub(super) fn hung_up(&mut self, why: &str) {
        // An end that nobody has been told of is waited with as well.
        let is_kept = self.instances.values().any(Instance::outlives_daemon)
            || !self.between.ended.is_empty();
        let asked = std::mem::take(&mut self.between.asked);
        match self.between.door.as_ref().map(AsFd::as_fd) {
            Some(door) if asked && is_kept => {
                if let Err(error) = self.poller.add(Source::Door, door, EventFlags::IN) {
                    return self.end(&format!("wait for another daemon: {error}"));
                }
            }
            _ => return self.end(why),
        }
        self.drop_connection();
        let until = Instant::now() + self.ground.config.handover_limit.0;
        self.between.until = Some(until);
        let ids: Vec<InstanceId> = self.instances.keys().copied().collect();
        for id in ids {
            let Some(instance) = self.instances.get_mut(&id) else {
                continue;
            };
            instance.whose = match std::mem::replace(&mut instance.whose, Whose::Nobodys) {
                Whose::ThenTheNexts { note } => Whose::Waits { note, until },
                // One that the daemon before this one kept waits no longer for that.
                whose @ (Whose::Waits { .. } | Whose::Nobodys) => whose,
                Whose::Daemons => {
                    match instance.running().is_some() {
                        true => instance.end(id, "its daemon has ended, and did not keep it"),
                        false => self.abandon(id),
                    }
                    continue;
                }
            };
        }
        let waiting = self
            .instances
            .values()
            .filter_map(Instance::adoptable_until);
        let count = waiting.count();
        let limit = self.ground.config.handover_limit;
        log::line(&format!(
            "{why}: keeps {count} instances for the next, at most {limit}"
        ));
        self.manager
            .status(&format!("keeps {count} plugins for the next pinfoldd"));
    }

    /// Somebody has connected while there is no daemon.
    pub(super) fn on_door(&mut self) {
        let Some(door) = self
            .between
            .door
            .as_ref()
            .filter(|_| self.between.has_no_daemon())
        else {
            return;
        };
        // Who waits is left to the launcher that should run.
        if self.origin.replaced().is_some() || self.ground.is_configured_as_read().is_err() {
            return self.end(
                "launcher, unit or configuration are others by now: the next one is to start",
            );
        }
        let socket = match super::door::accept(door, self.ground.reader.uid()) {
            Ok(Some(socket)) => socket,
            Ok(None) => return,
            Err(error) => return self.end(&format!("take another daemon in: {error}")),
        };
        drop(self.poller.remove(door));
        if let Err(error) = self.connected(socket) {
            return self.end(&format!("take another daemon in: {error}"));
        }
        self.between.until = None;
        log::line("another daemon has come");
        self.manager.status("serves pinfoldd");
    }

    /// This launcher ends: who connects now is the next one's. The service manager has the socket too, so
    /// that closing it does not take it out of the poller.
    pub(super) fn shut_door(&mut self) {
        self.between.until = None;
        if let Some(door) = self.between.door.take() {
            drop(self.poller.remove(door));
        }
    }

    pub(super) fn handover_on_time(&mut self, now: Instant) {
        if self.is_ending() {
            return;
        }
        if self.between.until.is_some_and(|until| until <= now) {
            return self.end("no other daemon has come within handover-limit");
        }
        let late: Vec<InstanceId> = self
            .instances
            .iter()
            .filter(|(_, one)| one.adoptable_until().is_some_and(|until| until <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            let reason = "it was not taken over within handover-limit";
            if let Some(ended) = self.end_kept(id, reason) {
                self.between.note_end(ended);
            }
        }
    }

    /// The instances that wait for a daemon to adopt them, of a plugin or of all, oldest first.
    fn waiting_of(&self, plugin: Option<&PluginId>) -> Vec<InstanceId> {
        let waiting = self.instances.iter().filter(|(_, one)| {
            let is_there = one.adoptable_until().is_some() && one.running().is_some();
            is_there && plugin.is_none_or(|plugin| &one.plugin == plugin)
        });
        waiting.map(|(id, _)| *id).collect()
    }

    fn end_kept(&mut self, id: InstanceId, reason: &str) -> Option<EndedKept> {
        let instance = self.instances.get_mut(&id)?;
        instance.end(id, reason);
        Some(instance.ended_kept(reason.to_owned()))
    }

    /// What the trust in an instance rests on, where a launch of these files would now be the one that it
    /// came from; or why it would not.
    fn trust_in_kept(&mut self, id: InstanceId, digest: &Digest) -> Result<String, String> {
        let instance = self.instances.get(&id).ok_or("it has ended")?;
        let held = instance.running().and_then(|running| running.held.as_ref());
        let held = held.ok_or("it has ended")?;
        if instance.stage.digest() != *digest {
            return Err("its files have changed".into());
        }
        let (policy, basis) = self
            .staged(&instance.plugin, digest)
            .and_then(|(stage, signatures)| {
                launch::judge(&self.ground, &instance.plugin, stage.digest(), &signatures)
            })
            .map_err(|failure| failure.message)?;
        let (then, now) = (&held.policy, &policy);
        if (&then.bytes, then.is_development) != (&now.bytes, now.is_development) {
            return Err("its policy has changed".into());
        }
        let of = (&instance.plugin, &policy.file);
        held.went_by.holds(&mut self.ground, &self.findings, of)?;
        Ok(basis.to_string())
    }

    /// What the daemon is given, whose instance it is from now on; or why it cannot be given that.
    fn given_over(&mut self, id: InstanceId, trust: String) -> Result<Adopted, String> {
        const GONE: &str = "it has ended";
        let instance = self.instances.get_mut(&id).ok_or(GONE)?;
        let running = instance.running_mut().ok_or(GONE)?;
        let held = running.held.as_ref().ok_or(GONE)?;
        let has = (&mut running.jail, &running.listening[..]);
        let launched = held
            .launched(id, has, trust, Ends::Shared)
            .map_err(|failure| failure.message)?;
        match std::mem::replace(&mut instance.whose, Whose::Daemons) {
            Whose::Waits { note, .. } => Ok(Adopted {
                launched,
                generation: instance.generation,
                note,
            }),
            other => {
                instance.whose = other;
                Err("it does not wait for a daemon".into())
            }
        }
    }
}
