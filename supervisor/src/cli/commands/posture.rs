//! `pinfold posture`: what the kernel enforces here, and what is not in force; and of a plugin that
//! runs, what its process really has.

use pinfold_gateway::admin::dto::{ControlState, ControlView, PostureView};
use pinfold_policy::PluginId;
use pinfold_sandbox::jail::{Seen, seen_at_rest};
use serde::Serialize;

use crate::chain::Chain;
use crate::cli::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Page;

/// A control without which no plugin may start is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("required and not in force: {}", .controls.join(", "))]
struct RequiredMissing {
    controls: Vec<String>,
}

/// The process of a plugin has what it must not, or lacks what it must have.
#[derive(Debug, thiserror::Error)]
#[error("process {pid} is not as it was started: {}", .what.join(", "))]
struct NotAsStarted {
    pid: u32,
    what: Vec<String>,
}

/// What the daemon says, with what was read here.
#[derive(Serialize)]
struct Posture<'a> {
    #[serde(flatten)]
    view: &'a PostureView,
    /// Of the plugin's running process; absent where none runs.
    live: Option<Live>,
}

/// What was read of a process.
#[derive(Debug, Serialize)]
struct Live {
    pid: u32,
    /// Why nothing could be read.
    error: Option<String>,
    seen: Vec<SeenView>,
}

#[derive(Debug, Serialize)]
struct SeenView {
    what: String,
    found: String,
    planned: &'static str,
    /// Absent where this user may not read it.
    holds: Option<bool>,
}

pub(super) async fn run(context: &Context, plugin: Option<&PluginId>) -> Result<(), Failure> {
    let view = context.client.posture(plugin).await?;
    let live = match plugin {
        Some(plugin) => live(context, plugin).await,
        None => None,
    };
    let posture = Posture { view: &view, live };
    context.output.give(&posture, |posture| {
        let mut page = page(posture.view);
        if let Some(live) = &posture.live {
            show(&mut page, live);
        }
        page
    })?;
    check(&view)?;
    posture.live.as_ref().map_or(Ok(()), check_live)
}

/// What the plugin's process has, where it runs and is the same one afterwards.
async fn live(context: &Context, plugin: &PluginId) -> Option<Live> {
    let running = async || context.client.plugin(plugin).await.ok()?.pid;
    let pid = running().await?;
    let read = seen_at_rest(pid);
    // The number may have become another process's while it was read.
    if running().await != Some(pid) {
        return None;
    }
    let (error, seen) = match read {
        Ok(seen) => (None, seen),
        Err(error) => (Some(Chain(&error).to_string()), Vec::new()),
    };
    let views = seen.into_iter().map(|seen| {
        let Seen {
            what,
            found,
            planned,
            holds,
        } = seen;
        SeenView {
            what,
            found,
            planned,
            holds,
        }
    });
    let seen = views.collect();
    Some(Live { pid, error, seen })
}

fn show(page: &mut Page, live: &Live) {
    page.gap()
        .line(format_args!("Read of its process, {}:", live.pid));
    if let Some(error) = &live.error {
        page.line(format_args!("  not readable: {error}"));
        return;
    }
    page.table(
        ["READ", "FOUND", "MUST BE", "HOLDS"],
        live.seen.iter().map(|seen| {
            let holds = match seen.holds {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "not known",
            };
            [
                seen.what.clone(),
                seen.found.clone(),
                seen.planned.into(),
                holds.into(),
            ]
        }),
    );
}

/// What was read and is not as it must be.
fn check_live(live: &Live) -> Result<(), Failure> {
    let wrong = live.seen.iter().filter(|seen| seen.holds == Some(false));
    let what: Vec<String> = wrong.map(|seen| seen.what.clone()).collect();
    if what.is_empty() {
        return Ok(());
    }
    let error = NotAsStarted {
        pid: live.pid,
        what,
    };
    Err(Failure::new(Exit::Failed, error).hint("`pinfold plugin disable` ends it"))
}

/// Plugins that require what is missing are refused at launch: the status says so beforehand.
fn check(posture: &PostureView) -> Result<(), Failure> {
    let controls: Vec<String> = posture
        .controls
        .iter()
        .filter(|control| control.wanted == "required" && !is_in_force(control))
        .map(|control| control.id.clone())
        .collect();
    if controls.is_empty() {
        return Ok(());
    }
    let failure = Failure::new(Exit::Failed, RequiredMissing { controls });
    Err(failure.hint("a limit, but no wall, can be wanted less: [controls] of the plugin's policy"))
}

fn is_in_force(control: &ControlView) -> bool {
    matches!(control.state, ControlState::InForce | ControlState::Off)
}

fn page(posture: &PostureView) -> Page {
    let mut page = Page::default();
    let about = match &posture.plugin {
        Some(plugin) => format!("around plugin {plugin}"),
        None => "on this machine, by the defaults of policies".into(),
    };
    page.line(format_args!("What the kernel enforces {about}"))
        .field("launcher", &posture.mode)
        .field("kernel", &posture.kernel)
        .field("policies", trust(&posture.policy_trust))
        .gap()
        .table(
            ["CONTROL", "WANTED", "STATE", "REASON"],
            posture.controls.iter().map(|control| {
                [
                    control.id.clone(),
                    control.wanted.clone(),
                    state(control.state).into(),
                    control.reason.clone().unwrap_or_default(),
                ]
            }),
        );
    let with = |state| {
        posture
            .controls
            .iter()
            .filter(move |control| control.state == state)
            .map(|control| format!("{} ({}): {}", control.id, control.wanted, control.about))
    };
    let missing = posture
        .controls
        .iter()
        .filter(|control| control.wanted == "required" && !is_in_force(control))
        .map(|control| control.id.clone());
    page.list(
        "Required and not in force, so that no launch succeeds:",
        missing,
    )
    .list("In force before, and no more:", with(ControlState::Failed))
    .list("Not in force here:", with(ControlState::Missing))
    .list("Not built in this version:", with(ControlState::NotBuilt))
    .list("Not asked for by the policy:", with(ControlState::Off))
    .list("Also:", &posture.notes);
    page
}

fn trust(word: &str) -> String {
    match word {
        "operator" => "operator: only what the policies' owner granted".into(),
        "development" => "development: every plugin is granted what it asks for".into(),
        other => other.into(),
    }
}

const fn state(state: ControlState) -> &'static str {
    match state {
        ControlState::InForce => "in force",
        ControlState::Missing => "missing",
        ControlState::Failed => "failed",
        ControlState::NotBuilt => "not built",
        ControlState::Off => "off",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posture(controls: &[(&str, &str, ControlState)]) -> PostureView {
        PostureView {
            plugin: None,
            mode: "user".into(),
            kernel: "6.1.0".into(),
            policy_trust: "development".into(),
            controls: controls
                .iter()
                .map(|(id, wanted, state)| ControlView {
                    id: (*id).into(),
                    about: format!("About {id}."),
                    wanted: (*wanted).into(),
                    state: *state,
                    reason: Some(format!("why {id}")),
                })
                .collect(),
            notes: vec!["kernel.kptr_restrict is 0".into()],
        }
    }

    #[test]
    fn what_is_not_in_force_and_not_built_is_said_plainly() {
        let posture = posture(&[
            ("seccomp", "required", ControlState::InForce),
            ("memory", "preferred", ControlState::Missing),
            ("landlock", "preferred", ControlState::NotBuilt),
        ]);
        let text = page(&posture).to_string();
        for expected in [
            "memory    preferred  missing    why memory",
            "Not in force here:\n  memory (preferred): About memory.",
            "Not built in this version:\n  landlock (preferred): About landlock.",
            "policies     development: every plugin is granted what it asks for",
            "Also:\n  kernel.kptr_restrict is 0",
        ] {
            assert!(text.contains(expected), "{expected:?} in {text}");
        }
        assert!(check(&posture).is_ok());
    }

    #[test]
    fn a_process_that_is_not_as_it_was_started_fails_by_what_differs() {
        let seen = |what: &str, holds| SeenView {
            what: what.into(),
            found: "0".into(),
            planned: "2",
            holds,
        };
        let live = |holds| Live {
            pid: 7,
            error: None,
            seen: vec![seen("Seccomp", holds), seen("user", Some(true))],
        };
        assert!(check_live(&live(Some(true))).is_ok());
        assert!(check_live(&live(None)).is_ok());
        let failure = check_live(&live(Some(false))).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "process 7 is not as it was started: Seccomp"
        );
        let mut page = Page::default();
        show(&mut page, &live(Some(false)));
        let text = page.to_string();
        assert!(text.contains("Read of its process, 7:"), "{text}");
        assert!(text.contains("Seccomp  0      2        NO"), "{text}");
    }

    #[test]
    fn a_required_control_that_is_missing_or_not_built_fails_by_name() {
        let failure = check(&posture(&[
            ("seccomp", "required", ControlState::Missing),
            ("uid", "required", ControlState::NotBuilt),
            ("proc", "preferred", ControlState::Missing),
        ]))
        .unwrap_err();
        assert_eq!(
            failure.to_string(),
            "required and not in force: seccomp, uid"
        );
        assert_eq!(failure.exit(), Exit::Failed);
    }
}
