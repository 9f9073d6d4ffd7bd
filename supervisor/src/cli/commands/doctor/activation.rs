//! The sockets that systemd makes and keeps for the service: whether it listens, and who has an address
//! that it could not have.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use super::{Findings, unit};

const CHECK: &str = "sockets";
const GATEWAY: &str = "pinfold-gateway.socket";
const OTHERS: [&str; 2] = ["pinfold-admin.socket", "pinfold-launcher.socket"];

/// Whether systemd runs here, and so holds the sockets of the installed service.
pub(super) fn is_systemds() -> bool {
    Path::new("/run/systemd/system").is_dir() && unit::text(GATEWAY).is_some()
}

/// Looks at the units of the sockets; for when the daemon does not answer.
pub(super) fn look(found: &mut Findings) {
    let states = states();
    let state = |unit: &str| states.get(unit).map_or("", String::as_str);
    for name in OTHERS {
        if state(name) == "failed" {
            found.fail(
                CHECK,
                format!("{name} has failed"),
                format!(
                    "journalctl -u {name} says why; then sudo systemctl restart {name} pinfold"
                ),
            );
        }
    }
    let text = unit::text(GATEWAY).unwrap_or_default();
    for listen in listens(&text) {
        match state(GATEWAY) {
            "active" => found.fine(CHECK, format!("systemd listens on {listen}")),
            // Who cannot ask systemd does not know whether it is systemd that listens.
            "" => found.note(
                CHECK,
                format!("systemctl does not say whether systemd listens on {listen}"),
            ),
            state => without(&listen, state == "failed", found),
        }
    }
}

/// The gateway's socket is not systemd's now: whether it can be.
fn without(listen: &str, has_failed: bool, found: &mut Findings) {
    let again = "sudo systemctl restart pinfold-gateway.socket pinfold";
    let other =
        format!("sudo systemctl edit {GATEWAY}, with an empty ListenStream= and then yours");
    let taken = address(listen).map(|address| (address.port(), TcpListener::bind(address)));
    match taken {
        Some((port, Err(error))) if error.kind() == io::ErrorKind::AddrInUse => found.fail(
            CHECK,
            format!("another process listens on {listen}, which {GATEWAY} is to have"),
            format!(
                "end it (sudo ss -ltnp 'sport = :{port}' names it), or give another address ({other}); then {again}"
            ),
        ),
        Some((_, Err(error))) if error.kind() == io::ErrorKind::PermissionDenied => {
            found.note(CHECK, format!("{listen}: {error}: run it with sudo"));
        }
        Some((_, Err(error))) => found.fail(
            CHECK,
            format!("{GATEWAY} is to listen on {listen}, which cannot be had: {error}"),
            format!("give an address of this machine: {other}; then {again}"),
        ),
        _ if has_failed => found.fail(
            CHECK,
            format!("{GATEWAY} has failed, and nothing is in its way now"),
            format!("{again}; journalctl -u {GATEWAY} says why it failed"),
        ),
        Some((_, Ok(_))) => found.fine(CHECK, format!("{listen} is free")),
        None => {}
    }
}

/// `ActiveState=` of each unit, by name; without those that systemd does not tell.
#[expect(
    clippy::disallowed_methods,
    reason = "no file says it; it is asked by its whole path, and told nothing that comes from a plugin"
)]
fn states() -> BTreeMap<String, String> {
    let asked = Command::new("/usr/bin/systemctl")
        .args(["show", "--property=Id,ActiveState", GATEWAY])
        .args(OTHERS)
        .output();
    asked.map_or_else(
        |_| BTreeMap::new(),
        |answer| told(&String::from_utf8_lossy(&answer.stdout)),
    )
}

/// What `systemctl show` says: a block of `NAME=VALUE` for each unit, with an empty line between two.
fn told(text: &str) -> BTreeMap<String, String> {
    let blocks = text.split("\n\n").filter_map(|block| {
        let of = |name| block.lines().find_map(|line| line.strip_prefix(name));
        Some((of("Id=")?.to_owned(), of("ActiveState=")?.to_owned()))
    });
    blocks.collect()
}

/// The addresses of a socket's unit (systemd.socket(5), `ListenStream=`): an empty one takes back what
/// was before.
fn listens(text: &str) -> Vec<String> {
    let mut listens = Vec::new();
    let values = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("ListenStream="));
    for value in values {
        match value.trim() {
            "" => listens.clear(),
            value => listens.push(value.to_owned()),
        }
    }
    listens
}

/// The address of a `ListenStream=`; `None` where it is no TCP socket. A port alone is one of every
/// address.
fn address(listen: &str) -> Option<SocketAddr> {
    let port = || listen.parse::<u16>().ok();
    let everywhere = || Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port()?)));
    listen.parse().ok().or_else(everywhere)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_systemd_takes_of_the_unit_and_its_drop_ins() {
        let unit = "[Socket]\nListenStream=127.0.0.1:8080\n";
        assert_eq!(listens(unit), ["127.0.0.1:8080"]);
        let changed = format!("{unit}\n[Socket]\nListenStream=\nListenStream=9090\n");
        assert_eq!(listens(&changed), ["9090"]);
        for (listen, expected) in [
            ("127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("[::1]:8080", Some("[::1]:8080")),
            ("9090", Some("[::]:9090")),
            ("/run/gateway.sock", None),
        ] {
            let found = address(listen).map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected);
        }
    }

    #[test]
    fn the_state_of_each_unit_is_read_from_what_systemctl_shows() {
        // As printed by systemctl of systemd 252.
        let text = "Id=pinfold-gateway.socket\nActiveState=failed\n\n\
            ActiveState=active\nId=pinfold-admin.socket\n";
        let states = told(text);
        assert_eq!(states["pinfold-gateway.socket"], "failed");
        assert_eq!(states["pinfold-admin.socket"], "active");
        assert_eq!(told(""), BTreeMap::new());
    }

    #[test]
    fn a_process_that_has_the_address_is_named_as_such_and_a_free_one_is_not() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = other.local_addr().unwrap().to_string();
        let looked = |listen: &str, has_failed| {
            let mut found = Findings::default();
            without(listen, has_failed, &mut found);
            found.0.remove(0).message
        };
        let taken = format!("another process listens on {listen}, which {GATEWAY} is to have");
        assert_eq!(looked(&listen, true), taken);
        assert_eq!(looked(&listen, false), taken);
        let elsewhere = looked("192.0.2.1:80", true);
        assert!(elsewhere.contains("cannot be had"), "{elsewhere}");
        assert!(looked("/run/gateway.sock", true).contains("has failed"));
    }
}
