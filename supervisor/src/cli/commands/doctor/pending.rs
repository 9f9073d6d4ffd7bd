//! What waits to be taken into the audit trail: whether pinfoldd reads all of it.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::User;

use super::{Findings, Patient};
use crate::cli::review::{chain, is_no_permission};
use crate::pending::{PENDING_LIMIT, Pending, PendingError, file_name};
use crate::shell::shell_word;
use crate::store::audit::reader::Reader;

const CHECK: &str = "pending audit";
/// Why it matters.
const NOT_TAKEN: &str = "pinfoldd does not take it into the audit trail";

pub(super) async fn look(patient: &Patient<'_>, found: &mut Findings) {
    let Some(review) = &patient.review else {
        return;
    };
    // Its absence is told where the other owners are looked at.
    let Ok(Some(daemon)) = User::from_name(&review.config.daemon_user) else {
        return;
    };
    let place = &patient.context.place;
    let Some((pending, names)) = directory(&place.pending_records(), &daemon, found) else {
        return;
    };
    let known = match Reader::open(&place.database()).await {
        Ok(mut reader) => reader.written_down().await.ok(),
        Err(_) => None,
    };
    let (mut fine, mut waits) = (0_usize, 0_usize);
    for id in names {
        let path = place.pending_records().join(file_name(&id));
        match pending.read(&id) {
            Ok(record) => {
                if !readable(&path, &daemon, 0o4, found) {
                    continue;
                }
                fine += 1;
                waits += usize::from(known.as_ref().is_some_and(|known| !known.has(&id, &record)));
            }
            // Taken in meanwhile.
            Err(error) if error.is_absent() => {}
            Err(error) => failed(Lies::Record(&path), &error, found),
        }
    }
    if fine >= PENDING_LIMIT {
        found.fail(
            CHECK,
            format!("{fine} records, and no more may wait: nothing further is done that is to be recorded"),
            "start pinfoldd, which takes them in",
        );
    } else if waits > 0 && patient.status.is_some() {
        found.warn(
            CHECK,
            format!("{waits} of {fine} records are not in the audit trail yet"),
            match patient.is_service {
                true => "sudo systemctl restart pinfold, and look at its log",
                false => "end `make run` and run it again, and look at its log",
            },
        );
    } else if waits > 0 {
        let message = format!("{waits} of {fine} records wait for the next start of pinfoldd");
        found.note(CHECK, message);
    } else {
        found.fine(CHECK, format!("{fine} records, which pinfoldd can read"));
    }
}

/// The directory as pinfoldd sees it, and what is in it.
fn directory(
    path: &Path,
    daemon: &User,
    found: &mut Findings,
) -> Option<(Pending, Vec<pinfold_gateway::admin::dto::RecordId>)> {
    let opened = Pending::open_as(path, daemon.uid.as_raw());
    let listed = opened.and_then(|opened| match opened {
        Some(pending) => {
            let ids = pending.ids()?;
            Ok(Some((pending, ids)))
        }
        None => Ok(None),
    });
    match listed {
        Ok(Some(listed)) => readable(path, daemon, 0o5, found).then_some(listed),
        // Made with the first record.
        Ok(None) => None,
        Err(error) => {
            failed(Lies::Directory(path), &error, found);
            None
        }
    }
}

/// What of it cannot be used.
#[derive(Clone, Copy)]
enum Lies<'a> {
    Directory(&'a Path),
    Record(&'a Path),
}

fn failed(lies: Lies<'_>, error: &PendingError, found: &mut Findings) {
    let (Lies::Directory(path) | Lies::Record(path)) = lies;
    let path = shell_word(path);
    let message = format!("{}: {NOT_TAKEN}", chain(error));
    match error {
        error if is_no_permission(error) => {
            found.note(CHECK, format!("{}: run it with sudo", chain(error)));
        }
        PendingError::Owner { .. } => found.fail(
            CHECK,
            message,
            format!("look who wrote there; what is as it should be: chown root {path} && chmod go-w {path}"),
        ),
        PendingError::Open { .. } | PendingError::Read { .. }
            if matches!(lies, Lies::Directory(_)) =>
        {
            found.fail(
                CHECK,
                message,
                format!("look what lies at {path}, and take it away: a directory is made with the next record"),
            );
        }
        PendingError::Open { .. }
        | PendingError::Read { .. }
        | PendingError::Kind { .. }
        | PendingError::Json { .. }
        | PendingError::Value { .. } => found.fail(
            CHECK,
            message,
            format!("look at it, note elsewhere what was done, and: rm {path}"),
        ),
    }
}

/// Whether the daemon's user may read it; says so where not.
fn readable(path: &Path, daemon: &User, wanted: u32, found: &mut Findings) -> bool {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
        Err(error) => {
            let message = format!("{}: {error}: run it with sudo", path.display());
            found.note(CHECK, message);
            return false;
        }
    };
    let (uid, gid) = (daemon.uid.as_raw(), daemon.gid.as_raw());
    if may(&metadata, (uid, gid), wanted) {
        return true;
    }
    let mode = if metadata.is_dir() { "0750" } else { "0640" };
    let (shown, path) = (path.display(), shell_word(path));
    found.fail(
        CHECK,
        format!(
            "{shown} is uid {}'s, gid {}'s, mode {:04o}, and {} may not read it: {NOT_TAKEN}",
            metadata.uid(),
            metadata.gid(),
            metadata.mode() & 0o7777,
            daemon.name
        ),
        format!("chgrp {gid} {path} && chmod {mode} {path}"),
    );
    false
}

/// Whether a user, with this group alone, has these rights (inode(7)).
fn may(metadata: &Metadata, (uid, gid): (u32, u32), wanted: u32) -> bool {
    let rights = match () {
        () if uid == 0 => return true,
        () if metadata.uid() == uid => metadata.mode() >> 6,
        () if metadata.gid() == gid => metadata.mode() >> 3,
        () => metadata.mode(),
    };
    rights & wanted == wanted
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn rights_are_those_of_the_first_that_fits() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path();
        let metadata = fs::metadata(path).unwrap();
        let (uid, gid) = (metadata.uid(), metadata.gid());
        let (another, others) = (uid + 1, gid + 1);
        for (mode, user, allowed) in [
            (0o750, (another, gid), true),
            (0o700, (another, gid), false),
            (0o750, (another, others), false),
            (0o705, (another, others), true),
            (0o705, (another, gid), false),
        ] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            let metadata = fs::metadata(path).unwrap();
            assert_eq!(may(&metadata, user, 0o5), allowed, "{mode:o} {user:?}");
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(may(&fs::metadata(path).unwrap(), (0, 0), 0o5));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_noted_elsewhere_before_it_goes() {
        let unreadable = || PendingError::Read {
            path: "x".into(),
            source: io::Error::other("no"),
        };
        let path = Path::new("/x");
        for (lies, expected) in [
            (Lies::Record(path), "note elsewhere what was done"),
            (Lies::Directory(path), "a directory is made"),
        ] {
            let mut found = Findings::default();
            failed(lies, &unreadable(), &mut found);
            let mend = found.0.remove(0).mend.unwrap();
            assert!(mend.contains(expected), "{mend}");
        }
    }

    #[test]
    fn a_directory_that_pinfoldd_cannot_use_is_named_with_what_mends_it() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("pending-audit");
        let mut daemon = User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
        let said = |daemon: &User| {
            let mut found = Findings::default();
            let listed = directory(&path, daemon, &mut found);
            let said = found.0.into_iter().map(|one| (one.message, one.mend));
            (listed.is_some(), said.collect::<Vec<_>>())
        };
        assert_eq!(said(&daemon), (false, vec![]), "there is none");
        fs::write(&path, "").unwrap();
        let (is_listed, told) = said(&daemon);
        assert!(!is_listed && told[0].0.contains(NOT_TAKEN), "{told:?}");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(said(&daemon), (true, vec![]));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
        let (is_listed, told) = said(&daemon);
        assert!(!is_listed && told[0].0.contains("mode 0770"), "{told:?}");
        assert!(
            told[0].1.as_ref().unwrap().contains("chmod go-w"),
            "{told:?}"
        );
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        // Root's alone, as it is left where making it is cut off.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        (daemon.uid, daemon.gid) = (65_534.into(), 65_534.into());
        let (is_listed, told) = said(&daemon);
        assert!(
            !is_listed && told[0].0.contains("may not read it"),
            "{told:?}"
        );
        let mend = told[0].1.as_ref().unwrap();
        assert!(
            mend.contains("chgrp 65534") && mend.contains("0750"),
            "{mend}"
        );
    }
}
