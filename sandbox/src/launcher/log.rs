//! The launcher's own log: one line each to standard error, which its unit or the daemon that
//! started it keeps. No logging library is linked into privileged code.

use std::error::Error;
use std::io::Write;

/// Writes one line. A log that cannot be written is no reason to stop jailing.
pub(super) fn line(message: &str) {
    let text = format!("pinfold-launcher: {message}\n");
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// An error and its causes, joined by `: `.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // A transparent error repeats its source's text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
