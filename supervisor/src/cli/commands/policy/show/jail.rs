//! What of the jail is not the policy's: the launch template and the syscall profile.

use std::collections::BTreeMap;

use pinfold_policy::{Places, PluginId, TemplateInput};
use pinfold_sandbox::launcher::review::{FilesError, ProfileUse, ReviewedTemplate};
use pinfold_sandbox::seccomp::{Group, GroupAction};

use super::{Row, Rows};
use crate::cli::commands::policy::origin::Origin;
use crate::cli::exit::{Exit, Failure};
use crate::cli::review::Review;

/// A template or profile that the policy names and that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("what the policy names cannot be used")]
struct NotUsable(#[source] FilesError);

fn not_usable(error: FilesError) -> Failure {
    Failure::new(Exit::Config, NotUsable(error)).hint("`pinfold policy check` says where")
}

/// The template of the policy's dialect, and where its text says what.
fn reviewed_template(
    review: &Review,
    rows: &Rows<'_>,
) -> Result<(ReviewedTemplate, Places), Failure> {
    let reviewed = review
        .files
        .template(&rows.file().dialect)
        .map_err(not_usable)?;
    let places = Places::of(&reviewed.text);
    Ok((reviewed, places))
}

fn of_template(reviewed: &ReviewedTemplate, places: &Places, path: &str) -> Origin {
    Origin::of(
        "template",
        reviewed.path.as_deref(),
        places,
        places.nearest(path),
    )
}

pub(super) fn template(
    review: &Review,
    plugin: &PluginId,
    rows: &Rows<'_>,
) -> Result<Vec<Row>, Failure> {
    let (reviewed, places) = reviewed_template(review, rows)?;
    let template = &reviewed.template;
    let row = |key: &str, value: String| Row {
        key: key.to_owned(),
        value,
        origin: of_template(&reviewed, &places, key),
    };
    let mut all = vec![
        row("working-directory", template.working_directory.clone()),
        row("tmp-directory", template.tmp_directory(plugin)),
        row("state", template.state.to_string()),
    ];
    // In the order of the template's own keys, which the plugin's name does not change.
    for ((path, target), written) in template.links(plugin).zip(template.links.keys()) {
        all.push(Row {
            key: format!("link {path}"),
            value: target,
            origin: of_template(&reviewed, &places, &format!("links.{written}")),
        });
    }
    Ok(all)
}

/// The variables of the program, but for the values that only a launch knows.
pub(super) fn environment(
    review: &Review,
    plugin: &PluginId,
    rows: &Rows<'_>,
) -> Result<Vec<Row>, Failure> {
    let (reviewed, places) = reviewed_template(review, rows)?;
    let template = &reviewed.template;
    let input = TemplateInput {
        plugin,
        granted: &rows.file().permissions,
        policy_env: &rows.file().env,
        from_daemon: &BTreeMap::new(),
        host_env: &BTreeMap::new(),
    };
    // Only values of the daemon can be refused, and there are none.
    let fixed = template.environment(input).unwrap_or_default();
    let has_http = !input.granted.http.is_empty();
    let mut all: Vec<Row> = fixed
        .into_iter()
        .map(|(name, value)| {
            let in_policy = format!("env.{name}");
            let origin = match (name.as_str(), rows.file().env.contains_key(&name)) {
                ("HOME" | "TMPDIR", _) => of_template(&reviewed, &places, "tmp-directory"),
                (_, true) => rows.origin(&in_policy),
                (name, false) => {
                    let section = match has_http {
                        true if template.env_with_http.contains_key(name) => "env-with-http",
                        false if template.env_without_http.contains_key(name) => "env-without-http",
                        _ => "env",
                    };
                    of_template(&reviewed, &places, &format!("{section}.{name}"))
                }
            };
            Row {
                key: name,
                value,
                origin,
            }
        })
        .collect();
    let in_policy = |name: &String| rows.file().env.contains_key(name);
    for (at, name) in template.env_from_host.iter().enumerate() {
        if !in_policy(name) {
            all.push(Row {
                key: name.clone(),
                value: "(the host's, where it has one)".into(),
                origin: of_template(&reviewed, &places, &format!("env-from-host[{at}]")),
            });
        }
    }
    for (name, bounds) in &template.from_daemon {
        all.push(Row {
            key: name.clone(),
            value: format!(
                "(the daemon's at launch, at most {} bytes)",
                bounds.max_bytes
            ),
            origin: of_template(&reviewed, &places, &format!("from-daemon.{name}")),
        });
    }
    all.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(all)
}

/// The groups of the profile and what becomes of their calls.
pub(super) fn profile(review: &Review, rows: &Rows<'_>) -> Result<Vec<Row>, Failure> {
    let reviewed = review
        .files
        .profile(ProfileUse::of(rows.file()))
        .map_err(not_usable)?;
    let places = Places::of(&reviewed.text);
    let profile = &reviewed.profile;
    let origin = |path: &str| {
        Origin::of(
            "profile",
            reviewed.path.as_deref(),
            &places,
            places.value(path),
        )
    };
    let digest: String = profile
        .digest()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut all = vec![
        Row {
            key: "name".into(),
            value: profile.name().to_owned(),
            origin: origin("name"),
        },
        Row {
            key: "digest".into(),
            value: format!("sha256:{digest}"),
            origin: Origin::of("profile", reviewed.path.as_deref(), &places, None),
        },
        Row {
            key: "other calls".into(),
            value: profile.default_action().to_string(),
            origin: origin("default"),
        },
    ];
    for group in profile.groups() {
        let quoted = format!("\"{}\"", group.name());
        let find = |list: &str, key: &str| {
            (0..)
                .map(|at| format!("{list}[{at}].{key}"))
                .take_while(|path| places.value(path).is_some())
                .find(|path| places.raw(path) == Some(quoted.as_str()))
        };
        let path = find("group", "name").or_else(|| find("narrow", "group"));
        all.push(Row {
            key: group.name().to_owned(),
            value: what_of(group),
            origin: origin(&path.unwrap_or_default()),
        });
    }
    Ok(all)
}

fn what_of(group: &Group) -> String {
    let calls = group.calls().len();
    let plural = if calls == 1 { "" } else { "s" };
    let action = match group.action() {
        GroupAction::Fixed(action) => action.to_string(),
        GroupAction::Optional {
            on, enabled: true, ..
        } => format!("{on} (switched on)"),
        GroupAction::Optional { off, .. } => format!("{off} (optional, off)"),
    };
    format!("{action}, {calls} call{plural}")
}
