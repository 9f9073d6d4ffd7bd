//! What is said of a watched run: the proposals, what was refused, and what was not exercised.

use pinfold_sandbox::seccomp::Learnt;
use serde::Serialize;

use super::calls::{Calls, RefusedCall};
use super::grants::Asked;
use crate::cli::commands::policy::diff::{self, Difference};
use crate::cli::output::Page;

/// Everything that came of it.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    run: RunView,
    profile: ProfileView,
    policy: PolicyView,
    /// Calls of the host that were refused: never proposed.
    asked_and_refused: Vec<Asked>,
    /// System calls that the profile of the run refuses: never proposed.
    calls_refused: Vec<RefusedCall>,
    notes: Vec<String>,
}

/// How the plugin ran.
#[derive(Debug, Serialize)]
pub(super) struct RunView {
    pub(super) generation: u64,
    /// Instances that were watched: more than one where it ended by itself.
    pub(super) instances: usize,
    pub(super) seconds: u64,
    /// Whether everything that they asked was written down.
    pub(super) is_whole: bool,
    pub(super) acts: Vec<ActView>,
}

/// One call of the plugin.
#[derive(Debug, Serialize)]
pub(super) struct ActView {
    pub(super) call: String,
    pub(super) failure: Option<String>,
}

/// A proposed profile.
#[derive(Debug, Serialize)]
struct ProfileView {
    name: String,
    /// The profile under which the run was.
    of_run: String,
    /// Its file.
    text: String,
    /// Calls that were made and that it keeps, with how often.
    made: Vec<Made>,
    /// Calls that it keeps beside them.
    kept: Vec<Kept>,
    /// Calls that the run's profile allows and this one does not.
    left_out: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Made {
    call: String,
    count: u64,
}

#[derive(Debug, Serialize)]
struct Kept {
    needed_by: String,
    calls: Vec<String>,
}

/// A proposed policy.
#[derive(Debug, Serialize)]
struct PolicyView {
    /// Against the policy of now.
    difference: Difference,
    /// Its file.
    text: String,
}

impl Outcome {
    pub(super) fn new(
        of_run: &str,
        run: RunView,
        learnt: Learnt,
        calls: Calls,
        (difference, policy): (Difference, String),
        (asked_and_refused, mut notes): (Vec<Asked>, Vec<String>),
    ) -> Self {
        if !run.is_whole {
            notes.push(
                "an instance ended before all that it asked was written down: the profile may lack some"
                    .into(),
            );
        }
        if run.instances > 1 {
            notes.push(format!(
                "it was started {} times in the run: `pinfold events --plugin …` says why",
                run.instances
            ));
        }
        let failed = run.acts.iter().filter(|act| act.failure.is_some()).count();
        if failed > 0 {
            notes.push(format!(
                "{failed} of {} calls failed: what they would have needed may be missing",
                run.acts.len()
            ));
        }
        let made = learnt.made.iter().map(|call| Made {
            call: call.clone(),
            count: calls.made.get(call).copied().unwrap_or_default(),
        });
        let kept = learnt.kept.iter().map(|(needed_by, calls)| Kept {
            needed_by: needed_by.clone(),
            calls: calls.clone(),
        });
        Self {
            profile: ProfileView {
                name: learnt.profile.name().to_owned(),
                of_run: of_run.to_owned(),
                made: made.collect(),
                kept: kept.collect(),
                text: learnt.text,
                left_out: learnt.left_out,
            },
            policy: PolicyView {
                difference,
                text: policy,
            },
            run,
            asked_and_refused,
            calls_refused: calls.refused,
            notes,
        }
    }

    pub(super) fn profile_text(&self) -> &str {
        &self.profile.text
    }

    pub(super) fn policy_text(&self) -> &str {
        &self.policy.text
    }

    pub(super) fn page(&self) -> Page {
        let RunView {
            generation,
            instances,
            seconds,
            ..
        } = &self.run;
        let profile = &self.profile;
        let kept: usize = profile.kept.iter().map(|kept| kept.calls.len()).sum();
        let mut page = Page::default();
        page.line(format_args!(
            "watched: generation {generation}, {instances} instance{}, {seconds} s, under the profile {}",
            if *instances == 1 { "" } else { "s" },
            profile.of_run
        ))
        .line(format_args!(
            "  {} of the {} system calls that it allows were made; {kept} more are kept",
            profile.made.len(),
            profile.made.len() + kept + profile.left_out.len()
        ));
        page.gap().line(format_args!(
            "proposed profile, profiles/{}.toml in data-dir:",
            profile.name
        ));
        for line in profile.text.lines() {
            page.line(format_args!("  {line}"));
        }
        page.gap().line("proposed policy:");
        for line in diff::page(&self.policy.difference).to_string().lines() {
            page.line(format_args!("  {line}"));
        }
        page.list(
            "asked of the host and refused, not proposed",
            self.asked_and_refused.iter().map(|asked| {
                let Asked {
                    call,
                    subject,
                    why,
                    count,
                } = asked;
                format!("{call} {subject} ×{count}: {why}")
            }),
        );
        page.list(
            "system calls that were refused, not proposed",
            self.calls_refused.iter().map(|refused| {
                let how = match refused.errno {
                    Some(errno) => format!("error {errno}"),
                    None => "the jail was ended for it".to_owned(),
                };
                format!(
                    "{}({}) ×{}: {how}; to allow it: {}",
                    refused.call,
                    refused.arguments.join(", "),
                    refused.count,
                    refused.would_need
                )
            }),
        );
        page.list("note", &self.notes);
        page.gap().line(format_args!(
            "The proposals are only as complete as the run. What it did not exercise fails under them: {}",
            match profile.left_out.is_empty() {
                true => "no system call that was allowed before.".to_owned(),
                false => format!("{}.", profile.left_out.join(" ")),
            }
        ));
        page
    }
}
