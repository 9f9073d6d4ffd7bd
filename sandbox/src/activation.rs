//! Sockets that a service manager made and passes to a service at its start (sd_listen_fds(3)).

use std::env;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::own;

/// The first of them, by the protocol.
const FIRST: RawFd = 3;
/// Most that are taken: a service of Pinfold has two.
const MOST: RawFd = 16;

/// One socket that was passed.
#[derive(Debug)]
pub struct Passed {
    /// `FileDescriptorName=` of its unit; `unknown` where none was told.
    pub name: String,
    /// The socket, close-on-exec.
    pub socket: OwnedFd,
}

/// Why what was passed cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActivationError {
    /// The number of sockets is none.
    #[error("LISTEN_FDS is {value:?}, not a number from 0 to {MOST}")]
    Count {
        /// What it is.
        value: String,
    },
    /// One of them is not open.
    #[error("take over descriptor {descriptor}, which the service manager passed as {name:?}")]
    Take {
        /// Its number.
        descriptor: RawFd,
        /// Its name.
        name: String,
        /// The errno.
        #[source]
        source: io::Error,
    },
}

/// Takes the sockets over, in the order of their units. Empty where no service manager passed any to
/// this very process, and at each call but the first. To be called before this process opens
/// anything of its own.
///
/// # Errors
/// [`ActivationError`].
pub fn sockets() -> Result<Vec<Passed>, ActivationError> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let ours = env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    if !ours || TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    let count = env::var("LISTEN_FDS").unwrap_or_default();
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    named(&count, &names)?
        .into_iter()
        .map(|(descriptor, name)| match own::take_inherited(descriptor) {
            Ok(socket) => Ok(Passed { name, socket }),
            Err(source) => Err(ActivationError::Take {
                descriptor,
                name,
                source,
            }),
        })
        .collect()
}

/// The numbers and names that `LISTEN_FDS` and `LISTEN_FDNAMES` mean.
fn named(count: &str, names: &str) -> Result<Vec<(RawFd, String)>, ActivationError> {
    let bad = || ActivationError::Count {
        value: count.to_owned(),
    };
    let count: RawFd = count.parse().map_err(|_| bad())?;
    if !(0..=MOST).contains(&count) {
        return Err(bad());
    }
    let names = names.split(':').map(Some).chain(std::iter::repeat(None));
    let name = |name: Option<&str>| match name {
        None | Some("") => "unknown".to_owned(),
        Some(name) => name.to_owned(),
    };
    Ok((FIRST..FIRST + count).zip(names.map(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_begin_at_three_and_names_are_optional() {
        let of = |count, names| named(count, names).unwrap();
        assert_eq!(of("0", ""), []);
        assert_eq!(
            of("2", "gateway:admin"),
            [(3, "gateway".to_owned()), (4, "admin".to_owned())]
        );
        assert_eq!(
            of("2", "gateway"),
            [(3, "gateway".to_owned()), (4, "unknown".to_owned())]
        );
    }

    #[test]
    fn a_count_that_is_none_is_refused() {
        for count in ["", "-1", "17", "two"] {
            let error = named(count, "").unwrap_err().to_string();
            assert!(error.contains(&format!("{count:?}")), "{error}");
        }
    }
}
