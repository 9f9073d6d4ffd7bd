//! What this machine can do, and skipping by name what it cannot.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use crate::go;
use crate::tell;

/// Whether this test can run here. Where it cannot, says so on standard error as
/// `skipped: TEST: reason`, and the test returns:
///
/// ```
/// if !pinfold_tests::require(&["root", "go"]) {
///     return;
/// }
/// ```
///
/// | ability | is |
/// |---|---|
/// | `root` | user id 0, in the first user namespace |
/// | `cgroup-v1` | the v1 hierarchies cpu, memory and pids, writable |
/// | `cgroup-v2` | the v2 controllers cpu, memory and pids in the group that these tests run in |
/// | `userns` | an ordinary user may make a user namespace |
/// | `user-manager` | a systemd user manager that delegates |
/// | `go` | Go 1.24 or newer |
/// | `go-1.19` | Debian's Go 1.19 |
/// | `python` | CPython 3, as `python3` |
/// | `systemd-analyze` | that of systemd 250 or newer, which judges units that are not installed |
/// | `apparmor` | `apparmor_parser`, of whatever version |
///
/// # Panics
///
/// Where `PINFOLD_TEST_REQUIRE` (names separated by commas) promises an ability that is missing, and on
/// a name that is not in the table.
#[must_use]
pub fn require(abilities: &[&str]) -> bool {
    for ability in abilities {
        let Some(reason) = missing(ability) else {
            continue;
        };
        let promised = std::env::var("PINFOLD_TEST_REQUIRE").unwrap_or_default();
        assert!(
            !promised.split(',').any(|one| one.trim() == *ability),
            "{ability} is promised by PINFOLD_TEST_REQUIRE and missing: {reason}"
        );
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        tell(&format!("skipped: {test}: {reason}"));
        return false;
    }
    true
}

fn missing(ability: &str) -> Option<&'static str> {
    let reason = match ability {
        "root" => &*ROOT,
        "cgroup-v1" => &*CGROUP_V1,
        "cgroup-v2" => &*CGROUP_V2,
        "userns" => &*USERNS,
        "user-manager" => &*USER_MANAGER,
        "go" => &*GO,
        "go-1.19" => &*GO_1_19,
        "python" => &*PYTHON,
        "systemd-analyze" => &*SYSTEMD_ANALYZE,
        "apparmor" => &*APPARMOR,
        _ => panic!("no ability is called {ability}"),
    };
    reason.as_deref()
}

/// Why it is missing; `None` where it is there. Each is found out once per process.
type Reason = LazyLock<Option<String>>;

static ROOT: Reason = LazyLock::new(|| {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    // Root of a namespace that maps one id cannot give a plugin a user of its own.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    (!whole).then(|| "needs root, and is root of a user namespace only".to_owned())
});

static CGROUP_V1: Reason = LazyLock::new(|| {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    ["cpu", "memory", "pids"].iter().find_map(|controller| {
        let mounted = mounts.lines().find_map(|line| {
            let mut fields = line.split_whitespace();
            let (path, kind, options) = (fields.nth(1)?, fields.next()?, fields.next()?);
            (kind == "cgroup" && options.split(',').any(|one| one == *controller)).then_some(path)
        });
        match mounted {
            None => Some(format!("needs cgroup v1's {controller} hierarchy")),
            Some(path) if !writable(path) => {
                Some(format!("needs to write cgroup v1's {controller} hierarchy"))
            }
            Some(_) => None,
        }
    })
});

static CGROUP_V2: Reason = LazyLock::new(|| {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let Some(root) = mounts.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (path, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then_some(path)
    }) else {
        return Some("needs cgroup v2".to_owned());
    };
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap_or_default();
    let group = Path::new(root).join(own);
    let controllers = std::fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    for controller in ["cpu", "memory", "pids"] {
        if !controllers.split_whitespace().any(|one| one == controller) {
            return Some(format!("needs cgroup v2's controller {controller}"));
        }
    }
    (!writable(&group)).then(|| "needs its cgroup v2 group delegated".to_owned())
});

static USERNS: Reason = LazyLock::new(|| {
    let mut child = Command::new("unshare");
    child.args(["--user", "--map-root-user", "--mount", "true"]);
    if nix::unistd::geteuid().is_root() {
        child.uid(65534).gid(65534);
    }
    (!succeeds(&mut child)).then(|| "needs user namespaces for ordinary users".to_owned())
});

static USER_MANAGER: Reason = LazyLock::new(|| {
    let mut child = Command::new("timeout");
    child.args(["5", "systemctl", "--user", "show-environment"]);
    (!succeeds(&mut child)).then(|| "needs a systemd user manager".to_owned())
});

static SYSTEMD_ANALYZE: Reason = LazyLock::new(|| {
    let mut child = Command::new("systemd-analyze");
    child.args(["security", "--offline=true", "--help"]);
    (!succeeds(&mut child)).then(|| "needs systemd-analyze of systemd 250".to_owned())
});

static APPARMOR: Reason = LazyLock::new(|| {
    let mut child = Command::new("apparmor_parser");
    (!succeeds(child.arg("--version"))).then(|| "needs apparmor_parser".to_owned())
});

static GO: Reason = LazyLock::new(|| {
    go::newest()
        .is_none()
        .then(|| "needs Go 1.24 or newer".to_owned())
});

static GO_1_19: Reason =
    LazyLock::new(|| (!Path::new(go::GO_1_19).exists()).then(|| "needs golang-1.19-go".to_owned()));

static PYTHON: Reason = LazyLock::new(|| {
    let mut child = Command::new("python3");
    child.args(["-c", "import ssl, urllib.request"]);
    (!succeeds(&mut child)).then(|| "needs python3".to_owned())
});

fn writable(path: impl AsRef<Path>) -> bool {
    nix::unistd::access(path.as_ref(), nix::unistd::AccessFlags::W_OK).is_ok()
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
