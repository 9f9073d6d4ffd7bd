//! Calls of the host: decided as the dispatcher decides them.

use pinfold_hostapi::{HostCall, HostError, would_permit};
use pinfold_policy::{Effective, Permissions, PluginId, sources};

use super::{Decided, Decision};
use crate::cli::commands::policy::origin::Origin;
use crate::cli::exit::Failure;
use crate::cli::review::{self, Policy, Review};

pub(super) fn decide(
    review: &Review,
    plugin: &PluginId,
    policy: &Policy,
    call: &HostCall,
) -> Result<Decided, Failure> {
    let declared = review.declared(plugin)?;
    let granted = &policy.file.permissions;
    let asked = &declared.manifest.asked;
    let would = |granted: &Permissions, asked: &Permissions| {
        would_permit(&Effective::new(granted.clone(), vec![asked.clone()]), call)
    };
    let manifest = review.directory(plugin).join(declared.manifest_file);
    let lines = |paths: Vec<String>| -> Vec<Origin> {
        let mut origins: Vec<Origin> = paths
            .iter()
            .map(|path| {
                let place = policy.places.nearest(path);
                Origin::of("policy", Some(&policy.path), &policy.places, place)
            })
            .collect();
        origins.dedup();
        origins
    };
    let by_grants = || lines(sources(granted, |part| would(part, part).is_ok()));
    let error = match would(granted, asked) {
        Ok(permitted) => {
            let why = "granted by the policy, and asked for by the manifest";
            let mut by = by_grants();
            by.push(Origin::file("manifest", &manifest));
            let mut decided = Decided::new(Decision::Allowed, why, by);
            if permitted.by_name {
                decided.notes.push(
                    "every address that the name leads to is vetted when it is looked up: those \
                     that are not public are refused unless `addresses` grants their network"
                        .into(),
                );
            }
            if permitted.reaches_further {
                decided.notes.push(
                    "tables that foreign keys carry the change on to need write access as well: \
                     only the database knows them"
                        .into(),
                );
            }
            return Ok(decided);
        }
        Err(error) => error,
    };
    let why = review::chain(&error);
    if !matches!(error, HostError::Refused(_)) {
        let why = format!("{why}: whatever is granted");
        return Ok(Decided::new(
            Decision::Refused,
            why,
            vec![Origin::default()],
        ));
    }
    if would(granted, granted).is_ok() {
        let why = format!("{why}: granted by the policy, and not asked for by the manifest");
        let mut by = by_grants();
        by.push(Origin::file("manifest", &manifest));
        let mut decided = Decided::new(Decision::Refused, why, by);
        decided.notes.push(
            "it is allowed where the plugin asks for it when it registers: `pinfold plugin show` \
             says so of a running one"
                .into(),
        );
        return Ok(decided);
    }
    let why = format!("{why}: no line of the policy grants it, and what is not granted is refused");
    let near = lines(near(granted, call));
    let mut decided = Decided::new(Decision::Refused, why, vec![Origin::default()]);
    decided.notes = near
        .iter()
        .filter_map(|origin| Some(format!("granted is, {origin}: {}", origin.text()?)))
        .collect();
    Ok(decided)
}

/// The paths of the grants of the same service.
fn near(granted: &Permissions, call: &HostCall) -> Vec<String> {
    let service = match call.service() {
        "plugin" => "plugin-call",
        service => service,
    };
    let prefix = format!("permissions.{service}");
    let of_service = |path: &String| {
        let rest = path.strip_prefix(&prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.']))
    };
    let paths = granted.grains().into_iter().map(|grain| grain.path);
    paths.filter(of_service).collect()
}
