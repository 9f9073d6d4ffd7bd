//! Calls of the host, and tunnels out of the jail: decided as the dispatcher decides them.

use pinfold_hostapi::{HostCall, HostError, Permitted, would_permit, would_permit_tunnel};
use pinfold_policy::{Effective, Permissions, PluginId, sources};

use super::{Decided, Decision};
use crate::cli::commands::policy::origin::Origin;
use crate::cli::exit::{Exit, Failure};
use crate::cli::review::{self, Policy, Review};

/// What a plugin would do.
pub(super) enum Asked<'a> {
    /// A call of the host.
    Call(&'a HostCall),
    /// A tunnel to this host and port, through the proxy in its jail.
    Tunnel(&'a str),
}

impl Asked<'_> {
    fn would(&self, permissions: &Effective) -> Result<Permitted, HostError> {
        match self {
            Self::Call(call) => would_permit(permissions, call),
            Self::Tunnel(authority) => would_permit_tunnel(permissions, authority),
        }
    }

    fn service(&self) -> &'static str {
        match self {
            Self::Call(call) => call.service(),
            Self::Tunnel(_) => "http",
        }
    }
}

/// Why nothing in the jail could ask for a tunnel, whatever is granted.
fn no_way_out(review: &Review, policy: &Policy) -> Result<Option<Decided>, Failure> {
    let dialect = &policy.file.dialect;
    let (why, key) = if !policy.file.loopback {
        let why = "loopback = false: there is no proxy in the jail, whatever is granted";
        (why.to_owned(), "loopback")
    } else {
        let reviewed = review.files.template(dialect);
        let reviewed = reviewed.map_err(|error| Failure::new(Exit::Config, error))?;
        if reviewed.template.http_proxy_port.is_some() {
            return Ok(None);
        }
        let why = format!(
            "the launch template of dialect {dialect:?} has no http-proxy-port: there is no proxy in \
             the jail, whatever is granted"
        );
        (why, "dialect")
    };
    let place = policy.places.value(key);
    let by = Origin::of("policy", Some(&policy.path), &policy.places, place);
    Ok(Some(Decided::new(Decision::Refused, why, vec![by])))
}

pub(super) fn decide(
    review: &Review,
    plugin: &PluginId,
    policy: &Policy,
    asked_for: &Asked<'_>,
) -> Result<Decided, Failure> {
    if let Asked::Tunnel(_) = asked_for
        && let Some(decided) = no_way_out(review, policy)?
    {
        return Ok(decided);
    }
    let declared = review.declared(plugin)?;
    let granted = &policy.file.permissions;
    let asked = &declared.manifest.asked;
    let would = |granted: &Permissions, asked: &Permissions| {
        asked_for.would(&Effective::new(granted.clone(), vec![asked.clone()]))
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
            if let Asked::Tunnel(_) = asked_for {
                decided.notes.push(
                    "what is said inside a tunnel, methods and paths included, nobody sees".into(),
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
    let near = lines(near(granted, asked_for.service()));
    let mut decided = Decided::new(Decision::Refused, why, vec![Origin::default()]);
    decided.notes = near
        .iter()
        .filter_map(|origin| Some(format!("granted is, {origin}: {}", origin.text()?)))
        .collect();
    Ok(decided)
}

/// The paths of the grants of the same service.
fn near(granted: &Permissions, service: &str) -> Vec<String> {
    let service = match service {
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
