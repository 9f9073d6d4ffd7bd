//! The sockets that systemd makes and keeps for the service: whether it listens, and who has an address
//! that it could not have.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use super::{Findings, unit};

const CHECK: &str = "sockets";
const GATEWAY: &str = "pinfold-gateway.socket";
/// How the gateway is given another address, and then begins to listen.
const OTHER: &str =
    "sudo systemctl edit pinfold-gateway.socket, with an empty ListenStream= and then yours";
const AGAIN: &str = "sudo systemctl restart pinfold-gateway.socket pinfold";
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
            "active" => {
                found.fine(CHECK, format!("systemd listens on {listen}"));
                nowhere(&listen, found);
            }
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
    let taken = address(listen).map(|address| (address.port(), bind(listen, address)));
    match taken {
        Some((port, Err(error))) if error.kind() == io::ErrorKind::AddrInUse => found.fail(
            CHECK,
            format!("another process listens on {listen}, which {GATEWAY} is to have"),
            format!(
                "end it (sudo ss -ltnp 'sport = :{port}' names it), or give another address ({OTHER}); then {AGAIN}"
            ),
        ),
        Some((_, Err(error))) if error.kind() == io::ErrorKind::PermissionDenied => {
            found.note(CHECK, format!("{listen}: {error}: run it with sudo"));
        }
        Some((_, Err(error))) if !has_failed && is_absent(&error) => nowhere(listen, found),
        Some((_, Err(error))) => found.fail(
            CHECK,
            format!("{GATEWAY} is to listen on {listen}, which cannot be had: {error}"),
            format!("give an address of this machine: {OTHER}; then {AGAIN}"),
        ),
        _ if has_failed => found.fail(
            CHECK,
            format!("{GATEWAY} has failed, and nothing is in its way now"),
            format!("{AGAIN}; journalctl -u {GATEWAY} says why it failed"),
        ),
        Some((_, Ok(_))) => found.fine(CHECK, format!("{listen} is free")),
        None => {}
    }
}

/// Listens as systemd does.
fn bind(listen: &str, address: SocketAddr) -> io::Result<TcpListener> {
    or_ipv4(TcpListener::bind(address), listen, address.port())
}

/// What becomes of a first try: where the machine has no IPv6, a port alone is one of IPv4.
fn or_ipv4(bound: io::Result<TcpListener>, listen: &str, port: u16) -> io::Result<TcpListener> {
    let has_no_family = bound
        .as_ref()
        .is_err_and(|error| error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT));
    match has_no_family && listen.parse::<u16>().is_ok() {
        true => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
        false => bound,
    }
}

/// Whether no interface has the address that was asked for.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Whether nobody reaches what is listened on, since no interface has it: `FreeBind=` of the unit lets it be so.
pub(super) fn nowhere(listen: &str, found: &mut Findings) {
    let Some(mut one) = address(listen) else {
        return;
    };
    // Any port: this one is taken.
    one.set_port(0);
    if TcpListener::bind(one).is_err_and(|error| is_absent(&error)) {
        found.warn(
            CHECK,
            format!("the machine has no such address: nobody reaches {listen}"),
            format!(
                "give it to an interface (ip address lists them), or another address: {OTHER}; then {AGAIN}"
            ),
        );
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
    use pinfold_policy::lint::Severity;

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

    #[test]
    fn an_address_that_no_interface_has_is_told_where_systemd_may_listen_on_it_all_the_same() {
        let told = |listen: &str| {
            let mut found = Findings::default();
            nowhere(listen, &mut found);
            found.0.pop().map(|one| (one.severity, one.message))
        };
        // Of a network that is nobody's (RFC 5737).
        let (severity, message) = told("192.0.2.1:8080").unwrap();
        assert_eq!(severity, Some(Severity::Warning));
        assert!(message.contains("no such address"), "{message}");
        for here in ["127.0.0.1:8080", "0.0.0.0:80", "/run/gateway.sock"] {
            assert_eq!(told(here), None, "{here}");
        }
        let mut found = Findings::default();
        without("192.0.2.1:8080", false, &mut found);
        assert_eq!(found.0.remove(0).severity, Some(Severity::Warning));
        let unit = include_str!("../../../../../systemd/pinfold-gateway.socket");
        assert!(unit.contains("\nFreeBind=yes\n"));
    }

    #[test]
    fn a_port_alone_can_be_had_with_and_without_ipv6() {
        // 0: any that is free.
        let any = address("0").unwrap();
        assert!(bind("0", any).is_ok());
        let first = |code| Err(io::Error::from_raw_os_error(code));
        let without = nix::libc::EAFNOSUPPORT;
        let bound = or_ipv4(first(without), "0", 0).unwrap();
        assert!(bound.local_addr().unwrap().is_ipv4());
        assert!(or_ipv4(first(without), "[::]:0", 0).is_err());
        assert!(or_ipv4(first(nix::libc::EADDRINUSE), "0", 0).is_err());
    }
}
