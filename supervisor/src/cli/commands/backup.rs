//! `pinfold backup`: everything that cannot be made again, in one file.

use std::path::{Path, PathBuf};

use chrono::Utc;
use pinfold_policy::ByteSize;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::archive::error::ArchiveError;
use crate::cli::archive::manifest::{AuditHead, Incomplete};
use crate::cli::archive::write::{self, Written};
use crate::cli::args::BackupArguments;
use crate::cli::exit::{Exit, Failure};
use crate::cli::installation::Installation;
use crate::cli::output::{self, Page};
use crate::cli::recorded;
use crate::pending::BACKUP;

/// What was made.
#[derive(Serialize)]
struct Made {
    file: PathBuf,
    bytes: u64,
    files: usize,
    schema: Option<i64>,
    audit: Vec<AuditHead>,
    left_out: Vec<String>,
    unsettled: Vec<String>,
    incomplete: Vec<Incomplete>,
    private: Vec<String>,
}

pub(super) async fn run(context: &Context, arguments: &BackupArguments) -> Result<(), Failure> {
    let installation = Installation::open(&context.place)?;
    let to = file_to_make(&arguments.to)?;
    let subject = std::path::absolute(&to).unwrap_or_else(|_| to.clone());
    let subject = subject.display().to_string();
    let recorded = recorded::installation(context, &installation, BACKUP, &subject).await?;
    let written = write::write(&context.place, installation.config(), &to).await?;
    let Written {
        manifest,
        size,
        private,
    } = written;
    let made = Made {
        file: to,
        bytes: size,
        files: manifest
            .entries
            .iter()
            .filter(|one| one.size.is_some())
            .count(),
        schema: manifest.schema,
        audit: manifest.audit,
        left_out: manifest.left_out,
        unsettled: manifest.unsettled,
        incomplete: manifest.incomplete,
        private,
    };
    recorded.tell(context).await;
    context.output.give(&made, page)?;
    if !made.private.is_empty() {
        output::note(
            "what looks like a private key is in it: keep such keys, and this file, elsewhere",
        );
    }
    if !made.unsettled.is_empty() {
        output::hint(
            "what was written meanwhile may be of no one moment: disable its plugin, or stop the \
             daemon, for a backup in which it is",
        );
    }
    if !made.incomplete.is_empty() {
        // Where the result goes nowhere, as from cron, this alone is read.
        output::note(&format!(
            "not all is in {}, or not as it is: {} under `incomplete` in its manifest.json",
            made.file.display(),
            made.incomplete.len()
        ));
        output::hint(
            "the backup can be restored, without what it has not: keep an earlier one until that is \
             mended, or back that directory up by itself",
        );
        return Err(Failure::said(Exit::Incomplete));
    }
    Ok(())
}

/// The file that is named, or one in the directory that is. What ends in no `.tar` is meant as a directory: a file in
/// its place would be found by nobody who looks into it.
fn file_to_make(named: &Path) -> Result<PathBuf, ArchiveError> {
    if named.is_dir() {
        let host = nix::unistd::gethostname().unwrap_or_default();
        let time = Utc::now().format("%Y%m%dT%H%M%SZ");
        let name = format!("pinfold-{}-{time}.tar", host.to_string_lossy());
        return Ok(named.join(name));
    }
    let is_there = named.symlink_metadata().is_ok();
    if !is_there && named.extension().is_none_or(|end| end != "tar") {
        return Err(ArchiveError::NoDirectory { path: named.into() });
    }
    Ok(named.into())
}

fn page(made: &Made) -> Page {
    let mut page = Page::default();
    page.line(format_args!("wrote {}", made.file.display()));
    page.field(
        "size",
        format_args!("{} in {} files", ByteSize(made.bytes), made.files),
    );
    for head in &made.audit {
        page.field(
            "audit head",
            format_args!("{} {}:{}", head.part, head.number, head.hash),
        );
    }
    page.list("private keys", &made.private)
        .list("left out: no file, directory or link", &made.left_out)
        .list("written while it was read", &made.unsettled)
        .list(
            "not in it, or not as it is",
            (made.incomplete.iter()).map(|one| format!("{}: {}", one.path, one.why)),
        );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_there_does_not_become_a_file() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("backups");
        let refused = file_to_make(&path);
        assert!(
            matches!(&refused, Err(ArchiveError::NoDirectory { path: named }) if *named == path),
            "{refused:?}"
        );
        let file = base.path().join("before.tar");
        assert_eq!(file_to_make(&file).unwrap(), file);
        std::fs::create_dir(&path).unwrap();
        let made = file_to_make(&path).unwrap();
        assert!(made.starts_with(&path), "{made:?}");
        assert!(made.extension().is_some_and(|end| end == "tar"));
        // That nothing is overwritten is told of it.
        let other = base.path().join("other");
        std::fs::write(&other, "").unwrap();
        assert_eq!(file_to_make(&other).unwrap(), other);
    }
}
