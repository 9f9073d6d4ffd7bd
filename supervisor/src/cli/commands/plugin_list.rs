//! `pinfold plugin list`: the plugins at a glance.

use chrono::{DateTime, Utc};
use pinfold_gateway::admin::dto::PluginView;

use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::output::Page;
use crate::cli::time;

/// Most characters of the last column: `plugin show` has the rest.
const REMARK_LIMIT_CHARACTERS: usize = 120;

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let plugins = context.client.plugins().await?;
    Ok(context
        .output
        .give(&plugins, |plugins| page(plugins, Utc::now()))?)
}

fn page(plugins: &[PluginView], now: DateTime<Utc>) -> Page {
    let mut page = Page::default();
    if plugins.is_empty() {
        page.line("There are no plugins: `pinfold plugin add DIRECTORY` puts one in.");
        return page;
    }
    page.table(
        [
            "PLUGIN", "VERSION", "STATE", "SINCE", "SIGNED", "ROUTES", "ABOUT",
        ],
        plugins.iter().map(|plugin| {
            [
                plugin.id.to_string(),
                plugin.version.clone(),
                state(plugin),
                time::age(plugin.since, now),
                plugin.signed_now(),
                plugin.routes.len().to_string(),
                remark(plugin),
            ]
        }),
    );
    page
}

/// Its state; that it is watched is not to be overlooked.
fn state(plugin: &PluginView) -> String {
    match plugin.watched_until {
        Some(_) => format!("{}, WATCHED", plugin.state),
        None => plugin.state.clone(),
    }
}

/// Why it does not serve, else what it is.
fn remark(plugin: &PluginView) -> String {
    let text = match &plugin.reason {
        Some(reason) if !plugin.is_loaded() => reason,
        _ => &plugin.description,
    };
    let mut remark: String = text.chars().take(REMARK_LIMIT_CHARACTERS).collect();
    if remark.len() < text.len() {
        remark.push('…');
    }
    remark
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_plugin_is_a_line_and_a_failed_one_says_why() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let hello = PluginView {
            id: "hello".parse().unwrap(),
            name: "hello".into(),
            version: "1.0.0".into(),
            description: "Greets".into(),
            author: String::new(),
            license: String::new(),
            dialect: "goatflow".into(),
            state: "ready".into(),
            generation: 1,
            enabled: true,
            routes: Vec::new(),
            since: now,
            reason: None,
            trust: Some("package signed by \"release\"".into()),
            trust_lost: None,
            trust_unknown: false,
            watched_until: None,
        };
        let failed = PluginView {
            id: "mailer".parse().unwrap(),
            state: "failed".into(),
            reason: Some("exit code 1\x1b[2J".into()),
            trust: None,
            ..hello.clone()
        };
        let revoked = PluginView {
            id: "old".parse().unwrap(),
            trust_lost: Some("key \"release\" was revoked".into()),
            ..hello.clone()
        };
        let unasked = PluginView {
            id: "slow".parse().unwrap(),
            trust_unknown: true,
            ..hello.clone()
        };
        assert_eq!(
            page(&[hello, failed, revoked, unasked], now).to_string(),
            "PLUGIN  VERSION  STATE   SINCE  SIGNED         ROUTES  ABOUT\n\
             hello   1.0.0    ready   0s     package        0       Greets\n\
             mailer  1.0.0    failed  0s     -              0       exit code 1\\u{1b}[2J\n\
             old     1.0.0    ready   0s     package, LOST  0       Greets\n\
             slow    1.0.0    ready   0s     package, ?     0       Greets\n"
        );
        assert!(page(&[], now).to_string().contains("plugin add"));
    }
}
