//! Owners and modes: of what the launcher trusts, with every directory above, and of where plugins lie.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::User;
use pinfold_sandbox::trust::TrustedDir;

use super::{Findings, Patient, own};
use crate::cli::review::{Review, chain, is_no_permission};
use crate::shell::shell_word;

const CHECK: &str = "files";

pub(super) fn look(patient: &Patient<'_>, found: &mut Findings) {
    let Some(review) = &patient.review else {
        return;
    };
    trusted(review, found);
    own::look(patient, review, found);
    plugins(&review.config.plugin_dir, patient.is_service, found);
    private_keys(review, found);
}

/// A directory that the launcher reads only where it trusts it.
struct Directory<'a> {
    /// What it is, or its key in launcher.toml.
    name: &'static str,
    path: &'a Path,
    /// Whose it may be beside root's and the launcher's.
    also: Option<u32>,
}

/// What the launcher reads: its own user's or root's, and nobody else's to change, all the way.
fn trusted(review: &Review, found: &mut Findings) {
    let config = &review.config;
    let Ok(metadata) = fs::metadata(&review.config_file) else {
        return;
    };
    let launcher = metadata.uid();
    let daemon = User::from_name(&config.daemon_user).ok().flatten();
    let config_dir = review.config_file.parent().unwrap_or(Path::new("/"));
    let plain = |name, path| Directory {
        name,
        path,
        also: None,
    };
    let mut directories = vec![
        plain("the configuration", config_dir),
        plain("policy-dir", &config.policy_dir),
        plain("keys-dir", &config.keys_dir),
        plain("state-dir", &config.state_dir),
    ];
    directories.extend((config.data_dir.as_deref()).map(|path| plain("data-dir", path)));
    directories.extend((config.dev_policy_dir.as_deref()).map(|path| Directory {
        name: "dev-policy-dir",
        path,
        also: daemon.as_ref().map(|user| user.uid.as_raw()),
    }));
    if daemon.is_none() {
        found.fail(
            CHECK,
            format!(
                "daemon-user {:?} of launcher.toml is no user here",
                config.daemon_user
            ),
            "systemd-sysusers, or useradd --system; or name the right user",
        );
    }
    let mut fine = 0;
    for directory in &directories {
        let Directory { name, path, also } = *directory;
        let opened = match TrustedDir::open_as(launcher, path, also) {
            Err(error) if error.is_absent() && name == "keys-dir" => {
                found.note(CHECK, format!("there is no {name} {}", path.display()));
                continue;
            }
            opened => opened,
        };
        // Who may change a name in there can have a command reach elsewhere by it.
        let is_ours = opened.is_ok() && also.is_none();
        match opened {
            Ok(_) => fine += 1,
            Err(error) if is_no_permission(&error) => {
                found.note(CHECK, format!("{name}: {}: run it with sudo", chain(&error)));
            }
            Err(error) => found.fail(
                CHECK,
                format!("{name}: {}", chain(&error)),
                "chown and chmod it: it and every directory above it belong to root or the launcher's user, and nobody else may write there",
            ),
        }
        contents(directory, launcher, is_ours, found);
    }
    if fine > 0 {
        found.fine(
            CHECK,
            format!("{fine} directories are trusted, with everything above them"),
        );
    }
}

/// The files in a directory that the launcher does not trust. `is_ours`: nobody else can change a name in it.
fn contents(directory: &Directory<'_>, launcher: u32, is_ours: bool, found: &mut Findings) {
    for entry in fs::read_dir(directory.path).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let owners = [0, launcher];
        let is_owner = owners.contains(&metadata.uid()) || directory.also == Some(metadata.uid());
        if metadata.is_file() && (!is_owner || metadata.mode() & 0o022 != 0) {
            let (uid, mode) = (metadata.uid(), metadata.mode() & 0o7777);
            found.fail(
                CHECK,
                format!(
                    "{} is uid {uid}'s, mode {mode:04o}: the launcher does not trust it",
                    path.display()
                ),
                match is_ours && metadata.nlink() == 1 {
                    true => {
                        format!("chown {launcher} {0} && chmod go-w {0}", shell_word(&path))
                    }
                    false => format!(
                        "look who wrote it, take it away (rm {}), and have it written again",
                        shell_word(&path)
                    ),
                },
            );
        }
    }
}

/// Where plugins lie.
fn plugins(path: &Path, is_service: bool, found: &mut Findings) {
    match fs::metadata(path) {
        Ok(metadata) if metadata.mode() & 0o002 != 0 => found.fail(
            CHECK,
            format!("everybody may write {}", path.display()),
            format!("chmod o= {}", shell_word(path)),
        ),
        Ok(_) => {}
        Err(error) => found.fail(
            CHECK,
            format!("plugin-dir {}: {error}", path.display()),
            match is_service {
                true => format!(
                    "make it, root's and readable by the daemon's group: sudo install -d -m 0750 -g pinfold {}",
                    shell_word(path)
                ),
                false => format!("make it: mkdir -p {}", shell_word(path)),
            },
        ),
    }
}

/// Keys that sign have no business where keys that are trusted are; where they are, others read them.
fn private_keys(review: &Review, found: &mut Findings) {
    for entry in fs::read_dir(&review.config.keys_dir)
        .into_iter()
        .flatten()
        .flatten()
    {
        let path = entry.path();
        if path.extension().is_some_and(|end| end == "key") {
            found.warn(
                CHECK,
                format!("{} looks like a key that signs", path.display()),
                "keep it on the machine that signs, and nowhere else; only NAME.pub and NAME.toml belong here",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_for_plugins_that_is_not_there_is_made_by_the_command_that_is_shown() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("the plugins");
        for (is_service, command) in [
            (true, "install -d -m 0750 -g pinfold "),
            (false, "mkdir -p "),
        ] {
            let mut found = Findings::default();
            plugins(&path, is_service, &mut found);
            let mend = found.0.remove(0).mend.unwrap();
            let whole = format!("{command}'{}'", path.display());
            assert!(mend.ends_with(&whole), "{mend}");
        }
    }
}
