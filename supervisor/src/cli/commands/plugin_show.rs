//! `pinfold plugin show`: everything about one plugin.

use std::collections::BTreeMap;
use std::fmt::Display;

use chrono::Utc;
use pinfold_gateway::admin::dto::{ControlState, EventQuery, EventView, PluginDetail};
use pinfold_policy::PluginId;
use serde::Serialize;

use super::events;
use crate::cli::Context;
use crate::cli::client::word;
use crate::cli::exit::Failure;
use crate::cli::output::Page;
use crate::cli::time;

pub(super) async fn run(context: &Context, plugin: &PluginId) -> Result<(), Failure> {
    let detail = context.client.plugin(plugin).await?;
    let query = EventQuery {
        limit: EVENTS,
        plugin: Some(plugin.clone()),
        ..EventQuery::default()
    };
    let events = context.client.events(&query).await?;
    let shown = Shown { detail, events };
    Ok(context
        .output
        .give(&shown, |shown| page(&shown.detail, &shown.events))?)
}

/// Latest events that are shown: some starts and ends.
const EVENTS: usize = 12;

/// What the result is made of.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    detail: PluginDetail,
    events: Vec<EventView>,
}

fn page(detail: &PluginDetail, events: &[EventView]) -> Page {
    let view = &detail.view;
    let mut page = Page::default();
    page.line(format_args!(
        "{} {} is {}",
        view.id, view.version, view.state
    ))
    .field("why", view.reason.as_deref().unwrap_or_default())
    .field("about", &view.description)
    .field("author", &view.author)
    .field("license", &view.license)
    .field("dialect", &view.dialect)
    .field("enabled", if view.enabled { "yes" } else { "no" })
    .field("since", time::with_age(view.since, Utc::now()))
    .field("generation", view.generation)
    .field(
        "process",
        detail.pid.map_or_else(String::new, |pid| {
            let start = if detail.taken_over {
                ", taken over"
            } else {
                ""
            };
            format!("{pid}{start}")
        }),
    )
    .field("handover", detail.handover.as_deref().unwrap_or_default())
    .field("digest", detail.digest.as_deref().unwrap_or_default())
    .field("trust", view.trust.as_deref().unwrap_or_default())
    .field(
        "WATCHED",
        view.watched_until.map_or_else(String::new, |until| {
            format!(
                "until {}: each of its system calls is noted",
                time::exact(until)
            )
        }),
    )
    .field(
        "but now",
        view.trust_lost.as_deref().map_or_else(String::new, |why| {
            format!("it could not be started again: {why}")
        }),
    )
    .field("last exit", detail.last_exit.as_deref().unwrap_or_default())
    .field("restarts", detail.restarts)
    .field(
        "next start",
        detail.next_start.map_or_else(String::new, time::exact),
    )
    .field("health", health(detail));
    if let Some(rejected) = &detail.rejected {
        let digest = rejected.digest.as_deref().unwrap_or("files unread");
        page.list(
            "newer version not taken, this one goes on",
            [
                format!("{digest}, {}", time::with_age(rejected.time, Utc::now())),
                rejected.reason.clone(),
            ],
        );
    }
    page.list("routes", routes(detail))
        .list("urls", &detail.urls)
        .list("not served", &detail.refused)
        .list("granted", or_nothing(&detail.granted))
        .list(
            "asked by the manifest",
            or_nothing(&detail.asked_by_manifest),
        )
        .list("asked when it registered", registered(detail))
        .list("differences", &detail.differences)
        .list("manifest", pairs(&detail.manifest))
        .list("limits", pairs(&detail.limits))
        .list("not in force around it", missing(detail))
        .list("counters", pairs(&detail.stats))
        .list("latest events", events.iter().map(events::line));
    page
}

/// What it answered when it was asked whether it lives; nothing where it was not asked.
fn health(detail: &PluginDetail) -> String {
    let Some(health) = &detail.health else {
        return String::new();
    };
    match (health.failures, health.round_trip_seconds) {
        (0, Some(seconds)) => format!("answers within {:.1} ms", seconds * 1e3),
        (0, None) => String::new(),
        (failures, _) => format!("has not answered {failures} times in a row"),
    }
}

fn routes(detail: &PluginDetail) -> impl Iterator<Item = String> {
    detail.view.routes.iter().map(|route| {
        let needs: Vec<String> = route.middleware.iter().map(word).collect();
        let needs = if needs.is_empty() {
            "public".to_owned()
        } else {
            needs.join(", ")
        };
        format!(
            "{} {} → {} ({needs}) {}",
            route.method.as_str(),
            route.path,
            route.handler,
            route.description
        )
    })
}

fn or_nothing(lines: &[String]) -> Vec<&str> {
    if lines.is_empty() {
        return vec!["nothing"];
    }
    lines.iter().map(String::as_str).collect()
}

fn registered(detail: &PluginDetail) -> Vec<&str> {
    match &detail.asked_by_registration {
        Some(lines) => or_nothing(lines),
        None if detail.view.is_loaded() => vec!["it said nothing of permissions"],
        None => vec!["it has not registered"],
    }
}

fn pairs<V: Display>(map: &BTreeMap<String, V>) -> impl Iterator<Item = String> {
    let width = map.keys().map(String::len).max().unwrap_or_default();
    map.iter()
        .map(move |(name, value)| format!("{name:<width$}  {value}"))
}

fn missing(detail: &PluginDetail) -> impl Iterator<Item = String> {
    detail.missing_controls.iter().map(|control| {
        let state = match control.state {
            ControlState::NotBuilt => "not built",
            ControlState::Failed => "failed",
            _ => "missing",
        };
        let reason = control
            .reason
            .as_deref()
            .filter(|reason| !reason.starts_with(state));
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        format!("{} ({state}){reason}", control.id)
    })
}
