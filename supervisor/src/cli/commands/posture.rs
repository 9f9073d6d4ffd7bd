//! `pinfold posture`: what the kernel enforces here, and what is not in force.

use pinfold_gateway::admin::dto::{ControlState, ControlView, PostureView};
use pinfold_policy::PluginId;

use crate::cli::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Page;

/// A control without which no plugin may start is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("required and not in force: {}", .controls.join(", "))]
struct RequiredMissing {
    controls: Vec<String>,
}

pub(super) async fn run(context: &Context, plugin: Option<&PluginId>) -> Result<(), Failure> {
    let posture = context.client.posture(plugin).await?;
    context.output.give(&posture, page)?;
    check(&posture)
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
    page.list("Not in force here:", with(ControlState::Missing))
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
