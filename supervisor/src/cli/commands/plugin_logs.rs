//! `pinfold plugin logs`: what a plugin printed and logged.

use std::ops::ControlFlow;

use chrono::SecondsFormat;
use pinfold_gateway::admin::dto::{FollowLine, LogQuery, LogRecord};

use crate::cli::Context;
use crate::cli::args::LogArguments;
use crate::cli::client::word;
use crate::cli::exit::Failure;
use crate::cli::output::{self, Page};

pub(super) async fn run(context: &Context, arguments: &LogArguments) -> Result<(), Failure> {
    let query = LogQuery {
        limit: arguments.newest.limit,
        level: arguments.level,
        stream: arguments.stream,
        follow: arguments.newest.follow,
    };
    if arguments.newest.follow {
        let output = context.output;
        let tell = |told: FollowLine| {
            match &told {
                FollowLine::Log(record) if !output.is_json() => {
                    output.page(&page(std::slice::from_ref(record)))?;
                }
                FollowLine::Missed(missed) if !output.is_json() => {
                    output::note(&format!("{missed} records missed"));
                }
                told => output.line(told)?,
            }
            Ok(ControlFlow::Continue(()))
        };
        return context
            .client
            .follow_logs(&arguments.plugin, query, tell)
            .await;
    }
    let records = context.client.logs(&arguments.plugin, query).await?;
    if records.is_empty() && !context.output.is_json() {
        output::note("nothing logged that fits");
    }
    Ok(context.output.give(&records, |records| page(records))?)
}

fn page(records: &[LogRecord]) -> Page {
    let mut page = Page::default();
    for record in records {
        let mut line = format!(
            "{} #{} {:<6} {:<5} {}",
            record.time.to_rfc3339_opts(SecondsFormat::Millis, true),
            record.generation,
            word(&record.stream),
            word(&record.level),
            record.message
        );
        for (name, value) in &record.fields {
            line.push_str(&match value {
                serde_json::Value::String(text) => format!(" {name}={text:?}"),
                value => format!(" {name}={value}"),
            });
        }
        page.line(line);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_line_with_its_fields_and_nothing_that_a_terminal_obeys() {
        let records: Vec<LogRecord> = serde_json::from_value(serde_json::json!([{
            "time": "2025-03-01T08:00:00.5Z", "stream": "stderr", "level": "warn",
            "generation": 2, "message": "low\u{1b}[31m", "fields": { "left": 3, "of": "a b" },
        }]))
        .unwrap();
        assert_eq!(
            page(&records).to_string(),
            "2025-03-01T08:00:00.500Z #2 stderr warn  low\\u{1b}[31m left=3 of=\"a b\"\n"
        );
    }
}
