//! What the kernel gives: the walls of a jail are its.

use std::fs;

use pinfold_sandbox::jail::landlock_abi;

use super::Findings;

const CHECK: &str = "kernel";
/// The oldest version that everything required of every jail is there in: clone3(2) into a control
/// group, close_range(2), pidfds, mounts by descriptor, Landlock.
const OLDEST: (u32, u32) = (5, 13);
/// The oldest version that is tested.
const TESTED: (u32, u32) = (6, 1);
/// What a syscall filter's verdicts need (seccomp(2)).
const VERDICTS: [&str; 3] = ["kill_process", "errno", "user_notif"];

/// `development`: a developer's installation is looked at, not the service.
pub(super) fn look(development: bool, found: &mut Findings) {
    // Root's launcher does without what an ordinary user's can do nothing without.
    let is_users_own = development && !nix::unistd::geteuid().is_root();
    let release = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let newer = "boot a newer kernel: Debian 12's (6.1) and later are tested";
    match version(&release) {
        Some(version) if version < OLDEST => {
            found.fail(
                CHECK,
                format!("Linux {release} lacks what every jail needs"),
                newer,
            );
        }
        Some(version) if version < TESTED => {
            found.warn(
                CHECK,
                format!("Linux {release} is older than what is tested"),
                newer,
            );
        }
        Some(_) => found.fine(CHECK, format!("Linux {release}")),
        None => found.note(
            CHECK,
            format!("Linux {release:?}: its version is not readable"),
        ),
    }
    match landlock_abi() {
        Some(abi) => found.fine(CHECK, format!("Landlock version {abi}")),
        None => found.warn(
            CHECK,
            "no Landlock: the second wall around a plugin's files is missing",
            "add landlock to lsm= on the kernel's command line (/sys/kernel/security/lsm lists what is on)",
        ),
    }
    let number = |path: &str| -> Option<u64> { fs::read_to_string(path).ok()?.trim().parse().ok() };
    let most = number("/proc/sys/user/max_user_namespaces");
    user_namespaces(most, is_users_own, found);
    if is_users_own {
        let refused = [
            ("/proc/sys/kernel/unprivileged_userns_clone", 0),
            ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 1),
        ];
        for (path, bad) in refused {
            if number(path) == Some(bad) {
                found.warn(
                    CHECK,
                    format!("{path} is {bad}: a user's own installation cannot make jails"),
                    "use the service, or have root change it",
                );
            }
        }
    }
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    let missing: Vec<&str> = VERDICTS
        .into_iter()
        .filter(|wanted| !actions.split_whitespace().any(|action| action == *wanted))
        .collect();
    if missing.is_empty() {
        found.fine(CHECK, "system call filters");
    } else {
        found.fail(
            CHECK,
            format!("system call filters lack {}", missing.join(", ")),
            "boot a kernel with CONFIG_SECCOMP_FILTER, 5.0 or later",
        );
    }
}

/// How many user namespaces there may be: `None` where the kernel has none.
fn user_namespaces(most: Option<u64>, is_users_own: bool, found: &mut Findings) {
    let (what, mend) = match most {
        Some(0) => (
            "no user namespaces",
            "sudo sysctl user.max_user_namespaces=15000, and the same in /etc/sysctl.d",
        ),
        Some(_) => return found.fine(CHECK, "user namespaces"),
        None => (
            "the kernel is built without user namespaces",
            "boot a kernel with CONFIG_USER_NS",
        ),
    };
    match is_users_own {
        true => found.fail(
            CHECK,
            format!("{what}: a user's own installation cannot make jails"),
            mend,
        ),
        // The control is preferred, unless a policy requires it: the posture tells then.
        false => found.warn(
            CHECK,
            format!("{what}: plugins have none of their own"),
            mend,
        ),
    }
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use pinfold_policy::lint::Severity;

    use super::*;

    #[test]
    fn the_version_is_the_first_two_numbers_of_a_release() {
        for (release, expected) in [
            ("6.1.0-18-amd64", Some((6, 1))),
            ("5.4", Some((5, 4))),
            ("6.12+deb13", Some((6, 12))),
            ("next", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
        assert!((5, 4) < OLDEST && (6, 12) > TESTED);
    }

    #[test]
    fn the_service_does_without_user_namespaces_and_a_users_own_installation_does_not() {
        for (most, is_users_own, expected) in [
            (Some(15_000), true, None),
            (Some(15_000), false, None),
            (Some(0), false, Some(Severity::Warning)),
            (Some(0), true, Some(Severity::Error)),
            (None, false, Some(Severity::Warning)),
            (None, true, Some(Severity::Error)),
        ] {
            let mut found = Findings::default();
            user_namespaces(most, is_users_own, &mut found);
            let said = found.0.remove(0);
            assert_eq!(said.severity, expected, "{most:?}: {}", said.message);
        }
    }
}
