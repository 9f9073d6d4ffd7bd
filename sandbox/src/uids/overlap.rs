//! Whether a range of ids is free of logins and containers.

use std::io;
use std::path::{Path, PathBuf};

use pinfold_policy::UidRange;

/// Why a range is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverlapError {
    /// A line that gives an id of the range to somebody.
    #[error("uid-range {first} + {count} overlaps with {name:?} of {file:?}")]
    Taken {
        /// First id of the range.
        first: u32,
        /// Number of ids.
        count: u32,
        /// The login.
        name: String,
        /// `/etc/passwd` or `/etc/subuid`.
        file: PathBuf,
    },
    /// The file cannot be read.
    #[error("read {file:?}")]
    Read {
        /// Which.
        file: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
}

/// Refuses a range of which passwd(5) or subuid(5) gives away a part. An absent file gives away
/// nothing.
pub(super) fn check(range: UidRange, passwd: &Path, subuid: &Path) -> Result<(), OverlapError> {
    for (file, first_field, count_field) in [(passwd, 2, None), (subuid, 1, Some(2))] {
        let text = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => {
                return Err(OverlapError::Read {
                    file: file.to_owned(),
                    source,
                });
            }
        };
        for line in String::from_utf8_lossy(&text).lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
            let Some(first) = number(first_field) else {
                continue;
            };
            let count = count_field.map_or(Some(1), number).unwrap_or(0);
            let end = u64::from(range.first) + u64::from(range.count);
            if first < end && u64::from(range.first) < first.saturating_add(count) {
                return Err(OverlapError::Taken {
                    first: range.first,
                    count: range.count,
                    name: fields.first().copied().unwrap_or_default().to_owned(),
                    file: file.to_owned(),
                });
            }
        }
    }
    Ok(())
}
