//! What the copying child tells its parent, through a pipe that holds it whole.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use pinfold_policy::Digest;

use super::StageError;

/// Below what a pipe takes without anybody reading (`PIPE_BUF`, pipe(7)).
const VERDICT_LIMIT_BYTES: usize = 4096;

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) digest: Digest,
    pub(super) bytes: u64,
}

/// Why nothing was.
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

/// Writes the verdict; gives the child's exit status.
pub(super) fn tell(pipe: &OwnedFd, outcome: &Result<Copied, Refused>) -> u8 {
    let (status, text) = match outcome {
        Ok(copied) => (0, format!("copied {} {}", copied.bytes, copied.digest)),
        Err(Refused::Files(message)) => (1, format!("files {message}")),
        Err(Refused::Host(message)) => (1, format!("host {message}")),
    };
    let mut end = text.len().min(VERDICT_LIMIT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let bytes = text.as_bytes().get(..end).unwrap_or_default();
    let write = |mut pipe: File| pipe.write_all(bytes);
    match pipe.try_clone().map(File::from).and_then(write) {
        Ok(()) => status,
        Err(_) => 2,
    }
}

/// Reads the verdict of a child that has ended; none where it ended without one.
pub(super) fn read(pipe: &OwnedFd) -> Option<Result<Copied, Refused>> {
    let mut text = String::new();
    File::from(pipe.try_clone().ok()?)
        .take(VERDICT_LIMIT_BYTES as u64)
        .read_to_string(&mut text)
        .ok()?;
    let (kind, rest) = text.split_once(' ')?;
    match kind {
        "copied" => {
            let (bytes, digest) = rest.split_once(' ')?;
            Some(Ok(Copied {
                digest: digest.parse().ok()?,
                bytes: bytes.parse().ok()?,
            }))
        }
        "files" => Some(Err(Refused::Files(rest.to_owned()))),
        "host" => Some(Err(Refused::Host(rest.to_owned()))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_come_through_the_pipe_and_nothing_else_does() {
        let through = |outcome: &Result<Copied, Refused>| {
            let (reading, writing) = nix::unistd::pipe().unwrap();
            let status = tell(&writing, outcome);
            drop(writing);
            (status, read(&reading).unwrap())
        };
        let copied = Ok(Copied {
            digest: Digest([7; 32]),
            bytes: 12,
        });
        assert_eq!(through(&copied), (0, copied));
        let refused = Err(Refused::Files("a: is a FIFO".into()));
        assert_eq!(through(&refused), (1, refused));
        let long = Err(Refused::Host("ä".repeat(VERDICT_LIMIT_BYTES)));
        let (1, Err(Refused::Host(cut))) = through(&long) else {
            panic!("another verdict");
        };
        assert!(cut.len() < VERDICT_LIMIT_BYTES && cut.starts_with("ää"));
        let (reading, writing) = nix::unistd::pipe().unwrap();
        drop(writing);
        assert_eq!(read(&reading), None);
    }
}
