//! `pinfold log-level`: what the daemon's own log goes by, now and for a while.

use chrono::Utc;
use pinfold_gateway::admin::dto::{LogFilterView, NewLogFilter};

use crate::cli::Context;
use crate::cli::args::LogLevelArguments;
use crate::cli::exit::Failure;
use crate::cli::output::Page;
use crate::cli::time;

pub(super) async fn run(context: &Context, arguments: &LogLevelArguments) -> Result<(), Failure> {
    let client = &context.client;
    let view = match &arguments.filter {
        Some(filter) => {
            let wanted = NewLogFilter {
                filter: filter.clone(),
                seconds: arguments.time.map(|time| time.0.as_secs()),
            };
            client.set_log_filter(&wanted).await?
        }
        None if arguments.reset => client.reset_log_filter().await?,
        None => client.log_filter().await?,
    };
    Ok(context.output.give(&view, |view| {
        let mut page = Page::default();
        page.line(line(view));
        page
    })?)
}

/// The filter that is in force, and until when.
pub(super) fn line(view: &LogFilterView) -> String {
    let LogFilterView {
        filter,
        configured,
        until,
    } = view;
    let then = format!("configured: {configured}");
    match until {
        _ if filter == configured && until.is_none() => filter.clone(),
        Some(until) => {
            let left = time::age(Utc::now(), *until);
            format!("{filter}, for another {left} ({then})")
        }
        None => format!("{filter}, until the daemon ends ({then})"),
    }
}
