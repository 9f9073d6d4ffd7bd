//! Distributions on which AppArmor restricts user namespaces of unprivileged processes: there a plugin's own
//! is made only under a profile that permits it.

use std::fs;
use std::path::Path;

use super::{Findings, Patient};

const CHECK: &str = "apparmor";
/// 1: who has no capability gets a user namespace only under a profile with `userns`.
const RESTRICTED: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
/// Profiles that are loaded, a line each: `NAME (MODE)`. Root's to read.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";
/// The profile of the package.
const PROFILE: &str = "pinfold-launcher";
const FILE: &str = "/etc/apparmor.d/pinfold-launcher";
const SHIPPED: &str = "/usr/share/pinfold/apparmor/pinfold-launcher";

pub(super) fn look(patient: &Patient<'_>, found: &mut Findings) {
    let is_on = |path: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == "1");
    if !patient.is_service || !is_on(RESTRICTED) {
        return;
    }
    match fs::read_to_string(LOADED) {
        Ok(profiles) if has(&profiles, PROFILE) => {
            found.fine(CHECK, format!("the profile {PROFILE} is loaded"));
        }
        Ok(_) => found.warn(
            CHECK,
            format!(
                "{RESTRICTED} is 1 and the profile {PROFILE} is not loaded: plugins have no user \
                 namespace of their own"
            ),
            mend(Path::new(FILE).exists()),
        ),
        Err(error) => found.note(CHECK, format!("{LOADED}: {error}: run it with sudo")),
    }
}

fn mend(is_there: bool) -> String {
    // A profile is taken on when a program is started, and a restart of the daemon alone leaves the launcher.
    let load = format!(
        "sudo apparmor_parser --replace {FILE} && sudo systemctl stop pinfold && sudo systemctl start pinfold"
    );
    if is_there {
        return load;
    }
    format!("sudo ln -s {SHIPPED} {FILE} && {load}")
}

fn has(profiles: &str, name: &str) -> bool {
    profiles
        .lines()
        .any(|line| line.split_once(" (").is_some_and(|(it, _)| it == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_by_its_whole_name() {
        let profiles = "/usr/sbin/ntpd (enforce)\npinfold-launcher-x (complain)\n";
        assert!(!has(profiles, PROFILE));
        assert!(has(&format!("{profiles}{PROFILE} (unconfined)\n"), PROFILE));
        assert!(!mend(true).contains("install"));
        assert!(mend(false).starts_with("sudo ln -s"));
        let shipped = include_str!("../../../../../packaging/apparmor/pinfold-launcher");
        assert!(shipped.contains(&format!("\nprofile {PROFILE} /usr/libexec/")));
    }
}
