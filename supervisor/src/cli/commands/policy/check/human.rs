//! Findings for people: each with the line that it is about.

use pinfold_policy::lint::{Finding, Severity};

use super::Checked;
use crate::cli::output::Page;

pub(super) fn page(checked: &[Checked]) -> Page {
    let mut page = Page::default();
    for one in checked {
        for finding in &one.findings {
            show(&mut page, one, finding);
        }
    }
    let files = checked.len();
    let plural = if files == 1 { "y" } else { "ies" };
    page.line(format_args!(
        "{files} polic{plural} looked at: {}",
        counted(checked)
    ));
    page
}

fn show(page: &mut Page, one: &Checked, finding: &Finding) {
    page.line(format_args!(
        "{}[{}]: {}",
        finding.severity,
        finding.rule.id(),
        finding.message
    ));
    let path = one.path.display();
    match finding.place {
        None => {
            page.line(format_args!("  --> {path}"));
        }
        Some(place) => {
            let number = place.line.to_string();
            let margin = " ".repeat(number.len());
            let before = " ".repeat(place.column - 1);
            page.line(format_args!("{margin}--> {path}:{number}:{}", place.column))
                .line(format_args!("{margin} |"))
                .line(format_args!(
                    "{number} | {}",
                    plain(one.places.line(place.line))
                ))
                .line(format_args!(
                    "{margin} | {before}{}",
                    "^".repeat(place.length)
                ));
        }
    }
    page.line(format_args!("  = help: {}", finding.help))
        .line("");
}

/// A line as wide as its characters: a tab as one space, so that what is marked is what is meant.
fn plain(line: &str) -> String {
    line.replace('\t', " ")
}

fn counted(checked: &[Checked]) -> String {
    let all = || checked.iter().flat_map(|one| &one.findings);
    let counts: Vec<String> = [Severity::Error, Severity::Warning, Severity::Note]
        .into_iter()
        .filter_map(|severity| {
            let count = all().filter(|finding| finding.severity == severity).count();
            let plural = if count == 1 { "" } else { "s" };
            (count > 0).then(|| format!("{count} {severity}{plural}"))
        })
        .collect();
    match counts.is_empty() {
        true => "nothing found".into(),
        false => counts.join(", "),
    }
}
