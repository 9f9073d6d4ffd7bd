//! The clock, by which keys and tokens expire.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Findings, Patient};
use crate::cli::time;
use crate::store::audit::reader::{Reader, Wanted};

const CHECK: &str = "clock";
/// How much later than now a record may be: what a clock is moved by when it is set right.
const SLACK: TimeDelta = TimeDelta::seconds(60);

pub(super) async fn look(patient: &Patient<'_>, found: &mut Findings) {
    let now = Utc::now();
    match newest(patient).await {
        Some(newest) if newest > now + SLACK => {
            found.fail(
                CHECK,
                format!(
                    "it says {}, and the newest audit record is of {}: it was set back",
                    time::exact(now),
                    time::exact(newest)
                ),
                "set it right (timedatectl): keys and tokens that had expired seem good",
            );
            return;
        }
        _ => {}
    }
    // systemd-timesyncd(8) touches it; others keep time without it.
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        found.fine(CHECK, "synchronised");
    } else {
        found.note(
            CHECK,
            format!(
                "it says {}; whether anything keeps it right is not known",
                time::exact(now)
            ),
        );
    }
}

/// When the newest record of the trail was written.
async fn newest(patient: &Patient<'_>) -> Option<DateTime<Utc>> {
    let mut reader = Reader::open(&patient.context.place.database()).await.ok()?;
    let wanted = Wanted {
        limit: 1,
        ..Wanted::default()
    };
    let records = reader.list(&wanted).await.ok()?;
    let time = DateTime::parse_from_rfc3339(&records.first()?.time).ok()?;
    Some(time.to_utc())
}
