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

pub(super) fn look(patient: &Patient<'_>, found: &mut Findings) {
    if !patient.is_service {
        return;
    }
    let Some(unit) = unit::text(unit::DAEMON) else {
        return;
    };
    let plugins = patient.review.as_ref().map(granted).unwrap_or_default();
    match (is_closed(&unit), plugins.is_empty()) {
        (true, true) => found.note(
            CHECK,
            "pinfoldd may speak with this machine, and with what IPAddressAllow= of its unit names, alone \
             (IPAddressDeny=any); no plugin is granted http",
        ),
        (true, false) => {
            let plugins: Vec<&str> = plugins.iter().map(PluginId::as_str).collect();
            found.warn(
                CHECK,
                format!(
                    "{} may send HTTP requests, and IPAddressDeny=any of {} lets pinfoldd speak with \
                     this machine alone, and with what IPAddressAllow= names: requests to others end by \
                     hostapi.http.timeout, and names that a server elsewhere knows are not found",
                    plugins.join(", "),
                    unit::DAEMON
                ),
                OPEN,
            );
        }
        (false, _) => found.fine(CHECK, "the unit lets pinfoldd speak with other machines"),
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

/// Whether all addresses but those of this machine are refused (systemd.resource-control(5)): the
/// lists of all lines together, an empty one takes back what was before.
fn is_closed(unit: &str) -> bool {
    let has_any = |key: &str| {
        let mut any = false;
        let values = unit.lines().filter_map(|line| {
            let (name, value) = line.trim().split_once('=')?;
            (name.trim() == key).then_some(value.trim())
        });
        for value in values {
            any = !value.is_empty() && (any || value.split_whitespace().any(is_everything));
        }
        any
    };
    has_any("IPAddressDeny") && !has_any("IPAddressAllow")
}

fn is_everything(addresses: &str) -> bool {
    matches!(addresses, "any" | "0.0.0.0/0" | "::/0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_unit_is_closed_and_the_shipped_drop_in_opens_it() {
        let unit = include_str!("../../../../../systemd/pinfold.service");
        let drop_in = include_str!("../../../../../systemd/network.conf");
        assert!(is_closed(unit));
        assert!(!is_closed(&format!("{unit}\n{drop_in}")));
        assert!(drop_in.contains("/usr/share/pinfold/systemd/network.conf"));
        for (text, closed) in [
            ("", false),
            ("IPAddressDeny=any\nIPAddressAllow=any", false),
            ("IPAddressDeny=any\nIPAddressAllow=10.0.0.0/8", true),
            ("IPAddressDeny=10.0.0.0/8", false),
            ("IPAddressDeny = 0.0.0.0/0 ::/0", true),
            ("#IPAddressDeny=any", false),
        ] {
            assert_eq!(is_closed(text), closed, "{text}");
        }
    }
}
