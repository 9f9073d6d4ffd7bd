//! Policies, by the rules of `pinfold policy check`, and signatures: keys that end soon, plugins that
//! nobody signed.

use std::collections::BTreeSet;
use std::fs;

use pinfold_policy::lint::Severity;
use pinfold_policy::{Moment, PluginId, RequireSignatures, Standing};

use super::super::policy::check;
use super::{Findings, Patient, command, in_place};
use crate::cli::exit::Failure;
use crate::cli::review::{Review, chain};
use crate::keys;

const POLICIES: &str = "policies";
const SIGNATURES: &str = "signatures";
/// A key that ends sooner is told of.
const SOON_SECONDS: u64 = 30 * 86_400;

pub(super) fn look(patient: &Patient<'_>, found: &mut Findings) -> Result<(), Failure> {
    let Some(review) = &patient.review else {
        return Ok(());
    };
    let plugins = match review.policies() {
        Ok((plugins, _)) => plugins,
        Err(error) => {
            found.note(POLICIES, format!("{}: run it with sudo", chain(&error)));
            return Ok(());
        }
    };
    let command = command(patient.is_service);
    policies(review, patient.is_service, found);
    without_policy(review, &plugins, command, found);
    let unsigned = unsigned(review, &plugins);
    if !unsigned.is_empty() {
        let message = format!("nobody has signed what may run as {}", unsigned.join(", "));
        let mend =
            "have the publisher sign it (`pinfold sign --package`), trust the key, and grant again";
        match review.requires_signatures() {
            RequireSignatures::None if patient.is_service => found.warn(SIGNATURES, message, mend),
            RequireSignatures::None => found.note(SIGNATURES, message),
            // That is an error of the policy, which is told above.
            _ => {}
        }
    }
    expiring(review, command, found);
    Ok(())
}

fn policies(review: &Review, is_service: bool, found: &mut Findings) {
    let checked = match check::all(review) {
        Ok(checked) => checked,
        Err(failure) => {
            found.fail(
                POLICIES,
                failure.to_string(),
                "run it with sudo, or mend what it names",
            );
            return;
        }
    };
    let (mut wide, mut refused) = (0, false);
    for one in &checked {
        let errors = one
            .findings
            .iter()
            .filter(|it| it.severity == Severity::Error);
        for error in errors {
            refused = true;
            let line = error
                .place
                .map_or_else(String::new, |place| format!(":{}", place.line));
            found.fail(
                POLICIES,
                format!("{}{line}: {}", one.path.display(), error.message),
                in_place(&error.help, is_service),
            );
        }
        let warnings = one
            .findings
            .iter()
            .filter(|it| it.severity == Severity::Warning);
        wide += warnings.count();
    }
    if wide > 0 {
        found.warn(
            POLICIES,
            format!("{wide} grants or limits are wider or weaker than most plugins need"),
            format!(
                "`{} policy check` names each with its line",
                command(is_service)
            ),
        );
    }
    if wide == 0 && !refused {
        found.fine(POLICIES, format!("{} policies", checked.len()));
    }
}

/// Plugins that lie there and may do nothing.
fn without_policy(
    review: &Review,
    known: &BTreeSet<PluginId>,
    command: &str,
    found: &mut Findings,
) {
    for entry in fs::read_dir(&review.config.plugin_dir)
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let plugin = name.to_str().and_then(|name| PluginId::parse(name).ok());
        if let Some(plugin) = plugin.filter(|plugin| !known.contains(plugin))
            && entry.path().is_dir()
        {
            found.warn(
                POLICIES,
                format!("plugin {plugin} has no policy: it is blocked"),
                format!("{command} plugin grant {plugin}, or take its directory away"),
            );
        }
    }
}

fn unsigned(review: &Review, plugins: &BTreeSet<PluginId>) -> Vec<String> {
    let trusts_nobody = |plugin: &&PluginId| {
        let policy = review.policy(plugin);
        policy.is_ok_and(|policy| policy.file.trust.signed_by.is_empty())
    };
    let unsigned = plugins.iter().filter(trusts_nobody);
    unsigned.map(ToString::to_string).collect()
}

fn expiring(review: &Review, command: &str, found: &mut Findings) {
    let all = match review.keys() {
        Ok(all) => all,
        Err(error) => {
            found.note(SIGNATURES, format!("{}: run it with sudo", chain(&error)));
            return;
        }
    };
    let now = keys::now();
    let soon = Moment::from_unix_seconds(now.unix_seconds().saturating_add(SOON_SECONDS));
    let mut good = 0;
    for one in &all {
        let name = &one.name;
        let renew = format!(
            "{command} keys trust {name}.pub --plugin … --expires …, or have its owner make a new one"
        );
        match &one.key {
            Err(error) => found.fail(
                SIGNATURES,
                format!("key {name}: {}", chain(error)),
                format!("trust it again (`{command} keys trust`), or take its files away"),
            ),
            Ok(key) => match (key.rules.standing(now), key.rules.expires) {
                (Standing::Revoked(_), _) => {
                    found.note(SIGNATURES, format!("key {name} was revoked"));
                }
                (Standing::Expired(time), _) => {
                    let message = format!(
                        "key {name} expired at {time}: what it signed does not start again"
                    );
                    found.fail(SIGNATURES, message, renew);
                }
                (Standing::Trusted, Some(time)) if time <= soon => {
                    let message = format!(
                        "key {name} expires at {time}: what it signed does not start from then on"
                    );
                    found.warn(SIGNATURES, message, renew);
                }
                (Standing::Trusted, _) => good += 1,
            },
        }
    }
    if good > 0 {
        found.fine(SIGNATURES, format!("{good} trusted keys"));
    }
}
