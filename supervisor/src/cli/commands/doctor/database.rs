//! The daemon's database: whole, of a known schema, with room to grow, and its audit trail.

use std::collections::BTreeMap;

use pinfold_policy::ByteSize;

use super::{Findings, Patient, command, in_place, own};
use crate::cli::review::chain;
use crate::store::StoreError;
use crate::store::audit::reader::{BrokenTrail, Reader};
use crate::store::migrate;

const CHECK: &str = "database";
const TRAIL: &str = "audit trail";
/// Free space below which nothing can be relied on to be written.
const LEAST_BYTES: u64 = 64 << 20;
/// Free space below which it is time to make some.
const FEW_BYTES: u64 = 1 << 30;

pub(super) async fn look(patient: &Patient<'_>, found: &mut Findings) {
    let path = patient.context.place.database();
    match own::file(&path) {
        Ok(None) => {
            found.note(
                CHECK,
                "there is none yet: the daemon makes it at its first start",
            );
            return;
        }
        // Told where the owners are looked at. What another's name leads to is not opened.
        Ok(Some(Err(odd))) => {
            found.note(CHECK, format!("not looked at: {odd}"));
            return;
        }
        Err(error) => {
            found.note(
                CHECK,
                format!("{}: {error}: run it with sudo", path.display()),
            );
            return;
        }
        Ok(Some(Ok(_))) => {}
    }
    if patient.context.place.unfinished_restore().exists() {
        found.fail(
            CHECK,
            "a restore was cut off: the daemon does not start",
            format!(
                "run the same `{} restore` again",
                command(patient.is_service)
            ),
        );
    }
    let restore = restore(patient.is_service);
    space(patient, found);
    let mut connection = match migrate::open_to_read(&path).await {
        Ok(connection) => connection,
        Err(error) => {
            // Told before SQLite was asked: by root, to whom no mode forbids it.
            let otherwise = match error {
                sqlx::Error::Io(_) => {
                    "look who made what is named, and move it to a directory of root's"
                }
                _ => "run it with sudo",
            };
            let source = StoreError::Open {
                path,
                source: error,
            };
            let hint = source.hint().unwrap_or_else(|| otherwise.into());
            found.fail(CHECK, chain(&source), in_place(&hint, patient.is_service));
            return;
        }
    };
    let verdict: Result<String, _> = sqlx::query_scalar("PRAGMA integrity_check(3)")
        .fetch_one(&mut connection)
        .await;
    match verdict {
        Ok(verdict) if verdict == "ok" => {}
        Ok(verdict) => found.fail(CHECK, format!("it is damaged: {verdict}"), &restore),
        Err(error) => found.fail(CHECK, format!("it cannot be read: {error}"), &restore),
    }
    match migrate::schema(&mut connection).await {
        Ok(schema) if schema == migrate::known() => {
            found.fine(CHECK, format!("whole, schema {schema}"));
        }
        Ok(schema) if schema < migrate::known() => {
            found.note(
                CHECK,
                format!(
                    "schema {schema}: the daemon brings it to {} when it starts",
                    migrate::known()
                ),
            );
        }
        Ok(_) => {
            if let Err(error) = Reader::open(&path).await {
                let hint = error.hint().unwrap_or_default();
                found.fail(CHECK, chain(&error), in_place(&hint, patient.is_service));
            }
            return;
        }
        Err(error) => found.fail(CHECK, error.to_string(), &restore),
    }
    trail(&path, &restore, found).await;
}

/// What is done about a database that is not whole.
fn restore(is_service: bool) -> String {
    let stop = match is_service {
        true => "sudo systemctl stop pinfold.slice",
        false => "end `make run`",
    };
    let command = command(is_service);
    format!(
        "stop the daemon ({stop}), look at the disk, copy what is there, and restore a backup: {command} restore FILE"
    )
}

fn space(patient: &Patient<'_>, found: &mut Findings) {
    let state = &patient.context.place.state;
    let Ok(stat) = rustix::fs::statvfs(state) else {
        return;
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let message = format!(
        "{} free on the disk of {}",
        ByteSize(free >> 20 << 20),
        state.display()
    );
    let mend = "make room: what cannot be recorded is not done";
    match free {
        0..LEAST_BYTES => found.fail(CHECK, message, mend),
        LEAST_BYTES..FEW_BYTES => found.warn(CHECK, message, mend),
        _ => found.fine(CHECK, message),
    }
    if stat.f_favail == 0 && stat.f_files > 0 {
        found.fail(CHECK, "no files can be made on its disk (no inodes)", mend);
    }
}

async fn trail(path: &std::path::Path, restore: &str, found: &mut Findings) {
    let mut reader = match Reader::open(path).await {
        Ok(reader) => reader,
        Err(StoreError::Earlier { .. }) => return,
        Err(error) => {
            found.fail(TRAIL, chain(&error), restore);
            return;
        }
    };
    match reader.verify(&BTreeMap::new()).await {
        Ok(whole) => {
            let records: u64 = whole.parts.iter().map(|part| part.records).sum();
            found.fine(TRAIL, format!("whole, {records} records"));
        }
        Err(error @ BrokenTrail::Read(_)) => found.fail(TRAIL, chain(&error), restore),
        Err(error) => found.fail(
            TRAIL,
            format!("not whole: {}", chain(&error)),
            "compare with the journal, which has each record's hash (docs/audit.md)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_restored_to_this_installation_and_to_no_other() {
        let own = restore(false);
        assert!(own.ends_with("pinfold --dev restore FILE"), "{own}");
        assert!(!own.contains("sudo"), "{own}");
        let service = restore(true);
        assert!(service.contains("sudo systemctl stop pinfold.slice"));
        assert!(service.ends_with("sudo pinfold restore FILE"), "{service}");
    }
}
