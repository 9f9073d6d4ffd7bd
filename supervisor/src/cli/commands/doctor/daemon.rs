//! What a daemon that runs says of itself: plugins that do not serve, controls that are not in force.

use pinfold_gateway::admin::dto::{ControlState, StatusView};

use super::{Findings, Patient};
use crate::cli::client::Client;
use crate::cli::review::chain;

/// What mends a daemon that answers, and does not say what it is asked for.
const LOG_SAYS_WHY: &str = "its log says why: sudo journalctl -u 'pinfold*'";

pub(super) async fn look(patient: &Patient<'_>, found: &mut Findings) {
    let Some(status) = &patient.status else {
        return;
    };
    version(status, found);
    for warning in &status.warnings {
        found.note("daemon", warning.clone());
    }
    let client = &patient.context.client;
    posture(client, found).await;
    plugins(client, found).await;
}

fn version(status: &StatusView, found: &mut Findings) {
    let version = env!("CARGO_PKG_VERSION");
    if status.version != version {
        found.warn(
            "daemon",
            format!(
                "pinfoldd is version {}, this command {version}",
                status.version
            ),
            "restart it: sudo systemctl restart pinfold",
        );
    }
}

async fn posture(client: &Client, found: &mut Findings) {
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
                    "`pinfold posture` says why; a policy that may do without says so in [controls]",
                );
            }
        }
        Err(error) => found.fail("posture", chain(&error), LOG_SAYS_WHY),
    }
}

async fn plugins(client: &Client, found: &mut Findings) {
    let plugins = match client.plugins().await {
        Ok(plugins) => plugins,
        Err(error) => {
            found.fail("plugins", chain(&error), LOG_SAYS_WHY);
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
        match state {
            "ready" => serve += 1,
            "disabled" | "stopped" => found.note("plugins", message),
            "blocked" => {
                found.fail(
                    "plugins",
                    message,
                    format!("pinfold policy check {id}; pinfold plugin grant {id}"),
                );
            }
            "failed" => {
                let mend = format!("pinfold plugin logs {id}, then pinfold plugin enable {id}");
                found.fail("plugins", message, mend);
            }
            "degraded" | "backing-off" => {
                found.warn("plugins", message, format!("pinfold plugin logs {id}"));
            }
            _ => found.note("plugins", message),
        }
    }
    if serve > 0 {
        found.fine("plugins", format!("{serve} of {} serve", plugins.len()));
    }
}
