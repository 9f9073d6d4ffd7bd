//! `pinfold restore`: a backup in place of what is there. Verified before anything changes; what was
//! there is kept.

mod returning;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use chrono::Utc;
use pinfold_policy::{LauncherConfig, PluginId};
use pinfold_sandbox::uids::{UidError, Uids};
use serde::Serialize;

use self::returning::Returning;
use crate::cli::Context;
use crate::cli::archive::areas::{self, Area, DAEMON_CONFIG, IDS, KEYS, LAUNCHER_CONFIG};
use crate::cli::archive::error::{ArchiveError, file};
use crate::cli::archive::locks::Locks;
use crate::cli::archive::manifest::Incomplete;
use crate::cli::archive::mounted;
use crate::cli::archive::put::{self, Replaced};
use crate::cli::archive::read;
use crate::cli::archive::unpacked::Unpacked;
use crate::cli::archive::verify;
use crate::cli::args::RestoreArguments;
use crate::cli::confirm;
use crate::cli::exit::Failure;
use crate::cli::installation::Installation;
use crate::cli::output::Page;
use crate::cli::recorded;
use crate::config::Config;
use crate::keys;
use crate::pending::RESTORE;

/// What was restored, or would be.
#[derive(Serialize)]
struct Restored {
    version: String,
    created: String,
    host: String,
    entries: usize,
    is_dry_run: bool,
    replaced: Vec<Replaced>,
    /// Parts of the backup that have no place here.
    unplaced: Vec<&'static str>,
    /// What the backup has not, or not as it was.
    incomplete: Vec<Incomplete>,
    /// Keys that sign again, or sign otherwise.
    keys: Vec<Returning>,
}

pub(super) async fn run(context: &Context, arguments: &RestoreArguments) -> Result<(), Failure> {
    let installation = Installation::open(&context.place)?;
    let config = installation.config();
    let _locks = Locks::take(&context.place.state, &config.state_dir)?;
    // By the configuration that is here once all is in its place.
    let databases = match arguments.keep_configuration {
        true => areas::databases_here(&context.place)?,
        false => read::databases(&arguments.file)?,
    };
    let areas = areas::all(&context.place, config, &databases)?;
    let is_kept = |area: &Area| {
        let has_ids = area.name == IDS && area.path.exists();
        has_ids || (arguments.keep_configuration && area.is_configuration())
    };
    mounted::refuse(&arguments.file, areas.iter().filter(|area| !is_kept(area)))?;
    let mut unpacked = read::unpack(&arguments.file, &areas)?;
    if !arguments.keep_configuration {
        configuration(&unpacked, config)?;
    }
    verify::databases(&unpacked).await?;
    let mut restored = Restored {
        version: unpacked.manifest.version.clone(),
        created: unpacked.manifest.created.clone(),
        host: unpacked.manifest.host.clone(),
        entries: unpacked.manifest.entries.len(),
        is_dry_run: arguments.dry_run,
        replaced: Vec::new(),
        unplaced: unpacked.unplaced.iter().copied().collect(),
        incomplete: unpacked.manifest.incomplete.clone(),
        keys: match unpacked.at(KEYS) {
            Some(staged) => returning::of(staged, &config.keys_dir, keys::now())?,
            None => Vec::new(),
        },
    };
    let places = unpacked.staged.iter().filter(|one| !is_kept(&one.area));
    let places: Vec<Replaced> = places
        .map(|one| Replaced {
            path: one.area.path.clone(),
            kept: None,
        })
        .collect();
    if arguments.dry_run {
        restored.replaced = places;
        return Ok(context.output.give(&restored, page)?);
    }
    if !arguments.yes {
        let mut page = Page::default();
        page.line(format_args!(
            "backup of {} of {}, by version {}: {} entries, verified",
            restored.host, restored.created, restored.version, restored.entries
        ));
        page.line(AS_THEN);
        page.list(
            "takes the place of",
            places.iter().map(|one| one.path.display()),
        );
        page.list(SIGN_AGAIN, signing(&restored.keys))
            .list(NOT_ALL, listed(&restored.incomplete));
        context.output.beside(&page)?;
    }
    confirm::confirm("Restore it?", arguments.yes)?;
    // The daemon, which does not run, takes it into the trail that is put in place here.
    let subject = format!(
        "backup of {} of {}, by version {}",
        restored.host, restored.created, restored.version
    );
    let _waits = recorded::installation(context, &installation, RESTORE, &subject).await?;
    let ids = ids_here(&unpacked, config)?;
    unpacked.give(&ids)?;
    let mut staged = std::mem::take(&mut unpacked.staged);
    // A list of ids that came to be here meanwhile has those of the backup in it, or others' in their
    // place.
    let (kept, put): (Vec<_>, Vec<_>) = staged.drain(..).partition(|one| is_kept(&one.area));
    unpacked.staged = kept;
    let marker = context.place.unfinished_restore();
    let stamp = Utc::now().format("%Y%m%dT%H%M%S%3fZ").to_string();
    let done = put::put(&put, &marker, &stamp);
    // What was not put is removed with the rest.
    unpacked.staged.extend(put);
    restored.replaced = done?;
    Ok(context.output.give(&restored, page)?)
}

/// Both files are such as this version takes, and name the same places as here.
fn configuration(unpacked: &Unpacked, here: &LauncherConfig) -> Result<(), ArchiveError> {
    let refused = |name: &str, why: String| ArchiveError::Configuration {
        name: name.to_owned(),
        why,
    };
    if let Some(path) = unpacked.at(DAEMON_CONFIG) {
        let read = Config::read(path);
        read.map_err(|error| refused(DAEMON_CONFIG, crate::chain::Chain(&error).to_string()))?;
    }
    let Some(path) = unpacked.at(LAUNCHER_CONFIG) else {
        return Ok(());
    };
    let bytes = fs::read(path).map_err(file("read", path))?;
    let theirs = LauncherConfig::parse(&bytes)
        .map_err(|error| refused(LAUNCHER_CONFIG, crate::chain::Chain(&error).to_string()))?;
    let places = |config: &LauncherConfig| {
        let LauncherConfig {
            plugin_dir,
            policy_dir,
            keys_dir,
            state_dir,
            data_dir,
            dev_policy_dir,
            ..
        } = config.clone();
        [
            ("plugin-dir", Some(plugin_dir)),
            ("policy-dir", Some(policy_dir)),
            ("keys-dir", Some(keys_dir)),
            ("state-dir", Some(state_dir)),
            ("data-dir", data_dir),
            ("dev-policy-dir", dev_policy_dir),
        ]
    };
    let shown = |path: &Option<PathBuf>| {
        path.as_deref().map_or_else(
            || "nothing".into(),
            |path: &Path| path.display().to_string(),
        )
    };
    for ((key, ours), (_, other)) in places(here).iter().zip(places(&theirs).iter()) {
        if ours != other {
            return Err(ArchiveError::OtherPlaces {
                key,
                theirs: shown(other),
                ours: shown(ours),
            });
        }
    }
    Ok(())
}

/// The user ids that the backup's plugins have here: those that they had, where they are this
/// installation's to give.
fn ids_here(
    unpacked: &Unpacked,
    config: &LauncherConfig,
) -> Result<BTreeMap<PluginId, u32>, ArchiveError> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(BTreeMap::new());
    }
    let list = config.state_dir.join("uids.toml");
    if let (Some(staged), false) = (unpacked.at(IDS), list.exists()) {
        fs::copy(staged, &list).map_err(file("write", &list))?;
    }
    let mut ids = Uids::lease(
        config.uid_range,
        &config.uid_lease_dir,
        &config.state_dir,
        Path::new("/etc/passwd"),
        Path::new("/etc/subuid"),
    )
    .map_err(ArchiveError::Ids)?;
    let lasting = unpacked.lasting().into_iter();
    let lasting = lasting.filter(|plugin| unpacked.manifest.ids.contains_key(*plugin));
    let found: Result<_, UidError> = lasting
        .map(|plugin| Ok((plugin.clone(), ids.plugin(plugin)?)))
        .collect();
    found.map_err(ArchiveError::Ids)
}

/// What is so of every restore, and easily forgotten.
const AS_THEN: &str = "policies, keys and plugins are as they were then: what was revoked, refused or \
                       raised (least-version) since is undone";

/// What stands above the keys whose signatures count again.
const SIGN_AGAIN: &str = "keys that sign again, or sign otherwise, and what they are here";

fn signing(keys: &[Returning]) -> impl Iterator<Item = String> {
    let each = keys.iter();
    each.map(|one| format!("{}: {}", one.name, one.here))
}

/// What stands above what the backup has not.
const NOT_ALL: &str = "not in the backup, or not as it was";

fn listed(incomplete: &[Incomplete]) -> impl Iterator<Item = String> {
    let each = incomplete.iter();
    each.map(|one| format!("{}: {}", one.path, one.why))
}

fn page(restored: &Restored) -> Page {
    let mut page = Page::default();
    let Restored {
        version,
        created,
        host,
        entries,
        is_dry_run,
        replaced,
        unplaced,
        incomplete,
        keys,
    } = restored;
    page.line(format_args!(
        "backup of {host} of {created}, by version {version}: {entries} entries, verified"
    ));
    page.line(AS_THEN);
    let done = if *is_dry_run {
        "would replace"
    } else {
        "replaced"
    };
    let lines = replaced.iter().map(|one| match &one.kept {
        Some(kept) => format!("{} (kept: {})", one.path.display(), kept.display()),
        None => one.path.display().to_string(),
    });
    page.list(done, lines)
        .list("has no place here", unplaced)
        .list(SIGN_AGAIN, signing(keys))
        .list(NOT_ALL, listed(incomplete));
    if !is_dry_run {
        page.gap().line(
            "Start Pinfold, look at `pinfold doctor`, and remove what was kept once all is well.",
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_backup_has_not_is_told_by_its_restore() {
        let restored = |is_dry_run| Restored {
            version: "1.0.0".into(),
            created: "2026-11-21T03:15:00Z".into(),
            host: "host".into(),
            entries: 3,
            is_dry_run,
            replaced: Vec::new(),
            unplaced: Vec::new(),
            incomplete: vec![Incomplete {
                path: "state/hello/large".into(),
                why: "holes".into(),
            }],
            keys: vec![Returning {
                name: "release".parse().unwrap(),
                here: "revoked at 2026-11-20T09:00:00Z".into(),
            }],
        };
        for is_dry_run in [false, true] {
            let restored = restored(is_dry_run);
            let page = page(&restored).to_string();
            let told = "not in the backup, or not as it was\n  state/hello/large: holes\n";
            assert!(page.contains(told), "{page}");
            let told = "and what they are here\n  release: revoked at 2026-11-20T09:00:00Z\n";
            assert!(page.contains(told), "{page}");
            assert!(page.contains(AS_THEN), "{page}");
            let value = serde_json::to_value(&restored).unwrap();
            assert_eq!(value["incomplete"][0]["path"], "state/hello/large");
            assert_eq!(value["keys"][0]["name"], "release");
        }
    }
}
