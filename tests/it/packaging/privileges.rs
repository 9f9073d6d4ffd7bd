//! `docs/operations/privileges.md`: what the units leave each process, as a table that is made of them. What
//! the running processes hold is compared with it in a virtual machine (the part `service` of `tests/vm`).

use std::fmt::Write as _;
use std::fs;

use pinfold_tests::repository;

/// Where the table begins and ends in the page.
const BEGIN: &str = "<!-- made of systemd/ by a test: PINFOLD_PRIVILEGES_WRITE=1 -->\n";
const END: &str = "<!-- end -->\n";

/// A unit's directives in their order.
struct Unit(Vec<(String, String)>);

impl Unit {
    fn read(name: &str) -> Self {
        let text = fs::read_to_string(repository().join("systemd").join(name)).unwrap();
        let directives = text
            .lines()
            .filter(|line| !line.starts_with(['#', '[']))
            .filter_map(|line| line.split_once('='));
        Self(
            directives
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// Every value of a directive, joined.
    fn all(&self, key: &str) -> String {
        let values = self.0.iter().filter(|(name, _)| name == key);
        let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
        values.join(" ")
    }

    fn or(&self, key: &str, absent: &str) -> String {
        let all = self.all(key);
        if all.is_empty() { absent.into() } else { all }
    }

    fn is(&self, key: &str) -> bool {
        matches!(
            self.all(key).as_str(),
            "yes" | "strict" | "invisible" | "pid" | "closed"
        )
    }

    fn capabilities(&self) -> String {
        let mut names: Vec<String> = self
            .all("CapabilityBoundingSet")
            .split_whitespace()
            .map(|name| format!("`{name}`"))
            .collect();
        names.sort();
        if names.is_empty() {
            "none".into()
        } else {
            names.join(" ")
        }
    }

    /// Whether control groups are its to divide: the launcher, which starts jails.
    fn divides_groups(&self) -> bool {
        !self.all("Delegate").is_empty()
    }

    /// What it may write to: all else is read-only or not there. Paths in backticks are what the running
    /// process is compared with.
    fn writes(&self) -> String {
        // It leaves out /dev, /proc and /sys (systemd.exec(5)).
        assert_eq!(self.all("ProtectSystem"), "strict");
        let state = self.all("StateDirectory");
        let mut paths: Vec<String> = state
            .split_whitespace()
            .map(|name| format!("`/var/lib/{name}`"))
            .collect();
        paths.extend(
            self.all("ReadWritePaths")
                .split_whitespace()
                .map(|path| format!("`{path}`")),
        );
        // What others than root may write to there.
        assert!(self.is("PrivateTmp") && self.is("PrivateDevices"));
        let shared = ["/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue"];
        if !self.divides_groups() {
            let quoted = shared.map(|path| format!("`{path}`"));
            paths.push(format!("{} and {} of its own", quoted[0], quoted[1]));
            paths.push(format!("{} and {}, as anybody", quoted[2], quoted[3]));
        }
        let is_root = self.all("User").is_empty();
        if is_root && !self.is("ProtectKernelTunables") {
            paths.push("`/proc/sys`".into());
            paths.push("`/sys`".into());
        }
        if is_root && !self.is("ProtectControlGroups") {
            paths.push("every control group".into());
        }
        let mut text = paths.join(", ");
        if self.divides_groups() {
            // It keeps of the mounts what a launch needs.
            let gone = shared.join(", ");
            write!(text, "; {gone} it unmounts for itself").unwrap();
        }
        text
    }

    fn network(&self) -> &'static str {
        match (
            self.is("PrivateNetwork"),
            self.all("IPAddressDeny").as_str(),
        ) {
            (true, _) => "none: a network namespace with nothing in it",
            (false, "any") => {
                "asks this machine's loopback alone, others with the drop-in `network.conf`; serves whoever \
                 reaches `pinfold-gateway.socket`"
            }
            (false, _) => "open",
        }
    }
}

fn table() -> String {
    let (daemon, launcher) = (
        Unit::read("pinfold.service"),
        Unit::read("pinfold-launcher.service"),
    );
    let sockets = |names: &[&str]| {
        let described = names.iter().map(|name| {
            let unit = Unit::read(name);
            let address = unit.or("ListenStream", &unit.all("ListenSequentialPacket"));
            let who = match unit.all("SocketMode").as_str() {
                "" => String::new(),
                mode => format!(
                    " ({}:{} {mode})",
                    unit.all("SocketUser"),
                    unit.all("SocketGroup")
                ),
            };
            format!("`{address}`{who}")
        });
        described.collect::<Vec<_>>().join(", ")
    };
    let yes = |unit: &Unit, key| if unit.is(key) { "yes" } else { "no" };
    let rows = [
        ("user", daemon.all("User"), launcher.or("User", "root")),
        (
            "capabilities, for ever",
            daemon.capabilities(),
            launcher.capabilities(),
        ),
        (
            "new privileges by executing a file",
            refused(&daemon, "NoNewPrivileges"),
            refused(&launcher, "NoNewPrivileges"),
        ),
        ("writes to", daemon.writes(), launcher.writes()),
        (
            "listens on (systemd makes and keeps them)",
            sockets(&["pinfold-gateway.socket", "pinfold-admin.socket"]),
            sockets(&["pinfold-launcher.socket"]),
        ),
        (
            "listens on, in a jail's network (the launcher makes them)",
            "`127.0.0.1:3128` of each plugin that is granted `http`: its proxy".into(),
            "nothing".into(),
        ),
        (
            "network",
            daemon.network().into(),
            launcher.network().into(),
        ),
        (
            "families of sockets",
            daemon.or("RestrictAddressFamilies", "all"),
            launcher.or("RestrictAddressFamilies", "all"),
        ),
        (
            "system calls",
            daemon.or("SystemCallFilter", "all"),
            launcher.or("SystemCallFilter", "those that its own filter leaves"),
        ),
        (
            "memory that is writable and executable",
            refused(&daemon, "MemoryDenyWriteExecute"),
            refused(&launcher, "MemoryDenyWriteExecute"),
        ),
        (
            "namespaces of its own making",
            refused(&daemon, "RestrictNamespaces"),
            refused(&launcher, "RestrictNamespaces"),
        ),
        (
            "other users' processes are hidden",
            yes(&daemon, "ProtectProc").into(),
            yes(&launcher, "ProtectProc").into(),
        ),
        (
            "homes are hidden",
            yes(&daemon, "ProtectHome").into(),
            yes(&launcher, "ProtectHome").into(),
        ),
        (
            "devices of the machine are hidden",
            yes(&daemon, "PrivateDevices").into(),
            yes(&launcher, "PrivateDevices").into(),
        ),
        (
            "delegated controllers",
            daemon.or("Delegate", "none"),
            launcher.or("Delegate", "none"),
        ),
    ];
    let mut table = String::from("| | pinfoldd | pinfold-launcher |\n|---|---|---|\n");
    for (what, daemon, launcher) in rows {
        writeln!(table, "| {what} | {daemon} | {launcher} |").unwrap();
    }
    table
}

fn refused(unit: &Unit, key: &str) -> String {
    if unit.is(key) { "refused" } else { "possible" }.into()
}

#[test]
fn the_page_of_privileges_is_that_of_the_units() {
    let path = repository().join("docs/operations/privileges.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the mark");
    let (found, after) = rest.split_once(END).expect("the page has the end's mark");
    let expected = table();
    if std::env::var_os("PINFOLD_PRIVILEGES_WRITE").is_some() {
        fs::write(path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(found, expected, "PINFOLD_PRIVILEGES_WRITE=1 writes it anew");
}
