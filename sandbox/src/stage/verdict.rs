//! What the copying child tells its parent, in a memory file that both hold.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;

use pinfold_policy::{Digest, PluginId};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use super::{Signatures, StageError};

/// Longest verdict: the most signatures there are, with the longest paths, and every plugin that is
/// remembered, as TOML.
const VERDICT_LIMIT_BYTES: u64 = 1024 * 1024;

/// Longest reason, in bytes; longer ones are cut.
const REASON_LIMIT_BYTES: usize = 4096;

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Copied {
    pub(super) digest: Digest,
    /// The memory that the copy takes.
    pub(super) memory_bytes: u64,
    /// Which of the plugins that were asked about have no directory any more.
    pub(super) gone: BTreeSet<PluginId>,
    pub(super) signatures: Signatures,
}

/// Why nothing was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Refused {
    /// The plugin's files.
    Files(String),
    /// This machine.
    Host(String),
}

impl Refused {
    pub(super) fn into_error(self, plugin_directory: PathBuf) -> StageError {
        match self {
            Self::Files(message) => StageError::Files {
                plugin_directory,
                message,
            },
            Self::Host(message) => StageError::Host {
                plugin_directory,
                message,
            },
        }
    }

    fn cut(&self) -> Self {
        let cut = |text: &str| {
            let end = text.floor_char_boundary(REASON_LIMIT_BYTES);
            text.get(..end).unwrap_or_default().to_owned()
        };
        match self {
            Self::Files(message) => Self::Files(cut(message)),
            Self::Host(message) => Self::Host(cut(message)),
        }
    }
}

/// Either of them, as TOML has it.
#[derive(Serialize, Deserialize)]
struct Told {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<Refused>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    copied: Option<Copied>,
}

/// An empty memory file for a verdict.
pub(super) fn file() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC;
    Ok(memfd_create("pinfold-verdict", flags)?.into())
}

/// Writes the verdict; gives the child's exit status.
pub(super) fn tell(mut file: &File, outcome: Result<Copied, Refused>) -> u8 {
    let (status, told) = match outcome {
        Ok(copied) => {
            let told = Told {
                refused: None,
                copied: Some(copied),
            };
            (0, told)
        }
        Err(refused) => {
            let told = Told {
                refused: Some(refused.cut()),
                copied: None,
            };
            (1, told)
        }
    };
    let written = toml::to_string(&told)
        .map_err(io::Error::other)
        .and_then(|text| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => status,
        Err(_) => 2,
    }
}

/// Reads the verdict of a child that has ended; none where it ended without one.
pub(super) fn read(mut file: &File) -> Option<Result<Copied, Refused>> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(VERDICT_LIMIT_BYTES)
        .read_to_string(&mut text)
        .ok()?;
    let told: Told = toml::from_str(&text).ok()?;
    match (told.refused, told.copied) {
        (Some(refused), None) => Some(Err(refused)),
        (None, Some(copied)) => Some(Ok(copied)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DetachedSignature, PLUGINS_LIMIT, SIGNATURES_LIMIT};
    use super::*;

    fn through(outcome: Result<Copied, Refused>) -> (u8, Result<Copied, Refused>) {
        let file = file().unwrap();
        let status = tell(&file, outcome);
        (status, read(&file).unwrap())
    }

    #[test]
    fn verdicts_come_through_the_file_and_nothing_else_does() {
        // The longest there is: every character of the paths needs six for its escape.
        let signature = DetachedSignature {
            file: "\u{1}".repeat(512),
            sha256: [255; 32],
            content: vec![255; 130],
        };
        let named = |number: usize| format!("{number:0>63}").parse::<PluginId>().unwrap();
        let copied = Ok(Copied {
            digest: Digest([7; 32]),
            memory_bytes: 12,
            gone: (0..PLUGINS_LIMIT).map(named).collect(),
            signatures: Signatures::from(vec![signature; SIGNATURES_LIMIT])
                .with_package(&[255; 1025]),
        });
        assert_eq!(through(copied.clone()), (0, copied));
        let refused = Err(Refused::Files("a:\nis a \"FIFO\"".into()));
        assert_eq!(through(refused.clone()), (1, refused));
        let long = Err(Refused::Host("ä".repeat(REASON_LIMIT_BYTES)));
        let (1, Err(Refused::Host(cut))) = through(long) else {
            panic!("another verdict");
        };
        assert!(cut.len() <= REASON_LIMIT_BYTES && cut.starts_with("ää"));
        assert_eq!(read(&file().unwrap()), None);
    }
}
