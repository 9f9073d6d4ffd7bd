//! What happens to instances: they start, run, meet limits, end, and are cleared away.

use std::io;
use std::time::Instant;

use pinfold_policy::InstanceId;
use rustix::event::epoll::EventFlags;

use super::handover::Whose;
use super::instance::{
    Instance, KILL_AGAIN, MEMORY_LOOK, MEMORY_LOOKS, Phase, REMOVE_ATTEMPTS, Removing, Running,
};
use super::poller::Source;
use super::serve::Launcher;
use super::watching::Said;
use super::{failure, log};
use crate::cgroup::{Interest, Removal};
use crate::jail::{Heard, Stopped};
use crate::protocol::{Event, Failure, FailureKind, RefusedCall, Reply, RequestId};

impl Launcher {
    /// Waits for a new instance's words and for its memory limit.
    pub(super) fn watch(&self, id: InstanceId, instance: &Instance) -> io::Result<()> {
        if let Phase::Starting(launching) = &instance.phase {
            self.poller
                .add(Source::Starting(id), launching.status(), EventFlags::IN)?;
        }
        if let Some(watch) = &instance.memory {
            let interest = match watch.interest() {
                Interest::Readable => EventFlags::IN,
                Interest::Priority => EventFlags::PRI,
            };
            self.poller.add(Source::Memory(id), watch, interest)?;
        }
        Ok(())
    }

    pub(super) fn on_starting(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let Phase::Starting(launching) = &mut instance.phase else {
            return;
        };
        let request = launching.request;
        match launching.on_readable() {
            Ok(None) => {}
            Ok(Some(jail)) => {
                // The jail keeps the channel, and will say on it how the plugin ended.
                drop(self.poller.remove(launching.status()));
                let Phase::Starting(launching) =
                    std::mem::replace(&mut instance.phase, Phase::Gone)
                else {
                    return;
                };
                match launching.answer(id, jail, self.between.is_possible()) {
                    Ok((running, launched)) => {
                        self.started(id, running, request, Reply::Launched(launched));
                    }
                    Err(failure) => self.failed(id, request, failure),
                }
            }
            Err(failure) => {
                instance.phase = Phase::Gone;
                self.failed(id, request, failure);
            }
        }
    }

    fn started(&mut self, id: InstanceId, running: Running, request: RequestId, reply: Reply) {
        let added = self
            .poller
            .add(Source::Ended(id), &running.jail.reaper, EventFlags::IN)
            .and_then(|()| match &running.jail.filter_listener {
                // It is the watcher that hears.
                _ if running.watcher.is_some() => Ok(()),
                Some(listener) => self
                    .poller
                    .add(Source::Refused(id), listener, EventFlags::IN),
                None => Ok(()),
            })
            .and_then(|()| match &running.watcher {
                Some(watcher) => {
                    self.poller
                        .add(Source::Refused(id), watcher.words(), EventFlags::IN)
                }
                None => Ok(()),
            });
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.phase = Phase::Running(running);
        }
        match added {
            Ok(()) => self.outbox.reply(request, Ok(reply)),
            Err(error) => self.failed(id, request, failure::of(FailureKind::Host, &error)),
        }
    }

    /// A launch that did not come to an instance: no trace of it stays.
    fn failed(&mut self, id: InstanceId, request: RequestId, failure: Failure) {
        if let Some(instance) = self.instances.get(&id) {
            log::line(&format!(
                "instance {id} of {} did not start: {}",
                instance.plugin, failure.message
            ));
        }
        let failure = match self.instances.get(&id).and_then(|one| one.leaf.oom_kills()) {
            Some(kills) if kills > 0 => failure::with_hint(
                failure,
                "it was killed for want of memory while it started: limits.memory of its policy was \
                 met, or pinfold.slice's limit, or the machine had none left; \
                 `journalctl -k -g oom-kill` says which",
            ),
            _ => failure,
        };
        self.outbox.reply(request, Err(failure));
        self.abandon(id);
    }

    pub(super) fn on_ended(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get(&id) else {
            return;
        };
        let Some(running) = instance.running() else {
            return;
        };
        let status = running.jail.plugin_status();
        match running.jail.reaper.reap() {
            // Woken for nothing.
            Ok(None) => return,
            Ok(Some(_)) => {}
            Err(error) => log::line(&format!("reap instance {id}: {error}")),
        }
        let cause = instance.cause(status);
        log::line(&format!("instance {id} of {} {cause}", instance.plugin));
        // Of what is the next daemon's, that one hears when it asks: the one that named it counts it as going on.
        // Where the launcher has ended it, who asked knows why.
        let is_the_nexts = matches!(
            instance.whose,
            Whose::ThenTheNexts { .. } | Whose::Waits { .. }
        );
        if is_the_nexts && instance.reason.is_none() {
            let ended = instance.ended_kept(cause.to_string());
            self.between.note_end(ended);
        }
        if instance.is_daemons() && !self.is_ending() {
            self.outbox.event(&Event::Exited {
                instance: id,
                cause,
            });
        }
        self.clear(id);
    }

    /// The jail's filter has stopped a call: the jail ends for it, and the call is never made.
    pub(super) fn on_refused(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let Some(running) = instance.running() else {
            return;
        };
        if running.watcher.is_some() {
            return self.on_watcher(id);
        }
        let heard = running.jail.heard();
        if matches!(heard, Ok(Heard::Nothing)) {
            return;
        }
        // Others may follow until the jail has ended; the first says why.
        if let Some(listener) = &running.jail.filter_listener {
            drop(self.poller.remove(listener));
        }
        match heard {
            Ok(Heard::Call(Stopped { number, arguments })) => {
                instance.end_for(id, RefusedCall { number, arguments });
            }
            Ok(Heard::Nothing | Heard::End) => {}
            Err(error) => {
                instance.reason =
                    Some(format!("its refused system calls cannot be heard: {error}"));
                instance.kill(id, Instant::now());
            }
        }
    }

    /// Who answers for a watched instance says something. The jail does not go on without.
    fn on_watcher(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let Some(watcher) = instance.running().and_then(|one| one.watcher.as_ref()) else {
            return;
        };
        let said = watcher.said();
        if matches!(said, Said::Nothing) {
            return;
        }
        // The first says why, and after it there is no more.
        drop(self.poller.remove(watcher.words()));
        match said {
            Said::Nothing | Said::End => {}
            Said::Refused(Stopped { number, arguments }) => {
                instance.end_for(id, RefusedCall { number, arguments });
            }
            Said::Gone => {
                instance.reason = Some("nobody answered for it in its watched run".into());
                instance.kill(id, Instant::now());
            }
        }
    }

    /// The group met its memory limit, or is being removed.
    pub(super) fn on_memory(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        if let Some(watch) = &instance.memory
            && let Err(error) = watch.acknowledge()
        {
            // A removed group says so once more; anything else would wake us for ever.
            drop(self.poller.remove(watch));
            log::line(&format!("watch the memory of instance {id}: {error}"));
        }
        instance.memory_look = Some((Instant::now(), MEMORY_LOOKS));
    }

    pub(super) fn instances_on_time(&mut self, now: Instant) {
        let due: Vec<InstanceId> = self
            .instances
            .iter()
            .filter(|(_, instance)| instance.deadline().is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.instance_on_time(id, now);
        }
    }

    fn instance_on_time(&mut self, id: InstanceId, now: Instant) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        if let Some((at, looks)) = instance.memory_look
            && at <= now
        {
            instance.memory_look = match instance.leaf.oom_kills() {
                Some(0) | None => looks.checked_sub(1).map(|looks| (now + MEMORY_LOOK, looks)),
                // Version 1 kills one process; the jail goes as a whole.
                Some(_) => {
                    instance.memory_killed = true;
                    instance.kill(id, now);
                    None
                }
            };
        }
        if instance.kill_again.is_some_and(|at| at <= now) {
            log::line(&format!(
                "instance {id} of {} still lives after SIGKILL: once more",
                instance.plugin
            ));
            if let Err(error) = instance.leaf.kill() {
                log::line(&log::chain(&error));
            }
            instance.kill(id, now);
        }
        if instance.watched_until.is_some_and(|at| at <= now) {
            instance.watched_until = None;
            instance.reason = Some("the run in which it was watched is over".into());
            instance.kill(id, now);
        }
        let is_late = match &instance.phase {
            Phase::Starting(launching) => launching.deadline() <= now,
            _ => false,
        };
        if is_late
            && let Phase::Starting(launching) = std::mem::replace(&mut instance.phase, Phase::Gone)
        {
            let request = launching.request;
            let failure = launching.on_deadline();
            self.failed(id, request, failure);
        }
    }

    /// Ends an instance of which nobody is to hear any more. While the launcher itself ends, all of
    /// them are killed first and then waited for together.
    pub(super) fn abandon(&mut self, id: InstanceId) {
        let is_ending = self.is_ending();
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        if is_ending && instance.running().is_some() {
            instance.reason = Some("the launcher ends".into());
            instance.kill(id, Instant::now());
        } else {
            // Dropping what is left of it ends the jail.
            instance.phase = Phase::Gone;
            self.clear(id);
        }
    }

    /// An instance is gone with everything in its jail; its group goes too.
    fn clear(&mut self, id: InstanceId) {
        if let Some(mut instance) = self.instances.remove(&id) {
            if let Phase::Running(running) = &mut instance.phase {
                if let Some(watcher) = running.watcher.take() {
                    drop(self.poller.remove(watcher.words()));
                    self.watchers.push(watcher);
                } else if let Some(listener) = &running.jail.filter_listener {
                    drop(self.poller.remove(listener));
                }
            }
            if let Some(watch) = &instance.memory {
                drop(self.poller.remove(watch));
            }
            self.removing.push(Removing {
                leaf: instance.leaf,
                reaper_uid: instance.reaper_uid,
                attempts: 0,
                next: Instant::now(),
            });
            self.removing_on_time(Instant::now());
        }
    }

    pub(super) fn removing_on_time(&mut self, now: Instant) {
        let waiting = std::mem::take(&mut self.removing);
        for mut one in waiting {
            if now < one.next {
                self.removing.push(one);
                continue;
            }
            match one.leaf.remove() {
                Ok(Removal::Gone) => self.released(one.reaper_uid),
                Ok(Removal::Busy) if one.attempts < REMOVE_ATTEMPTS => {
                    // A process that is not yet reaped holds a group; one that escaped the jail's
                    // own end, which none should, is killed.
                    if one.attempts > 0
                        && let Err(error) = one.leaf.kill()
                    {
                        log::line(&log::chain(&error));
                    }
                    one.next = now + one.back_off();
                    one.attempts += 1;
                    self.removing.push(one);
                }
                Ok(Removal::Busy) => {
                    // Its id stays taken: something may still run under it.
                    log::line(&format!(
                        "the group {} stays for the sweep",
                        one.leaf.name()
                    ));
                }
                Err(error) => {
                    log::line(&log::chain(&error));
                    self.released(one.reaper_uid);
                }
            }
        }
    }

    fn released(&mut self, reaper_uid: Option<u32>) {
        if let (Some(uid), Some(uids)) = (reaper_uid, &mut self.ground.uids) {
            uids.release_reaper(uid);
        }
    }
}

impl Instance {
    /// Ends the jail for a call that was stopped.
    fn end_for(&mut self, id: InstanceId, call: RefusedCall) {
        log::line(&format!(
            "instance {id} of {} is ended for the system call {call} with {:#x?}",
            self.plugin, call.arguments
        ));
        self.refused = Some(call);
        self.kill(id, Instant::now());
    }

    /// Ends the jail for a reason of the launcher's, unless its end is under way.
    pub(super) fn end(&mut self, id: InstanceId, reason: &str) {
        if self.kill_again.is_none() {
            self.reason = Some(reason.to_owned());
            self.kill(id, Instant::now());
        }
    }

    fn kill(&mut self, id: InstanceId, now: Instant) {
        self.kill_again = Some(now + KILL_AGAIN);
        if let Some(running) = self.running()
            && let Err(error) = running.jail.kill()
        {
            log::line(&format!("kill instance {id}: {error}"));
        }
    }
}
