//! `pinfold doctor`: what is wrong with an installation, and how to mend it. It needs no daemon: it is
//! for when there is none. Looks, and changes nothing.

mod activation;
mod apparmor;
mod clock;
mod daemon;
mod database;
mod files;
mod groups;
mod kernel;
mod own;
mod pending;
mod plugins;
mod sockets;
mod unit;
mod way_out;

use pinfold_gateway::admin::dto::StatusView;
use pinfold_policy::lint::Severity;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Page;
use crate::cli::review::{self, Review};

/// What was found by one look at one thing.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at: `kernel`, `database`.
    check: &'static str,
    /// Absent where all is well.
    severity: Option<Severity>,
    /// What was found: one clause.
    message: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

/// Findings, as they are made.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        check: &'static str,
        severity: Option<Severity>,
        message: impl Into<String>,
        mend: Option<String>,
    ) {
        self.0.push(Finding {
            check,
            severity,
            message: message.into(),
            mend,
        });
    }

    /// All is well.
    fn fine(&mut self, check: &'static str, message: impl Into<String>) {
        self.add(check, None, message, None);
    }

    /// Worth knowing; nothing is wrong.
    fn note(&mut self, check: &'static str, message: impl Into<String>) {
        self.add(check, Some(Severity::Note), message, None);
    }

    /// It works, and will not for long, or not as well as it could.
    fn warn(&mut self, check: &'static str, message: impl Into<String>, mend: impl Into<String>) {
        let mend = Some(mend.into());
        self.add(check, Some(Severity::Warning), message, mend);
    }

    /// It does not work.
    fn fail(&mut self, check: &'static str, message: impl Into<String>, mend: impl Into<String>) {
        let mend = Some(mend.into());
        self.add(check, Some(Severity::Error), message, mend);
    }
}

/// What is looked at.
struct Patient<'a> {
    context: &'a Context,
    review: Option<Review>,
    /// What the daemon says of itself, where it answers.
    status: Option<StatusView>,
    /// Whether it is the installed service, which runs as root and a user of its own.
    is_service: bool,
}

/// How a command begins that changes the installation: a developer's is another one than the service, which may be
/// there too.
const fn command(is_service: bool) -> &'static str {
    match is_service {
        true => "sudo pinfold",
        false => "pinfold --dev",
    }
}

/// What others say to do, with the commands of the installation that is looked at.
fn in_place(mend: &str, is_service: bool) -> String {
    mend.replace("`pinfold ", &format!("`{} ", command(is_service)))
}

#[derive(Serialize)]
struct Diagnosis {
    /// `running` or `down`.
    daemon: &'static str,
    errors: usize,
    warnings: usize,
    findings: Vec<Finding>,
}

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let mut found = Findings::default();
    kernel::look(context.development, &mut found);
    groups::look(&mut found);
    let review = match Review::open(&context.place) {
        Ok(review) => Some(review),
        Err(error) => {
            found.fail(
                "configuration",
                review::chain(&error),
                "install the package, or name the file with --launcher-config; what is not readable needs sudo",
            );
            None
        }
    };
    let answer = context.client.status().await;
    let patient = Patient {
        context,
        review,
        status: answer.as_ref().ok().cloned(),
        is_service: !context.development,
    };
    unit::look(&patient, &mut found);
    apparmor::look(&patient, &mut found);
    files::look(&patient, &mut found);
    plugins::look(&patient, &mut found)?;
    way_out::look(&patient, &mut found);
    database::look(&patient, &mut found).await;
    pending::look(&patient, &mut found).await;
    sockets::look(&patient, answer.err(), &mut found);
    clock::look(&patient, &mut found).await;
    daemon::look(&patient, &mut found).await;
    let count = |severity| {
        let all = found.0.iter();
        all.filter(|one| one.severity == Some(severity)).count()
    };
    let diagnosis = Diagnosis {
        daemon: if patient.status.is_some() {
            "running"
        } else {
            "down"
        },
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        findings: found.0,
    };
    context.output.give(&diagnosis, page)?;
    match (diagnosis.errors, diagnosis.warnings) {
        (0, 0) => Ok(()),
        (0, _) => Err(Failure::said(Exit::Failed)),
        _ => Err(Failure::said(Exit::Usage)),
    }
}

fn page(diagnosis: &Diagnosis) -> Page {
    let mut page = Page::default();
    for finding in &diagnosis.findings {
        let word = match finding.severity {
            None => "ok",
            Some(Severity::Note) => "note",
            Some(Severity::Warning) => "WARN",
            Some(Severity::Error) => "FAIL",
        };
        let check = finding.check;
        page.line(format_args!("{word:<5} {check:<14} {}", finding.message));
        if let Some(mend) = &finding.mend {
            page.line(format_args!("{:<20} mend: {mend}", ""));
        }
    }
    let Diagnosis {
        daemon,
        errors,
        warnings,
        ..
    } = diagnosis;
    page.gap().line(format_args!(
        "pinfoldd is {daemon}; errors: {errors}, warnings: {warnings}"
    ));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_to_do_is_said_for_this_installation() {
        let mend = "trust it (`pinfold keys trust`), or put it in: `pinfold plugin add`";
        assert_eq!(
            in_place(mend, false),
            "trust it (`pinfold --dev keys trust`), or put it in: `pinfold --dev plugin add`"
        );
        assert_eq!(
            in_place(mend, true),
            "trust it (`sudo pinfold keys trust`), or put it in: `sudo pinfold plugin add`"
        );
    }

    #[test]
    fn a_finding_is_a_line_and_what_mends_it_another() {
        let mut found = Findings::default();
        found.fine("kernel", "Linux 6.12");
        found.fail("sockets", "no socket \u{1b}[2J", "start the service");
        let diagnosis = Diagnosis {
            daemon: "down",
            errors: 1,
            warnings: 0,
            findings: found.0,
        };
        assert_eq!(
            page(&diagnosis).to_string(),
            "ok    kernel         Linux 6.12\n\
             FAIL  sockets        no socket \\u{1b}[2J\n\
             \x20                    mend: start the service\n\
             \n\
             pinfoldd is down; errors: 1, warnings: 0\n"
        );
    }
}
