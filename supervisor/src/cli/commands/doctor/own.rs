//! What is the daemon's alone: its state directory, and the database in it.
//!
//! Whoever is the daemon's user may make of a name in there what it likes, at any moment, and a command that
//! is shown here is run by root: none that is shown reaches through such a name.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::User;
use pinfold_sandbox::trust::TrustedDir;

use super::{Findings, Patient, command};
use crate::cli::review::Review;
use crate::shell::shell_word;

const CHECK: &str = "files";
/// Permissions of others on what is the daemon's alone.
const OTHERS: u32 = 0o077;

/// What the name of a file of the daemon's stands for, where it is no file of its own.
#[derive(Debug, thiserror::Error)]
pub(super) enum Odd {
    #[error("{} is a link to {}: the daemon makes none there", .path.display(), .to.display())]
    Link { path: PathBuf, to: PathBuf },
    #[error("{} has {count} names: it is another's file too", .path.display())]
    Shared { path: PathBuf, count: u64 },
    #[error("{} is no regular file", .path.display())]
    Kind { path: PathBuf },
}

impl Odd {
    /// What is done about it: with the name alone, not with what it stands for.
    pub(super) fn mend(&self, command: &str) -> String {
        let (Self::Link { path, .. } | Self::Shared { path, .. } | Self::Kind { path }) = self;
        format!(
            "stop the daemon, look who made it, and take this name away, and nothing else: rm {}; \
             then restore a backup: {command} restore FILE",
            shell_word(path)
        )
    }
}

/// A file of the daemon's, no link followed; `None` where there is none.
pub(super) fn file(path: &Path) -> io::Result<Option<Result<Metadata, Odd>>> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    let path = path.to_owned();
    Ok(Some(if metadata.is_symlink() {
        let to = fs::read_link(&path).unwrap_or_default();
        Err(Odd::Link { path, to })
    } else if !metadata.is_file() {
        Err(Odd::Kind { path })
    } else if metadata.nlink() != 1 {
        let count = metadata.nlink();
        Err(Odd::Shared { path, count })
    } else {
        Ok(metadata)
    }))
}

pub(super) fn look(patient: &Patient<'_>, review: &Review, found: &mut Findings) {
    let place = &patient.context.place;
    let user = &review.config.daemon_user;
    let owner = match nix::unistd::geteuid().is_root() {
        true => User::from_name(user).ok().flatten(),
        false => User::from_uid(nix::unistd::geteuid()).ok().flatten(),
    };
    let owner = owner.map(|user| user.uid.as_raw());
    directory(&place.state, owner, user, found);
    let command = command(patient.is_service);
    database(&place.database(), owner, user, command, found);
}

fn directory(path: &Path, owner: Option<u32>, user: &str, found: &mut Findings) {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return unread(path, &error, found),
        Ok(metadata) => metadata,
    };
    // One of root's is an operator's, who has another disk for it.
    if metadata.is_symlink()
        && metadata.uid() == 0
        && let Ok(real) = fs::canonicalize(path)
    {
        return directory(&real, owner, user, found);
    }
    if !metadata.is_dir() {
        found.fail(
            CHECK,
            format!("{} is no directory", path.display()),
            "look who made it, and take it away: the daemon's start makes a new one",
        );
    } else if !is_alone(&metadata, owner) {
        let is_anothers = path
            .parent()
            .is_none_or(|it| TrustedDir::open(it, None).is_err());
        let mend = match is_anothers {
            true => format!(
                "make the directories above it root's, and then {} the user {user}'s, mode 0700",
                shell_word(path)
            ),
            false => format!(
                "chown --no-dereference {user} {0} && chmod go= {0}",
                shell_word(path)
            ),
        };
        found.fail(CHECK, said(path, &metadata), mend);
    }
}

fn database(path: &Path, owner: Option<u32>, user: &str, command: &str, found: &mut Findings) {
    let metadata = match file(path) {
        Ok(Some(Ok(metadata))) => metadata,
        Ok(None) => return,
        Ok(Some(Err(odd))) => return found.fail(CHECK, odd.to_string(), odd.mend(command)),
        Err(error) => return unread(path, &error, found),
    };
    if is_alone(&metadata, owner) {
        return;
    }
    let mend = match owner.is_none_or(|owner| owner == metadata.uid()) {
        // As its owner: what it could be led to by then is that one's anyway.
        true => format!("sudo -u {user} chmod go= {}", shell_word(path)),
        // It may be the only copy of the database. Where it is moved to, the daemon's user changes no name.
        false => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let moved = Path::new("/root").join(format!("{name}.moved"));
            format!(
                "stop the daemon, look who put it there, and move it away (mv -nT {0} {1}); where it is \
                 the database, have the daemon's user write it anew (dd iflag=nofollow if={1} | sudo -u \
                 {user} sh -c 'umask 077; cat >\"$0.new\" && test -s \"$0.new\" && mv \"$0.new\" \"$0\"' {0}), \
                 otherwise: {command} restore FILE",
                shell_word(path),
                shell_word(&moved)
            )
        }
    };
    found.fail(CHECK, said(path, &metadata), mend);
}

fn is_alone(metadata: &Metadata, owner: Option<u32>) -> bool {
    owner.is_none_or(|owner| owner == metadata.uid()) && metadata.mode() & OTHERS == 0
}

fn said(path: &Path, metadata: &Metadata) -> String {
    format!(
        "{} is uid {}'s, mode {:04o}: it is the daemon's alone",
        path.display(),
        metadata.uid(),
        metadata.mode() & 0o7777
    )
}

fn unread(path: &Path, error: &io::Error, found: &mut Findings) {
    let message = format!("{}: {error}: run it with sudo", path.display());
    found.note(CHECK, message);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// What is said of a database, and how to mend it.
    fn told(path: &Path, owner: u32) -> Vec<(String, String)> {
        let mut found = Findings::default();
        database(path, Some(owner), "pinfold", "sudo pinfold", &mut found);
        let told = found.0.into_iter();
        told.map(|one| (one.message, one.mend.unwrap_or_default()))
            .collect()
    }

    /// Neither changes an owner or a mode by a name that the daemon may have changed.
    fn assert_harmless(mend: &str) {
        assert!(!mend.contains("chown"), "{mend}");
        let changes = mend.matches("chmod").count();
        let as_owner = mend.matches("sudo -u pinfold chmod").count();
        assert_eq!(changes, as_owner, "{mend}");
    }

    #[test]
    fn a_database_that_is_a_link_is_named_as_one_and_nothing_is_done_through_it() {
        let base = tempfile::tempdir().unwrap();
        let (path, shadow) = (base.path().join("it's.db"), base.path().join("shadow"));
        fs::write(&shadow, "").unwrap();
        fs::set_permissions(&shadow, fs::Permissions::from_mode(0o640)).unwrap();
        let own = nix::unistd::geteuid().as_raw();
        symlink(&shadow, &path).unwrap();
        let linked = told(&path, own + 1);
        assert!(linked[0].0.contains("is a link to"), "{linked:?}");
        fs::remove_file(&path).unwrap();
        fs::hard_link(&shadow, &path).unwrap();
        let shared = told(&path, own + 1);
        assert!(shared[0].0.contains("has 2 names"), "{shared:?}");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let other = told(&path, own + 1);
        assert!(other[0].0.contains("no regular file"), "{other:?}");
        for told in [linked, shared, other] {
            assert_eq!(told.len(), 1, "{told:?}");
            assert_harmless(&told[0].1);
            assert!(told[0].1.contains("it'\\''s.db'"), "{told:?}");
        }
    }

    #[test]
    fn a_database_that_others_reach_is_mended_as_its_owner() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("pinfold.db");
        let own = nix::unistd::geteuid().as_raw();
        assert!(told(&path, own).is_empty(), "there is none");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(told(&path, own).is_empty());
        let anothers = told(&path, own + 1);
        assert!(anothers[0].0.contains("mode 0600"), "{anothers:?}");
        assert_harmless(&anothers[0].1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let open = told(&path, own);
        assert!(open[0].1.starts_with("sudo -u pinfold chmod"), "{open:?}");
        assert_harmless(&open[0].1);
    }

    #[test]
    fn the_state_directory_is_given_back_only_where_nobody_else_chooses_what_it_is() {
        let base = tempfile::tempdir().unwrap();
        let state = base.path().join("state");
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
        let own = nix::unistd::geteuid().as_raw();
        let mend = || {
            let mut found = Findings::default();
            directory(&state, Some(own), "pinfold", &mut found);
            found.0.pop().and_then(|one| one.mend).unwrap_or_default()
        };
        assert!(mend().starts_with("chown --no-dereference"), "{}", mend());
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!mend().contains("chown"), "{}", mend());
    }
}
