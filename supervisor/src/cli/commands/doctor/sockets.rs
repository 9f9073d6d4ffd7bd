//! Sockets: the administration's, and the gateway's address.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use super::{Findings, Patient, activation};
use crate::cli::client::ClientError;
use crate::cli::review::chain;
use crate::config::Config;
use crate::shell::shell_word;

const CHECK: &str = "sockets";

pub(super) fn look(patient: &Patient<'_>, error: Option<ClientError>, found: &mut Findings) {
    let path = patient.context.place.admin_socket();
    match fs::symlink_metadata(&path) {
        Ok(metadata) if !metadata.file_type().is_socket() => found.fail(
            CHECK,
            format!("{} is no socket", path.display()),
            "take it away and start the daemon again",
        ),
        Ok(metadata) if metadata.mode() & 0o007 != 0 => found.fail(
            CHECK,
            format!("everybody may use {}", path.display()),
            format!(
                "chmod o= {}, and look at SocketMode= of pinfold-admin.socket",
                shell_word(&path)
            ),
        ),
        Ok(_) | Err(_) => {}
    }
    match (&patient.status, error) {
        (Some(status), _) => {
            found.fine(CHECK, format!("gateway on {}", status.listeners.join(", ")));
            // What pinfoldd binds itself is there.
            if patient.is_service {
                let urls = status.listeners.iter();
                for listen in urls.filter_map(|url| url.strip_prefix("http://")) {
                    activation::nowhere(listen, found);
                }
            }
        }
        (None, Some(ClientError::Forbidden { .. })) => {
            found.note(
                CHECK,
                format!(
                    "{} is not this user's to use: run it with sudo",
                    path.display()
                ),
            );
        }
        (None, error) => {
            let why = error.map_or_else(String::new, |error| format!(": {}", chain(&error)));
            let mend = match patient.is_service {
                true => {
                    "sudo systemctl start pinfold; where it does not, sudo journalctl -u 'pinfold*' says why"
                }
                false => "make run",
            };
            found.fail(CHECK, format!("the daemon does not answer{why}"), mend);
            let is_systemds = patient.is_service && activation::is_systemds();
            if is_systemds {
                activation::look(found);
            }
            address(patient, !is_systemds, found);
        }
    }
}

/// Whether the configuration is read, and, where pinfoldd listens itself, whether its address is to be
/// had.
fn address(patient: &Patient<'_>, is_its_own: bool, found: &mut Findings) {
    let path = &patient.context.place.config;
    let config = match Config::read(path) {
        Ok(config) => config,
        Err(error) => {
            let is_denied = crate::cli::review::is_no_permission(&error);
            match is_denied {
                true => found.note(CHECK, format!("{}: run it with sudo", chain(&error))),
                false => found.fail(
                    "configuration",
                    chain(&error),
                    "mend it: docs/configuration.md has every key",
                ),
            }
            return;
        }
    };
    if !is_its_own {
        return;
    }
    match TcpListener::bind(config.listen) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => found.fail(
            CHECK,
            format!("another process listens on {}", config.listen),
            format!(
                "end it (sudo ss -ltnp names it), or give another address: listen in {}",
                path.display()
            ),
        ),
        Err(error) => found.fail(
            CHECK,
            format!("{} cannot be listened on: {error}", config.listen),
            format!(
                "give an address of this machine: listen in {}",
                path.display()
            ),
        ),
        Ok(_) => found.fine(CHECK, format!("{} is free", config.listen)),
    }
}
