//! What the attempts are aimed at: a daemon with a hostile plugin and an honest one, and servers of the
//! host's that nobody in a jail may reach.

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use pinfold_tests::{go_fixture, scratch};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Daemon, Setup};

/// The hostile plugin.
pub(super) const MALLORY: &str = "mallory";

/// The same program, for attempts at which its jail ends.
pub(super) const KAMIKAZE: &str = "kamikaze";

const POLICY: &str = "[limits]
memory = '192MiB'
cpu = '200%'
processes = 64
tmp = '16MiB'
[permissions]
cache = 'readwrite'
";

/// A plugin that ends is started again at once, and however often.
const CONFIG: &str = "[restart]\nfirst = '10ms'\nlongest = '20ms'\nlimit = 100\n";

/// Leaves a descriptor open for whatever is started: a host that forgets one.
const LEAK: &str = "exec 9</etc; exec \"$@\"";

/// Servers and directories of the host's, until it is dropped.
#[derive(Debug)]
pub(super) struct Bait {
    place: TempDir,
    loopback: TcpListener,
    address: TcpListener,
    abstract_name: String,
    _abstract: UnixListener,
    _socket: UnixListener,
}

impl Bait {
    pub(super) fn lay() -> Self {
        let place = scratch();
        let abstract_name = format!("pinfold-bait-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        Self {
            loopback: TcpListener::bind("127.0.0.1:0").unwrap(),
            address: TcpListener::bind("0.0.0.0:0").unwrap(),
            _abstract: UnixListener::bind_addr(&address).unwrap(),
            _socket: UnixListener::bind(place.path().join("socket")).unwrap(),
            abstract_name,
            place,
        }
    }

    /// A daemon with the plugins, started by somebody who forgot to close a descriptor.
    pub(super) fn daemon(&self) -> Daemon {
        let setup = Setup::new().hello().plugin(MALLORY, "goatflow-g4");
        helper(&setup.path("sources").join(MALLORY).join("helper"));
        setup
            .policy(MALLORY, POLICY)
            .plugin(KAMIKAZE, "goatflow-g4")
            .policy(KAMIKAZE, POLICY)
            .file("etc/pinfold.toml", CONFIG)
            .through(&["bash", "-c", LEAK, "bash"])
            .start()
    }

    /// What acts are aimed at inside, by a plugin of this name.
    pub(super) fn inside(&self, daemon: &Daemon, plugin: &str) -> Value {
        let state = format!("/app/data/plugins/{plugin}");
        let mut targets = self.targets(daemon, "1", "/tmp", "/run/plugin", &state);
        targets["HELPER"] = "/plugin/helper".into();
        targets
    }

    /// What they are aimed at outside.
    pub(super) fn outside(&self, daemon: &Daemon) -> Value {
        let directory = |name: &str| -> String {
            let path: PathBuf = self.place.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path.display().to_string()
        };
        let own = std::process::id().to_string();
        let (run, state) = (directory("run"), directory("state"));
        helper(&self.place.path().join("helper"));
        self.targets(daemon, &own, "/mnt", &run, &state)
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
        })
    }
}

/// A second program for a plugin's directory.
fn helper(path: &Path) {
    std::fs::copy(go_fixture("goatflow-g4"), path).unwrap();
}

/// The first disk that the kernel knows.
fn disk() -> String {
    let partitions = std::fs::read_to_string("/proc/partitions").unwrap_or_default();
    let names = partitions
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3));
    let first = names.into_iter().find(|name| *name != "name");
    format!("/dev/{}", first.unwrap_or("sda"))
}

/// The address that this machine would send from; it sends nothing for that.
fn own_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    match socket.connect("192.0.2.1:9") {
        Ok(()) => socket.local_addr().unwrap().ip().to_string(),
        Err(_) => "127.0.0.1".to_owned(),
    }
}
