//! `pinfold audit`: the trail, read from the daemon's database. No daemon is asked: what it says could
//! not be better than what it has written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::Utc;

use crate::cli::Context;
use crate::cli::args::{AuditCommand, AuditListArguments, Expected};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{self, Page};
use crate::store::StoreError;
use crate::store::audit::reader::{BrokenTrail, Reader, RecordView, Seen, Wanted};

/// Time between two looks at what has come.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Why the trail cannot be read.
#[derive(Debug, thiserror::Error)]
enum AuditError {
    #[error("there is no {path}")]
    Absent { path: PathBuf },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("--expect names record {number} twice, and not as the same")]
    Contradiction { number: i64 },
    #[error("the audit trail is not whole")]
    Broken(#[source] BrokenTrail),
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        let (exit, hint) = match &error {
            AuditError::Absent { .. } => (
                Exit::NoInput,
                "the daemon makes it; look where its state is, or give --dev or --dev-dir",
            ),
            AuditError::Store(StoreError::Earlier { .. }) => {
                (Exit::Data, "start the daemon once: it chains what is there")
            }
            AuditError::Store(StoreError::Schema { .. }) => {
                (Exit::Data, "use the `pinfold` of the version that wrote it")
            }
            AuditError::Store(StoreError::Open { .. }) => (
                Exit::NoPermission,
                "run it with sudo: it is the daemon's alone",
            ),
            AuditError::Store(_) | AuditError::Broken(BrokenTrail::Read(_)) => {
                (Exit::Io, "look at the disk, and whether the file is locked")
            }
            AuditError::Broken(BrokenTrail::TooOld { .. }) => {
                (Exit::NoInput, "`pinfold audit head` shows the newest")
            }
            AuditError::Broken(BrokenTrail::OldOrRemoved { .. }) => (
                Exit::NoInput,
                "say which part it was of: --expect control:NUMBER:HASH or --expect \
                 traffic:NUMBER:HASH; what begins with http. or hostapi. is traffic, all else that \
                 the journal has is control",
            ),
            AuditError::Contradiction { .. } => (
                Exit::Usage,
                "one number is one record, of one part: look which was seen",
            ),
            AuditError::Broken(_) => (
                Exit::Failed,
                "compare with the journal, which has each record's hash: journalctl -u pinfold \
                 MESSAGE_ID=f3606f25720f4e8e8f92f52497bd6a6b -o verbose \
                 --output-fields=PINFOLD_PART,PINFOLD_NUMBER,PINFOLD_HASH",
            ),
        };
        Self::new(exit, error).hint(hint)
    }
}

pub(super) async fn run(context: &Context, command: AuditCommand) -> Result<(), Failure> {
    let path = context.place.database();
    // SQLite tells of a file that is absent and of one that it may not open in the same words.
    if matches!(std::fs::metadata(&path), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
    {
        return Err(AuditError::Absent { path }.into());
    }
    let mut reader = Reader::open(&path).await.map_err(AuditError::Store)?;
    match command {
        AuditCommand::List(arguments) => list(context, &mut reader, arguments).await,
        AuditCommand::Verify { expect } => verify(context, &mut reader, &expect).await,
        AuditCommand::Head => head(context, &mut reader).await,
    }
}

async fn verify(
    context: &Context,
    reader: &mut Reader,
    expect: &[Expected],
) -> Result<(), Failure> {
    let mut expected = BTreeMap::new();
    for &Expected { part, number, hash } in expect {
        let seen = Seen { hash, part };
        if expected.insert(number, seen).is_some_and(|it| it != seen) {
            return Err(AuditError::Contradiction { number }.into());
        }
    }
    let whole = reader.verify(&expected).await.map_err(AuditError::Broken)?;
    Ok(context.output.give(&whole, |whole| {
        let mut page = Page::default();
        page.line("the audit trail is whole");
        for part in &whole.parts {
            page.line(format_args!(
                "  {}: {} records, from number {} to {}:{}",
                part.part, part.records, part.first, part.last, part.hash
            ));
        }
        page
    })?)
}

async fn head(context: &Context, reader: &mut Reader) -> Result<(), Failure> {
    let heads = reader.heads().await.map_err(AuditError::Store)?;
    Ok(context.output.give(&heads, |heads| {
        let mut page = Page::default();
        for head in heads {
            page.line(format_args!("{} {}:{}", head.part, head.number, head.hash));
        }
        page
    })?)
}

async fn list(
    context: &Context,
    reader: &mut Reader,
    arguments: AuditListArguments,
) -> Result<(), Failure> {
    let mut wanted = Wanted {
        after: 0,
        since: arguments.since.map(|since| since.time(Utc::now())),
        actor: arguments.actor,
        action: arguments.action,
        plugin: arguments.plugin,
        decision: arguments.decision,
        limit: arguments.limit,
    };
    let records = reader.list(&wanted).await.map_err(AuditError::Store)?;
    if !arguments.follow {
        if records.is_empty() && !context.output.is_json() {
            output::note("there are no such records");
        }
        return Ok(context.output.give(&records, |records| page(records))?);
    }
    let mut records = records;
    wanted.limit = u32::MAX;
    while output::has_reader() {
        for record in &records {
            wanted.after = wanted.after.max(record.number);
            if context.output.is_json() {
                context.output.line(record)?;
            }
        }
        if !context.output.is_json() && !records.is_empty() {
            context.output.page(&page(&records))?;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        records = reader.list(&wanted).await.map_err(AuditError::Store)?;
    }
    Ok(())
}

fn page(records: &[RecordView]) -> Page {
    let mut page = Page::default();
    for record in records {
        page.line(line(record));
    }
    page
}

/// One record as a line: when, who, what to what, what was decided, how often, and why.
fn line(record: &RecordView) -> String {
    let RecordView {
        number,
        time,
        actor,
        action,
        subject,
        decision,
        ..
    } = record;
    let mut line = format!("{number} {time} {actor} {action} {subject}: {decision}");
    if let Some(plugin) = &record.plugin
        && plugin != subject
        && *actor != format!("plugin:{plugin}")
    {
        line = format!("{number} {time} {actor} {action} {plugin} {subject}: {decision}");
    }
    if let Some(permission) = &record.permission {
        line.push_str(&format!(" ({permission})"));
    }
    if record.count != 1 {
        line.push_str(&format!(" ×{}", record.count));
    }
    if let Some(detail) = &record.detail {
        line.push_str(&format!(", {detail}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_told_has_another_status_than_a_trail_that_is_broken() {
        let status = |trail| Failure::from(AuditError::Broken(trail)).exit();
        let (number, last) = (5, 3);
        for broken in [
            BrokenTrail::Broken { number, why: "" },
            BrokenTrail::Cut { number, last },
            BrokenTrail::NoBeginning,
        ] {
            assert_eq!(status(broken), Exit::Failed);
        }
        let old_or_removed = BrokenTrail::OldOrRemoved {
            number,
            trimmed: "traffic",
            removed: 7,
            other: "control",
        };
        for untold in [BrokenTrail::TooOld { number, first: 8 }, old_or_removed] {
            assert_eq!(status(untold), Exit::NoInput);
        }
    }

    #[test]
    fn a_record_is_a_line_that_a_terminal_does_not_obey() {
        let record = RecordView {
            number: 7,
            part: "traffic",
            time: "2026-11-21T20:48:34.123456Z".into(),
            actor: "plugin:hello".into(),
            action: "hostapi.db.query".into(),
            subject: "items\u{1b}[2J".into(),
            decision: "deny".into(),
            plugin: Some("hello".into()),
            permission: Some("db:read:items".into()),
            detail: None,
            request_id: None,
            count: 12,
            hash: None,
        };
        assert_eq!(
            page(&[record]).to_string(),
            "7 2026-11-21T20:48:34.123456Z plugin:hello hostapi.db.query items\\u{1b}[2J: deny \
             (db:read:items) ×12\n"
        );
    }
}
