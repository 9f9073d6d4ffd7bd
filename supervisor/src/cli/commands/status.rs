//! `pinfold status`: the daemon at a glance, and what to do first.

use std::collections::BTreeMap;

use chrono::Utc;
use pinfold_gateway::admin::dto::{PluginView, StatusView, TokenView};

use crate::cli::Context;
use crate::cli::client::word;
use crate::cli::exit::Failure;
use crate::cli::output::Page;
use crate::cli::time;

use super::log_level;

/// Plugins that are listed; `pinfold plugin list` has all.
const LISTED: usize = 20;

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let status = context.client.status().await?;
    if context.output.is_json() {
        return Ok(context.output.json(&status)?);
    }
    let plugins = context.client.plugins().await?;
    let tokens = context.client.tokens().await?;
    let mut page = page(&status, &plugins);
    page.list("next", next(&plugins, &tokens, context.development));
    Ok(context.output.page(&page)?)
}

fn page(status: &StatusView, plugins: &[PluginView]) -> Page {
    let mut page = Page::default();
    let late = match status.still_starting {
        0 => String::new(),
        count => format!("; plugins still starting: {count}"),
    };
    page.line(format_args!(
        "pinfoldd {} is {}{late}",
        status.version,
        word(&status.state)
    ));
    page.field("mode", &status.mode)
        .field("process", status.pid)
        .field("since", time::with_age(status.since, Utc::now()))
        .field("gateway", status.listeners.join(", "))
        .field("plugins", counts(&status.plugins, "none"))
        .field("handover", counts(&status.handover, ""))
        .field(
            "log",
            status
                .log
                .as_ref()
                .map_or_else(String::new, log_level::line),
        );
    page.list("plugins", plugins.iter().take(LISTED).map(line));
    if plugins.len() > LISTED {
        page.line("  … and more: pinfold plugin list");
    }
    page.list("warnings", &status.warnings);
    page
}

/// A plugin: what of it is signed too, where it runs.
fn line(plugin: &PluginView) -> String {
    let PluginView {
        id, version, state, ..
    } = plugin;
    let signed = match plugin.signed() {
        Some(_) => format!(", signed: {}", plugin.signed_now()),
        None => String::new(),
    };
    let reason = plugin.reason.as_deref();
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{id} {version} {state}{signed}{reason}")
}

fn counts(counted: &BTreeMap<String, usize>, none: &str) -> String {
    if counted.is_empty() {
        return none.into();
    }
    let counts: Vec<String> = counted
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    counts.join(", ")
}

/// What is to be done where something that is needed is not there yet.
fn next(plugins: &[PluginView], tokens: &[TokenView], development: bool) -> Vec<String> {
    let command = if development {
        "pinfold --dev"
    } else {
        "sudo pinfold"
    };
    let mut next = Vec::new();
    let now = Utc::now();
    let is_good = |token: &TokenView| {
        token.revoked.is_none() && token.expires.is_none_or(|expires| expires > now)
    };
    if !tokens.iter().any(is_good) {
        next.push(format!(
            "make a token for the gateway:  {command} token create NAME --user NAME --role admin"
        ));
    }
    if plugins.is_empty() {
        next.push(format!(
            "trust who signs your plugins:  {command} keys trust FILE.pub --plugin 'NAME'"
        ));
        next.push(format!(
            "put a plugin in:               {command} plugin add DIRECTORY"
        ));
        next.push(format!("see that all is well:          {command} doctor"));
    }
    next
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn token(revoked: bool) -> TokenView {
        TokenView {
            id: "1".into(),
            name: "ci".into(),
            user: "ci".into(),
            roles: vec![],
            created: DateTime::UNIX_EPOCH,
            expires: None,
            revoked: revoked.then_some(DateTime::UNIX_EPOCH),
        }
    }

    #[test]
    fn at_the_first_run_it_says_how_to_make_a_token_and_put_a_plugin_in() {
        let lines = next(&[], &[], false).join("\n");
        assert!(lines.contains("sudo pinfold token create"), "{lines}");
        assert!(lines.contains("sudo pinfold plugin add"), "{lines}");
        let lines = next(&[], &[token(true)], true).join("\n");
        assert!(lines.contains("pinfold --dev token create"), "{lines}");
        assert!(
            !next(&[], &[token(false)], true)
                .join("\n")
                .contains("token")
        );
    }
}
