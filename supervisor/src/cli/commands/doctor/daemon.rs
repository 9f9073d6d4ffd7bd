//! What a daemon that runs says of itself: plugins that do not serve, controls that are not in force.

use pinfold_gateway::admin::dto::{ControlState, StatusView};

use super::{Findings, Patient, command};
use crate::cli::client::Client;
use crate::cli::review::chain;

/// What mends a daemon that answers, and does not say what it is asked for.
const fn log_says_why(is_service: bool) -> &'static str {
    match is_service {
        true => "its log says why: sudo journalctl -u 'pinfold*'",
        false => "its log says why: it is where `make run` runs",
    }
}

/// How the daemon is started anew.
const fn restart(is_service: bool) -> &'static str {
    match is_service {
        true => "restart it: sudo systemctl restart pinfold",
        false => "restart it: end `make run`, and run it again",
    }
}

pub(super) async fn look(patient: &Patient<'_>, found: &mut Findings) {
    let Some(status) = &patient.status else {
        return;
    };
    let is_service = patient.is_service;
    version(status, is_service, found);
    for warning in &status.warnings {
        found.note("daemon", warning.clone());
    }
    let client = &patient.context.client;
    posture(client, is_service, found).await;
    plugins(client, is_service, found).await;
}

fn version(status: &StatusView, is_service: bool, found: &mut Findings) {
    let version = env!("CARGO_PKG_VERSION");
    if status.version != version {
        found.warn(
            "daemon",
            format!(
                "pinfoldd is version {}, this command {version}",
                status.version
            ),
            restart(is_service),
        );
    }
}

async fn posture(client: &Client, is_service: bool, found: &mut Findings) {
    match client.posture(None).await {
        Ok(posture) => {
            let missing: Vec<String> = posture
                .controls
                .iter()
                .filter(|one| one.wanted == "required")
                .filter(|one| !matches!(one.state, ControlState::InForce | ControlState::Off))
                .map(|one| one.id.clone())
                .collect();
            if missing.is_empty() {
                found.fine(
                    "posture",
                    format!(
                        "every required control of {} is in force",
                        posture.controls.len()
                    ),
                );
            } else {
                found.fail(
                    "posture",
                    format!("required and not in force: {}", missing.join(", ")),
                    format!(
                        "`{} posture` says why; a policy that may do without says so in [controls]",
                        command(is_service)
                    ),
                );
            }
        }
        Err(error) => found.fail("posture", chain(&error), log_says_why(is_service)),
    }
}

async fn plugins(client: &Client, is_service: bool, found: &mut Findings) {
    let plugins = match client.plugins().await {
        Ok(plugins) => plugins,
        Err(error) => {
            found.fail("plugins", chain(&error), log_says_why(is_service));
            return;
        }
    };
    let mut serve = 0;
    for plugin in &plugins {
        let (id, state) = (&plugin.id, plugin.state.as_str());
        let why = plugin
            .reason
            .as_deref()
            .map_or_else(String::new, |why| format!(": {why}"));
        let message = format!("{id} is {state}{why}");
        match (state, mend(state, id.as_str(), is_service)) {
            ("ready", _) => serve += 1,
            ("blocked" | "failed", Some(mend)) => found.fail("plugins", message, mend),
            (_, Some(mend)) => found.warn("plugins", message, mend),
            (_, None) => found.note("plugins", message),
        }
    }
    if serve > 0 {
        found.fine("plugins", format!("{serve} of {} serve", plugins.len()));
    }
}

/// What mends a plugin that does not serve as it should; nothing where somebody wants it so, or it only begins.
fn mend(state: &str, id: &str, is_service: bool) -> Option<String> {
    let command = command(is_service);
    match state {
        "blocked" => Some(format!(
            "{command} policy check {id}; {command} plugin grant {id}"
        )),
        "failed" => Some(format!(
            "{command} plugin logs {id}, then {command} plugin enable {id}"
        )),
        "degraded" | "backing-off" => Some(format!("{command} plugin logs {id}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_be_done_is_done_to_this_installation_and_no_other() {
        for state in ["blocked", "failed", "degraded", "backing-off"] {
            let own = mend(state, "hello", false).unwrap();
            let commands = own.matches("pinfold ").count();
            assert_eq!(commands, own.matches("pinfold --dev ").count(), "{own}");
            assert!(!own.contains("sudo"), "{own}");
            let service = mend(state, "hello", true).unwrap();
            let commands = service.matches("pinfold ").count();
            assert_eq!(commands, service.matches("sudo pinfold ").count());
            assert!(!service.contains("--dev"), "{service}");
        }
        assert_eq!(mend("disabled", "hello", true), None);
        for said in [log_says_why(false), restart(false)] {
            assert!(!said.contains("sudo"), "{said}");
        }
    }
}
