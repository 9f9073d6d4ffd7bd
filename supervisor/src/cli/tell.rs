//! Telling the daemon that a plugin's files or policy have changed, and watching what it does.

use std::time::Duration;

use pinfold_gateway::admin::dto::{PluginDetail, RescanQuery};
use pinfold_policy::PluginId;
use tokio::time::{Instant, interval_at};

use super::client::{Client, ClientError};
use super::exit::{Exit, Failure};
use super::output::{self, Page};

/// How often the plugin's state is looked at while it starts, and how long nothing is said of it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What came of telling.
#[derive(Debug)]
pub(super) enum Told {
    /// The daemon does not run: what was written counts when it starts.
    NotRunning,
    /// The plugin is no more.
    Gone,
    /// It was started, or tried to.
    Plugin(Box<PluginDetail>),
}

/// A plugin does not serve after it was started.
#[derive(Debug, thiserror::Error)]
#[error("plugin {:?} {}{}", .plugin.as_str(), participle(.state), after_colon(.reason.as_deref()))]
pub(super) struct NotServing {
    plugin: PluginId,
    state: String,
    reason: Option<String>,
}

/// What was to be started anew is not taken, and the instance before it goes on.
#[derive(Debug, thiserror::Error)]
#[error(
    "plugin {:?} goes on with the files and the policy that it had: {reason}",
    .plugin.as_str()
)]
pub(super) struct NotTaken {
    plugin: PluginId,
    reason: String,
}

/// A state as a sentence has it: of what has failed one does not say that it is.
fn participle(state: &str) -> String {
    match state {
        "failed" => "has failed".into(),
        state => format!("is {state}"),
    }
}

fn after_colon(text: Option<&str>) -> String {
    text.map_or_else(String::new, |text| format!(": {text}"))
}

/// Has the daemon look at the plugin, and waits until it serves or has failed; says on a terminal
/// where it is when that takes long.
pub(super) async fn tell(
    client: &Client,
    plugin: &PluginId,
    why: &RescanQuery,
) -> Result<Told, ClientError> {
    let rescan = client.rescan(plugin, why);
    tokio::pin!(rescan);
    let mut ticks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
    let mut shown = String::new();
    let answer = loop {
        tokio::select! {
            answer = &mut rescan => break answer,
            _ = ticks.tick() => {
                if !output::is_watched() {
                    continue;
                }
                if let Ok(detail) = client.plugin(plugin).await
                    && detail.view.state != shown
                {
                    output::note(&format!("{plugin} is {} …", detail.view.state));
                    shown = detail.view.state;
                }
            }
        }
    };
    match answer {
        Ok(Some(detail)) => Ok(Told::Plugin(Box::new(detail))),
        Ok(None) => Ok(Told::Gone),
        Err(ClientError::NotRunning { .. }) => Ok(Told::NotRunning),
        Err(error) => Err(error),
    }
}

/// Says that the daemon did not hear of it.
pub(super) fn note_not_running(what: &str, development: bool) {
    output::note(&format!("pinfoldd is not running: {what}"));
    output::hint(if development {
        "start it with `make run`"
    } else {
        "start the service; `systemctl status 'pinfold*'` shows it"
    });
}

/// How a plugin that was started serves, for people.
pub(super) fn page(detail: &PluginDetail) -> Page {
    let view = &detail.view;
    let mut page = Page::default();
    page.line(format_args!(
        "plugin {} {} is {} (generation {})",
        view.id, view.version, view.state, view.generation
    ));
    for url in &detail.urls {
        page.line(format_args!("  {url}"));
    }
    page.list("not served:", &detail.refused);
    page.list("asked, granted and registered differ:", &detail.differences);
    if !detail.missing_controls.is_empty() {
        let ids: Vec<&str> = detail
            .missing_controls
            .iter()
            .map(|control| control.id.as_str())
            .collect();
        page.gap().line(format_args!(
            "not in force around it: {} (`pinfold posture {}` says why)",
            ids.join(", "),
            view.id
        ));
    }
    page
}

/// Refuses a plugin that does not serve as it is now, with its reason and the daemon's hint.
pub(super) fn check(detail: &PluginDetail) -> Result<(), Failure> {
    let view = &detail.view;
    // Told of its files and policy, the daemon has tried them: this is what came of it.
    if let Some(rejected) = &detail.rejected {
        let (reason, hint) = split_hint(&rejected.reason);
        let failure = Failure::new(
            Exit::Failed,
            NotTaken {
                plugin: view.id.clone(),
                reason: reason.unwrap_or_default().to_owned(),
            },
        );
        return Err(match hint {
            Some(hint) => failure.hint(hint),
            None => failure.hint(format!(
                "`pinfold plugin logs {}` shows what it printed; `pinfold plugin disable {}` ends it",
                view.id, view.id
            )),
        });
    }
    check_serves(detail)
}

/// Refuses a plugin that does not serve, with its reason and the daemon's hint.
pub(super) fn check_serves(detail: &PluginDetail) -> Result<(), Failure> {
    let view = &detail.view;
    if view.is_loaded() {
        return Ok(());
    }
    let (reason, hint) = view.reason.as_deref().map_or((None, None), split_hint);
    let failure = Failure::new(
        Exit::Failed,
        NotServing {
            plugin: view.id.clone(),
            state: view.state.clone(),
            reason: reason.map(str::to_owned),
        },
    );
    Err(match hint {
        Some(hint) => failure.hint(hint),
        None => failure.hint(format!(
            "`pinfold plugin logs {}` shows what it printed",
            view.id
        )),
    })
}

/// A reason as the daemon gives it, `why (hint: what to do)`, in its two parts.
fn split_hint(text: &str) -> (Option<&str>, Option<&str>) {
    match text
        .strip_suffix(')')
        .and_then(|text| text.rsplit_once(" (hint: "))
    {
        Some((reason, hint)) => (Some(reason), Some(hint)),
        None => (Some(text), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_serve_is_said_with_its_reason() {
        let not_serving = |state: &str, reason: Option<&str>| {
            NotServing {
                plugin: "hello".parse().unwrap(),
                state: state.into(),
                reason: reason.map(str::to_owned),
            }
            .to_string()
        };
        assert_eq!(
            not_serving("failed", Some("exited with status 1")),
            r#"plugin "hello" has failed: exited with status 1"#
        );
        assert_eq!(not_serving("blocked", None), r#"plugin "hello" is blocked"#);
    }

    #[test]
    fn a_reason_with_a_hint_is_taken_apart() {
        assert_eq!(
            split_hint("mount (x): no (hint: do (this))"),
            (Some("mount (x): no"), Some("do (this)"))
        );
        assert_eq!(
            split_hint("it ended (early)"),
            (Some("it ended (early)"), None)
        );
    }
}
