//! `pinfold policy explain`: whether a plugin may do something, and by which line of which file.

mod file;
mod host;
mod question;
mod syscall;

use pinfold_policy::{Control, PluginId, Wanted};
use serde::Serialize;

use self::question::Question;
use super::origin::Origin;
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::output::Page;
use crate::cli::review::{Policy, Review};

/// What would become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Allowed,
    Refused,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Answer {
    plugin: PluginId,
    permission: String,
    decision: Decision,
    /// In one sentence.
    why: String,
    /// The lines that it rests on; what holds by default where there is none.
    by: Vec<Origin>,
    /// What else decides, or must hold.
    notes: Vec<String>,
}

/// A decision with what it rests on.
struct Decided {
    decision: Decision,
    why: String,
    by: Vec<Origin>,
    notes: Vec<String>,
}

impl Decided {
    fn new(decision: Decision, why: impl Into<String>, by: Vec<Origin>) -> Self {
        Self {
            decision,
            why: why.into(),
            by,
            notes: Vec::new(),
        }
    }
}

/// Whether it is allowed.
pub(super) fn run(context: &Context, plugin: &PluginId, permission: &str) -> Result<bool, Failure> {
    let question = Question::parse(permission)?;
    let review = Review::open(&context.place)?;
    let policy = review.policy(plugin)?;
    let decided = match question {
        Question::Call(call) => host::decide(&review, plugin, &policy, &host::Asked::Call(&call))?,
        Question::Tunnel(authority) => {
            host::decide(&review, plugin, &policy, &host::Asked::Tunnel(&authority))?
        }
        Question::Log => Decided::new(
            Decision::Allowed,
            "writing log lines needs no permission",
            vec![Origin::default()],
        ),
        Question::Email => Decided::new(
            Decision::Refused,
            "this version has no such service, whatever is granted",
            vec![Origin::default()],
        ),
        Question::Syscall { name, arguments } => {
            syscall::decide(&review, &policy, &name, arguments.as_ref())?
        }
        Question::File { access, path } => file::decide(&review, plugin, &policy, access, &path)?,
        Question::Control(control) => decide_control(plugin, &policy, control),
    };
    let Decided {
        decision,
        why,
        by,
        notes,
    } = decided;
    let answer = Answer {
        plugin: plugin.clone(),
        permission: permission.to_owned(),
        decision,
        why,
        by,
        notes,
    };
    context.output.give(&answer, page)?;
    Ok(decision == Decision::Allowed)
}

fn page(answer: &Answer) -> Page {
    let word = match answer.decision {
        Decision::Allowed => "allowed",
        Decision::Refused => "refused",
    };
    let mut page = Page::default();
    page.line(format_args!(
        "{word}: {} {}",
        answer.plugin, answer.permission
    ))
    .line(format_args!("  {}", answer.why));
    page.list(
        "by:",
        answer.by.iter().map(|origin| match origin.text() {
            Some(text) => format!("{origin}: {text}"),
            None => origin.to_string(),
        }),
    );
    page.list("also:", &answer.notes);
    page
}

/// Whether the plugin may run where a control cannot be had.
fn decide_control(plugin: &PluginId, policy: &Policy, control: Control) -> Decided {
    let path = format!("controls.{control}");
    let place = policy
        .places
        .nearest(&path)
        .filter(|_| policy.file.controls.contains_key(control.id()));
    let origin = match place {
        Some(_) => Origin::of("policy", Some(&policy.path), &policy.places, place),
        None => Origin::default(),
    };
    let wanted = policy.file.wanted(control);
    let (decision, what) = match wanted {
        Wanted::Required => (Decision::Refused, "a launch without it is refused"),
        Wanted::Preferred => (
            Decision::Allowed,
            "where it cannot be had the plugin runs without it, and the posture says so",
        ),
        Wanted::Off => (Decision::Allowed, "it is not asked for"),
    };
    let why = format!("{control} is {wanted}: {what}. {}", control.about());
    let mut decided = Decided::new(decision, why, vec![origin]);
    decided.notes.push(format!(
        "`pinfold posture {plugin}` says whether it is in force here"
    ));
    decided
}
