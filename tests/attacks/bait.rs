//! What the attempts are aimed at: a daemon with a hostile plugin and an honest one, and servers of the
//! host's that nobody in a jail may reach.

use std::fs::{self, Permissions};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use pinfold_tests::{go_fixture, scratch};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::names::Names;
use super::{Daemon, Setup, races, sql};

/// The hostile plugin, for what it does by itself.
pub(super) const MALLORY: &str = "mallory";

/// The same program, for what it asks of the host: floods of the other one's are not in its way.
pub(super) const TRUDY: &str = "trudy";

/// The same program, for attempts at which its jail ends.
pub(super) const KAMIKAZE: &str = "kamikaze";

const POLICY: &str = "[limits]
memory = '192MiB'
cpu = '200%'
processes = 64
tmp = '16MiB'
[permissions]
cache = 'readwrite'
db = [{ tables = ['items'], access = 'readwrite' }]
http = [{ hosts = ['*:*'] }, { hosts = ['127.0.0.3:*', '*.test:*'], addresses = ['127.0.0.3'] }]
[rates]
http-requests-per-minute = 1000
";

/// The same program, to which the policy shows something of the host and all of `/proc`.
pub(super) const OSCAR: &str = "oscar";

/// A plugin with something to hide.
pub(super) const VAULT: &str = "vault";

const VAULT_POLICY: &str = "[permissions]
cache = 'readwrite'
db = [{ tables = ['users'], access = 'read' }]
";

const VAULT_ASKS: &str = "resources:
  permissions:
    - type: db
      access: read
      scope: [users]
";

/// What its manifest asks for.
const ASKS: &str = "resources:
  permissions:
    - type: http
    - type: db
      access: readwrite
      scope: [items]
";

/// A plugin that ends is started again at once, and however often.
const CONFIG: &str = "[restart]\nfirst = '10ms'\nlongest = '20ms'\nlimit = 100\n";

/// Leaves a descriptor open for whatever is started: a host that forgets one. It asks the test for the
/// addresses of names.
const LEAK: &str = "mount --bind \"$0\" /etc/resolv.conf; exec 9</etc; exec \"$@\"";

/// Servers and directories of the host's, until it is dropped.
#[derive(Debug)]
pub(super) struct Bait {
    place: TempDir,
    loopback: TcpListener,
    address: TcpListener,
    abstract_name: String,
    in_no_directory: UnixListener,
    in_a_directory: UnixListener,
    in_what_is_shown: UnixListener,
    names: Names,
}

impl Bait {
    pub(super) fn lay() -> Self {
        let place = scratch();
        let in_what_is_shown = show(place.path());
        let abstract_name = format!("pinfold-bait-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        Self {
            loopback: TcpListener::bind("127.0.0.1:0").unwrap(),
            address: TcpListener::bind("0.0.0.0:0").unwrap(),
            in_no_directory: UnixListener::bind_addr(&address).unwrap(),
            in_a_directory: UnixListener::bind(place.path().join("socket")).unwrap(),
            in_what_is_shown,
            names: Names::serve(&place.path().join("resolv.conf")),
            abstract_name,
            place,
        }
    }

    /// A daemon with the plugins, started by somebody who forgot to close a descriptor.
    pub(super) fn daemon(&self) -> Daemon {
        let setup = Setup::new()
            .hello()
            .plugin_asking(MALLORY, "goatflow-g4", ASKS);
        helper(&setup.path("sources").join(MALLORY).join("helper"));
        let setup = races::prepare(setup, self.path());
        setup
            .policy(MALLORY, POLICY)
            .plugin_asking(TRUDY, "goatflow-g4", ASKS)
            .policy(TRUDY, POLICY)
            .plugin_asking(VAULT, "goatflow-g4", VAULT_ASKS)
            .policy(VAULT, VAULT_POLICY)
            .plugin(KAMIKAZE, "goatflow-g4")
            .policy(KAMIKAZE, POLICY)
            .plugin(OSCAR, "goatflow-g4")
            .file(&format!("etc/policy.d/{OSCAR}.toml"), &self.shown_policy())
            .file(
                "etc/pinfold.toml",
                &format!("{CONFIG}{}", sql::configuration(self.path())),
            )
            .through(&self.with_names(LEAK))
            .start()
    }

    /// A directory of the host's.
    pub(super) fn path(&self) -> &Path {
        self.place.path()
    }

    /// A program that runs `script`, where names are what this says.
    /// Its `$0` is what resolv.conf(5) has to be.
    pub(super) fn with_names<'a>(&'a self, script: &'a str) -> [&'a str; 8] {
        let private = ["unshare", "--mount", "--propagation", "private"];
        let [a, b, c, d] = private;
        [a, b, c, d, "bash", "-c", script, self.names.configuration()]
    }

    /// Whether somebody has connected to one of the host's servers since this was asked last.
    pub(super) fn is_taken(&self) -> bool {
        self.loopback.set_nonblocking(true).unwrap();
        self.in_a_directory.set_nonblocking(true).unwrap();
        self.in_no_directory.set_nonblocking(true).unwrap();
        self.in_what_is_shown.set_nonblocking(true).unwrap();
        let mut is_taken = false;
        while self.loopback.accept().is_ok()
            || self.in_a_directory.accept().is_ok()
            || self.in_no_directory.accept().is_ok()
            || self.in_what_is_shown.accept().is_ok()
        {
            is_taken = true;
        }
        is_taken
    }

    /// The host's servers, as variables of an environment.
    pub(super) fn servers(&self) -> [(&'static str, String); 3] {
        let loopback = self.loopback.local_addr().unwrap().to_string();
        let socket = self.path().join("socket").display().to_string();
        [
            ("ATTACK_LOOPBACK", loopback),
            ("ATTACK_SOCKET", socket),
            ("ATTACK_ABSTRACT", self.abstract_name.clone()),
        ]
    }

    /// What acts are aimed at inside, by a plugin of this name.
    pub(super) fn inside(&self, daemon: &Daemon, plugin: &str) -> Value {
        let state = format!("/app/data/plugins/{plugin}");
        let mut targets = self.targets(daemon, "1", "/tmp", "/run/plugin", &state);
        targets["HELPER"] = "/plugin/helper".into();
        targets["SHOWN"] = "/data/shown".into();
        targets["INBOX"] = "/data/inbox/open".into();
        targets
    }

    /// What they are aimed at outside.
    pub(super) fn outside(&self, daemon: &Daemon) -> Value {
        let directory = |name: &str| -> String {
            let path: PathBuf = self.place.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path.display().to_string()
        };
        let own = std::process::id().to_string();
        let (run, state) = (directory("run"), directory("state"));
        helper(&self.place.path().join("helper"));
        self.targets(daemon, &own, "/mnt", &run, &state)
    }

    fn shown_policy(&self) -> String {
        let source = |name: &str| self.path().join(name).display().to_string();
        let (shown, inbox) = (source("shown"), source("inbox"));
        format!(
            "schema = 1\ndialect = 'goatflow'\nentry = '{OSCAR}'\nproc = 'full'\n[trust]\nunsigned = true\n\
             [[mounts]]\nsource = '{shown}'\ntarget = '/data/shown'\n\
             [[mounts]]\nsource = '{inbox}'\ntarget = '/data/inbox'\nrw = true\n"
        )
    }

    fn targets(&self, daemon: &Daemon, init: &str, mount: &str, run: &str, state: &str) -> Value {
        let port = self.address.local_addr().unwrap().port();
        json!({
            "PID": daemon.plugin_pid("hello").to_string(),
            "INIT": init,
            "MOUNT": mount,
            "RUN": run,
            "STATE": state,
            "DISK": disk(),
            "HELPER": self.place.path().join("helper"),
            "LOOPBACK": self.loopback.local_addr().unwrap().to_string(),
            "ADDRESS": format!("{}:{port}", own_address()),
            "ABSTRACT": self.abstract_name,
            "SOCKET": self.place.path().join("socket"),
            "SHOWN": self.place.path().join("shown"),
            "INBOX": self.place.path().join("inbox/open"),
        })
    }
}

/// Directories that a policy shows: whatever in them can be dangerous is open to anybody, but for the
/// socket.
fn show(place: &Path) -> UnixListener {
    let open = |path: &str, mode: u32| {
        let mode = Permissions::from_mode(mode);
        fs::set_permissions(place.join(path), mode).unwrap();
    };
    for directory in ["shown", "shown/open", "inbox", "inbox/open"] {
        fs::create_dir(place.join(directory)).unwrap();
        open(
            directory,
            if directory.contains('/') {
                0o777
            } else {
                0o755
            },
        );
    }
    for file in ["secret", "shown/open/file"] {
        fs::write(place.join(file), "x").unwrap();
        open(file, 0o666);
    }
    symlink("/etc/shadow", place.join("shown/link")).unwrap();
    let (kind, zero) = (SFlag::S_IFCHR, makedev(1, 5));
    mknod(&place.join("shown/device"), kind, Mode::empty(), zero).unwrap();
    open("shown/device", 0o666);
    helper(&place.join("shown/helper"));
    let socket = UnixListener::bind(place.join("shown/socket")).unwrap();
    open("shown/socket", 0o600);
    socket
}

/// A second program for a plugin's directory.
fn helper(path: &Path) {
    fs::copy(go_fixture("goatflow-g4"), path).unwrap();
}

/// The first disk that the kernel knows.
fn disk() -> String {
    let partitions = fs::read_to_string("/proc/partitions").unwrap_or_default();
    let names = partitions
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3));
    let first = names.into_iter().find(|name| *name != "name");
    format!("/dev/{}", first.unwrap_or("sda"))
}

/// The address that this machine would send from; it sends nothing for that.
pub(super) fn own_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    match socket.connect("192.0.2.1:9") {
        Ok(()) => socket.local_addr().unwrap().ip().to_string(),
        Err(_) => "127.0.0.1".to_owned(),
    }
}
