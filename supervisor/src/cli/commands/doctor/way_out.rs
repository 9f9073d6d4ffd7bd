//! Whether pinfoldd may speak with other machines, where plugins are granted that it does so for them. As
//! installed its unit lets it speak with this one alone.

use pinfold_policy::PluginId;

use super::{Findings, Patient, unit};
use crate::cli::review::Review;

const CHECK: &str = "way out";
/// How the way is opened: docs/operations/install.md.
const OPEN: &str = "sudo install -D -m 644 -t /etc/systemd/system/pinfold.service.d \
                    /usr/share/pinfold/systemd/network.conf && sudo systemctl daemon-reload && \
                    sudo systemctl restart pinfold";

/// What comes of a request to whom it is not open.
const FAIL: &str = "requests to others end by hostapi.http.timeout, and names that a server elsewhere \
                    knows are not found";

pub(super) fn look(patient: &Patient<'_>, found: &mut Findings) {
    if !patient.is_service {
        return;
    }
    let Some(unit) = unit::text(unit::DAEMON) else {
        return;
    };
    let plugins = patient.review.as_ref().map(granted).unwrap_or_default();
    let plugins: Vec<&str> = plugins.iter().map(PluginId::as_str).collect();
    let who = match plugins.is_empty() {
        true => "no plugin is granted http".to_owned(),
        false => format!("{} may send HTTP requests", plugins.join(", ")),
    };
    match way(&unit) {
        Way::Closed if plugins.is_empty() => found.note(
            CHECK,
            format!("pinfoldd may speak with this machine alone (IPAddressDeny=any); {who}"),
        ),
        Way::Closed => found.warn(
            CHECK,
            format!(
                "{who}, and IPAddressDeny=any of {} lets pinfoldd speak with this machine alone: {FAIL}",
                unit::DAEMON
            ),
            OPEN,
        ),
        // Somebody has decided on each.
        Way::To(allowed) => found.note(
            CHECK,
            format!(
                "{who}; pinfoldd may speak with this machine and with {} (IPAddressAllow=) alone: {FAIL}",
                allowed.join(", ")
            ),
        ),
        Way::AllBut(denied) => found.note(
            CHECK,
            format!(
                "pinfoldd may speak with other machines, but not with {} (IPAddressDeny=)",
                denied.join(", ")
            ),
        ),
        Way::Open => found.fine(CHECK, "the unit lets pinfoldd speak with other machines"),
    }
}

/// The plugins whose policies grant outgoing HTTP.
fn granted(review: &Review) -> Vec<PluginId> {
    let Ok((plugins, _)) = review.policies() else {
        return Vec::new();
    };
    let has_http = |plugin: &PluginId| {
        let policy = review.policy(plugin);
        policy.is_ok_and(|policy| !policy.file.permissions.http.is_empty())
    };
    plugins.into_iter().filter(has_http).collect()
}

/// With whom a unit lets its service speak, beside this machine.
#[derive(Debug, PartialEq, Eq)]
enum Way<'u> {
    /// Nobody.
    Closed,
    /// These.
    To(Vec<&'u str>),
    /// Everybody but these.
    AllBut(Vec<&'u str>),
    /// Everybody.
    Open,
}

/// What a unit says of it (systemd.resource-control(5)): what is allowed counts before what is denied.
fn way(unit: &str) -> Way<'_> {
    let (allowed, denied) = (
        addresses(unit, "IPAddressAllow"),
        addresses(unit, "IPAddressDeny"),
    );
    let denied: Vec<&str> = denied
        .into_iter()
        .filter(|one| !allowed.contains(one))
        .collect();
    if denied.is_empty() || is_everything(&allowed) {
        return Way::Open;
    }
    let allowed: Vec<&str> = allowed.into_iter().filter(|one| !is_here(one)).collect();
    match is_everything(&denied) {
        false => Way::AllBut(denied),
        true if allowed.is_empty() => Way::Closed,
        true => Way::To(allowed),
    }
}

/// The lists of all lines together, an empty one takes back what was before.
fn addresses<'u>(unit: &'u str, key: &str) -> Vec<&'u str> {
    let mut all = Vec::new();
    for line in unit.lines() {
        match line.trim().split_once('=') {
            Some((name, value)) if name.trim() == key => match value.trim() {
                "" => all.clear(),
                value => all.extend(value.split_whitespace()),
            },
            _ => {}
        }
    }
    all
}

/// Whether these are all there are, of both families.
fn is_everything(addresses: &[&str]) -> bool {
    let has = |one| addresses.contains(&one);
    has("any") || has("0.0.0.0/0") && has("::/0")
}

fn is_here(addresses: &str) -> bool {
    matches!(
        addresses,
        "localhost" | "127.0.0.0/8" | "127.0.0.1" | "127.0.0.1/32" | "::1" | "::1/128"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_unit_is_closed_and_the_shipped_drop_in_opens_it() {
        let unit = include_str!("../../../../../systemd/pinfold.service");
        let drop_in = include_str!("../../../../../systemd/network.conf");
        assert_eq!(way(unit), Way::Closed);
        assert_eq!(way(&format!("{unit}\n{drop_in}")), Way::Open);
        assert!(drop_in.contains("/usr/share/pinfold/systemd/network.conf"));
    }

    #[test]
    fn a_way_that_is_open_to_some_is_neither_open_nor_closed() {
        for (text, expected) in [
            ("", Way::Open),
            ("IPAddressDeny=any\nIPAddressAllow=any", Way::Open),
            (
                "IPAddressDeny=any\nIPAddressAllow=localhost 10.0.0.0/8\nIPAddressAllow=2001:db8::1",
                Way::To(vec!["10.0.0.0/8", "2001:db8::1"]),
            ),
            ("IPAddressDeny=10.0.0.0/8", Way::AllBut(vec!["10.0.0.0/8"])),
            ("IPAddressDeny = 0.0.0.0/0 ::/0", Way::Closed),
            // One family is not everybody.
            ("IPAddressDeny=0.0.0.0/0", Way::AllBut(vec!["0.0.0.0/0"])),
            (
                "IPAddressDeny=any\nIPAddressAllow=localhost ::/0",
                Way::To(vec!["::/0"]),
            ),
            ("IPAddressDeny=::/0\nIPAddressAllow=::/0", Way::Open),
            (
                "IPAddressDeny=any\nIPAddressAllow=10.0.0.0/8\nIPAddressAllow=",
                Way::Closed,
            ),
            ("#IPAddressDeny=any", Way::Open),
        ] {
            assert_eq!(way(text), expected, "{text}");
        }
    }
}
