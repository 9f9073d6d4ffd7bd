//! `pinfold status`: the daemon at a glance.

use chrono::Utc;
use pinfold_gateway::admin::dto::StatusView;

use crate::cli::Context;
use crate::cli::client::word;
use crate::cli::exit::Failure;
use crate::cli::output::Page;
use crate::cli::time;

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let status = context.client.status().await?;
    Ok(context.output.give(&status, page)?)
}

fn page(status: &StatusView) -> Page {
    let mut page = Page::default();
    page.line(format_args!(
        "pinfoldd {} is {}",
        status.version,
        word(&status.state)
    ));
    page.field("mode", &status.mode)
        .field("process", status.pid)
        .field("since", time::with_age(status.since, Utc::now()))
        .field("gateway", status.listeners.join(", "))
        .field("plugins", plugins(status))
        .list("warnings", &status.warnings);
    page
}

fn plugins(status: &StatusView) -> String {
    if status.plugins.is_empty() {
        return "none".into();
    }
    let counts: Vec<String> = status
        .plugins
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    counts.join(", ")
}
