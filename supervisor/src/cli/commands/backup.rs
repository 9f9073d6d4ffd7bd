//! `pinfold backup`: everything that cannot be made again, in one file.

use std::path::PathBuf;

use chrono::Utc;
use pinfold_policy::ByteSize;
use serde::Serialize;

use crate::cli::Context;
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
    let mut to = arguments.to.clone();
    if to.is_dir() {
        let host = nix::unistd::gethostname().unwrap_or_default();
        let time = Utc::now().format("%Y%m%dT%H%M%SZ");
        to.push(format!("pinfold-{}-{time}.tar", host.to_string_lossy()));
    }
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
