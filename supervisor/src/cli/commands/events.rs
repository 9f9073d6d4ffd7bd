//! `pinfold events`: what happened to plugins.

use std::ops::ControlFlow;

use chrono::SecondsFormat;
use pinfold_gateway::admin::dto::{EventQuery, EventView, FollowLine};

use crate::cli::Context;
use crate::cli::args::EventArguments;
use crate::cli::exit::Failure;
use crate::cli::output::{self, Page};

pub(super) async fn run(context: &Context, arguments: &EventArguments) -> Result<(), Failure> {
    let query = EventQuery {
        after: None,
        limit: arguments.newest.limit,
        plugin: arguments.plugin.clone(),
        follow: arguments.newest.follow,
    };
    if arguments.newest.follow {
        let output = context.output;
        let tell = |told: FollowLine| {
            match &told {
                FollowLine::Event(event) if !output.is_json() => output.page(&page(&[event]))?,
                FollowLine::Missed(missed) if !output.is_json() => {
                    output::note(&format!("{missed} events missed"));
                }
                told => output.line(told)?,
            }
            Ok(ControlFlow::Continue(()))
        };
        return context.client.follow_events(&query, tell).await;
    }
    let events = context.client.events(&query).await?;
    if events.is_empty() && !context.output.is_json() {
        output::note("nothing has happened since the daemon's start");
    }
    Ok(context
        .output
        .give(&events, |events| page(&events.iter().collect::<Vec<_>>()))?)
}

fn page(events: &[&EventView]) -> Page {
    let mut page = Page::default();
    for event in events {
        page.line(line(event));
    }
    page
}

/// One event as a line: when, which plugin and instance, what, and why.
pub(super) fn line(event: &EventView) -> String {
    let what = match (&event.from, &event.to) {
        (Some(from), Some(to)) if event.kind == "state-changed" => format!("{from} → {to}"),
        _ => event.kind.clone(),
    };
    let cause = event.cause.as_ref();
    let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
    format!(
        "{} {} #{} {what}{cause}",
        event.time.to_rfc3339_opts(SecondsFormat::Millis, true),
        event.plugin,
        event.generation,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_with_its_cause_and_nothing_that_a_terminal_obeys() {
        let events: Vec<EventView> = serde_json::from_value(serde_json::json!([
            { "number": 3, "time": "2025-03-01T08:00:00.5Z", "plugin": "hello", "generation": 2,
              "kind": "state-changed", "from": "ready", "to": "failed", "cause": "exit\u{1b}[2J 1" },
            { "number": 4, "time": "2025-03-01T08:00:01Z", "plugin": "hello", "generation": 3,
              "kind": "reloaded", "from": null, "to": null, "cause": null },
        ]))
        .unwrap();
        assert_eq!(
            page(&events.iter().collect::<Vec<_>>()).to_string(),
            "2025-03-01T08:00:00.500Z hello #2 ready → failed: exit\\u{1b}[2J 1\n\
             2025-03-01T08:00:01.000Z hello #3 reloaded\n"
        );
    }
}
