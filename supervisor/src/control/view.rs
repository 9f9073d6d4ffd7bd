//! How the daemon's own knowledge looks in the administration API.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use pinfold_gateway::admin::dto::{
    ControlState, ControlView, HealthView, PluginView, PostureView, RejectedView,
};
use pinfold_policy::{Moment, PluginId, RequireSignatures, Wanted};
use pinfold_sandbox::posture::{Posture, State as Found};
use pinfold_sandbox::protocol::{ControlChange, Stats};

use crate::state::{Health, Left, Rejected, Snapshot};

pub(super) fn warnings(posture: &Posture) -> Vec<String> {
    let mut warnings = Vec::new();
    if posture.policy_trust == pinfold_sandbox::posture::PolicyTrust::Development {
        warnings
            .push("policy trust: development (every plugin is granted what it asks for)".into());
    }
    for control in &posture.controls {
        let is_missing = matches!(control.state, Found::Missing | Found::Failed);
        if control.wanted != Wanted::Off && is_missing {
            warnings.push(format!("not in force: {} ({})", control.id, control.reason));
        }
    }
    warnings
}

/// Takes what a later probe found into a posture.
pub(super) fn change(posture: &mut Posture, change: &ControlChange) {
    let known = posture
        .controls
        .iter_mut()
        .find(|known| known.id == change.control);
    if let Some(known) = known {
        known.state = match change.is_in_force {
            true => Found::Enforced,
            false => Found::Failed,
        };
        known.reason.clone_from(&change.reason);
    }
}

pub(super) fn view(snapshot: &Snapshot) -> PluginView {
    let manifest = snapshot.manifest.as_ref();
    let registered = snapshot.registered.as_ref();
    let said = |text: fn(&crate::dialect::Manifest) -> &String| {
        manifest.map(text).cloned().unwrap_or_default()
    };
    PluginView {
        id: snapshot.plugin.clone(),
        name: snapshot.plugin.to_string(),
        version: registered
            .map(|r| r.version.clone())
            .filter(|version| !version.is_empty())
            .unwrap_or_else(|| said(|m| &m.version)),
        description: said(|m| &m.description),
        author: said(|m| &m.author),
        license: said(|m| &m.license),
        dialect: snapshot.dialect.unwrap_or_default().into(),
        state: snapshot.state.as_str().into(),
        generation: snapshot.generation.0,
        enabled: snapshot.enabled,
        routes: registered
            .map(|r| r.offer.routes.clone())
            .unwrap_or_default(),
        since: snapshot.since,
        reason: snapshot.reason.clone(),
        trust: snapshot
            .running
            .as_ref()
            .map(|running| running.trust.clone()),
        // The launcher is asked for that by whoever shows it.
        trust_lost: None,
        trust_unknown: false,
        watched_until: snapshot
            .running
            .as_ref()
            .and_then(|running| running.watched_until)
            .and_then(date),
    }
}

/// A moment as the API has it.
fn date(moment: Moment) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(i64::try_from(moment.unix_seconds()).ok()?, 0)
}

/// What an operator should know of plugins that are watched.
pub(super) fn watched(snapshot: &Snapshot) -> Option<String> {
    let until = snapshot.running.as_ref()?.watched_until?;
    let plugin = &snapshot.plugin;
    Some(format!(
        "plugin {plugin} is WATCHED until {until}: each of its system calls is noted"
    ))
}

pub(super) fn manifest_texts(manifest: &crate::dialect::Manifest) -> BTreeMap<String, String> {
    let text = |key: &str, value: &str| (!value.is_empty()).then(|| (key.into(), value.into()));
    [
        text("version", &manifest.version),
        text("description", &manifest.description),
        text("author", &manifest.author),
        text("license", &manifest.license),
        text("entry", &manifest.entry),
        manifest
            .wished_memory
            .map(|memory| ("memory".into(), memory.to_string())),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(super) fn limits(policy: &pinfold_policy::PolicyFile) -> BTreeMap<String, String> {
    let limits = &policy.limits;
    [
        ("memory", limits.memory.to_string()),
        ("cpu", limits.cpu.to_string()),
        ("processes", limits.processes.to_string()),
        ("tmp", limits.tmp.to_string()),
        ("files", limits.files.to_string()),
        ("call", policy.timeouts.call.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

pub(super) fn stats_by_name(stats: &Stats) -> BTreeMap<String, u64> {
    let Stats {
        memory_current_bytes,
        memory_peak_bytes,
        memory_limit_bytes,
        cpu_usage_us,
        cpu_throttled_us,
        tasks_current,
        tasks_refused,
        oom_kills,
    } = *stats;
    [
        ("memory_current_bytes", memory_current_bytes),
        ("memory_peak_bytes", memory_peak_bytes),
        ("memory_limit_bytes", memory_limit_bytes),
        ("cpu_usage_us", cpu_usage_us),
        ("cpu_throttled_us", cpu_throttled_us),
        ("tasks_current", tasks_current),
        ("tasks_refused", tasks_refused),
        ("oom_kills", oom_kills),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

/// A control that an instance does without, with what the machine's posture knows of it.
pub(super) fn missing_view(id: &str, posture: Option<&Posture>) -> ControlView {
    let found = posture.and_then(|posture| posture.controls.iter().find(|c| c.id.id() == id));
    ControlView {
        id: id.into(),
        about: pinfold_policy::Control::from_id(id)
            .map_or("", |control| control.about())
            .into(),
        wanted: Wanted::Preferred.to_string(),
        state: match found {
            Some(found) if found.state == Found::NotBuilt => ControlState::NotBuilt,
            _ => ControlState::Missing,
        },
        reason: found
            .map(|found| found.reason.clone())
            .filter(|reason| !reason.is_empty()),
    }
}

pub(super) fn posture_view(plugin: Option<PluginId>, posture: Posture) -> PostureView {
    let controls = posture.controls.iter().map(|control| {
        let state = match control.state {
            _ if control.wanted == Wanted::Off => ControlState::Off,
            Found::Enforced | Found::Partial => ControlState::InForce,
            Found::Missing => ControlState::Missing,
            Found::Failed => ControlState::Failed,
            Found::NotBuilt => ControlState::NotBuilt,
        };
        let texts = [control.how.as_str(), control.reason.as_str()];
        let said: Vec<&str> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        ControlView {
            id: control.id.to_string(),
            about: control.id.about().into(),
            wanted: control.wanted.to_string(),
            state,
            reason: (!said.is_empty()).then(|| said.join("; ")),
        }
    });
    let advice = posture.host.iter().map(|advice| {
        let pinfold_sandbox::posture::Advice {
            setting,
            found,
            advised,
            why,
        } = advice;
        format!("{setting} is {found}, {advised} would harden: {why}")
    });
    let stages = posture.stages.iter().map(|stage| {
        format!(
            "stage {} of {}: {} bytes of memory, {} instances",
            stage.digest, stage.plugin, stage.bytes, stage.instances
        )
    });
    let runtime = posture.runtime.iter().map(|one| {
        let what = if one.is_executed { "executed" } else { "read" };
        match (&one.found.owner, &one.found.mode) {
            (Some(owner), Some(mode)) => {
                format!("runtime {}: {what}; uid {owner}, mode {mode}", one.path)
            }
            _ => format!("runtime {}: refused: {}", one.path, one.found.problem),
        }
    });
    let mounts = posture.mounts.iter().map(|one| {
        let how = if one.is_writable {
            "read and WRITTEN"
        } else {
            "read-only"
        };
        let (source, target) = (&one.source, &one.target);
        match (&one.found.owner, &one.found.mode) {
            (Some(owner), Some(mode)) => {
                format!("mount {source} at {target}: {how}; uid {owner}, mode {mode}")
            }
            _ => format!("mount {source} at {target}: refused: {}", one.found.problem),
        }
    });
    let watched = posture.watched_until.iter().map(|until| {
        format!("WATCHED until {until}: each system call of an instance that starts is noted")
    });
    let trust = posture.trust.iter().map(|trust| format!("trust: {trust}"));
    let required = match posture.require_signatures {
        RequireSignatures::None => None,
        RequireSignatures::Any => Some("signatures are required".to_owned()),
        RequireSignatures::Package => Some("package signatures are required".to_owned()),
    };
    // They satisfy a policy that requires them.
    let partial = posture.controls.iter().filter(|control| {
        let is_asked_for = control.wanted != Wanted::Off;
        is_asked_for && control.state == Found::Partial
    });
    let gaps = partial.map(|control| {
        let (id, wanted, reason) = (control.id, control.wanted, &control.reason);
        format!("{id} ({wanted}) is in force in part: {reason}")
    });
    PostureView {
        plugin,
        mode: match posture.mode {
            pinfold_sandbox::posture::Mode::Root => "root".into(),
            pinfold_sandbox::posture::Mode::User => "user".into(),
        },
        kernel: nix::sys::utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default(),
        policy_trust: match posture.policy_trust {
            pinfold_sandbox::posture::PolicyTrust::Operator => "operator".into(),
            pinfold_sandbox::posture::PolicyTrust::Development => "development".into(),
        },
        controls: controls.collect(),
        notes: watched
            .chain(trust)
            .chain(required)
            .chain(gaps)
            .chain(runtime)
            .chain(mounts)
            .chain(advice)
            .chain(stages)
            .collect(),
    }
}

pub(super) fn handover(left: &Left) -> String {
    match left {
        Left::TakenOver => "taken over".into(),
        Left::Replaced(reason) => format!("replaced: {reason}"),
    }
}

pub(super) fn health(health: &Health) -> HealthView {
    HealthView {
        last_ping: health.last_ping,
        failures: health.failures,
        round_trip_seconds: health.round_trip.map(|time| time.as_secs_f64()),
    }
}

pub(super) fn rejected(rejected: &Rejected) -> RejectedView {
    RejectedView {
        time: rejected.time,
        digest: rejected.digest.map(|digest| digest.to_string()),
        reason: rejected.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required_and_in_force_in_part_is_told_apart() {
        let control = |id: &str, wanted: &str, state: &str| {
            format!(
                "[[controls]]\nid = '{id}'\nwanted = '{wanted}'\nstate = '{state}'\n\
                 how = 'v1'\nreason = 'why {id}'\n"
            )
        };
        let text = [
            "mode = 'root'\npolicy-trust = 'operator'\n".to_owned(),
            control("memory", "required", "partial"),
            control("processes", "required", "enforced"),
            control("io", "off", "partial"),
        ]
        .concat();
        let view = posture_view(None, Posture::from_toml(&text).unwrap());
        assert_eq!(
            view.notes,
            ["memory (required) is in force in part: why memory"]
        );
        let memory = &view.controls[0];
        assert_eq!(memory.state, ControlState::InForce);
        assert_eq!(memory.reason.as_deref(), Some("v1; why memory"));
    }
}
