//! A whole Pinfold as root: the daemon, its launcher and jailed plugins, on an installation of its
//! own. Rates are off, the audit is on, and all else is as a new installation has it, with the
//! access log in a file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::group::Group;
use super::request::Server;
use crate::{binary, go_fixture, scratch};

/// For the daemon to start with all its plugins. Two hundred on a busy machine take a minute.
const START_LIMIT: Duration = Duration::from_secs(300);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const AGAIN_AFTER: Duration = Duration::from_millis(2);

/// What is granted and limited. Rates of calls into a plugin are off by default; that of host calls
/// cannot be, and is as high as can be written.
const POLICY: &str = "\
[permissions]
db = [{ database = 'main', tables = ['items'], access = 'read' }]
cache = 'readwrite'
[limits]
cpu = '200%'
[rates]
host-calls-per-second = 4294967295
";

/// Builds these Go programs, and makes sure of ours.
pub(super) fn prepare(fixtures: &[&str]) {
    for name in ["pinfoldd", "pinfold-launcher"] {
        drop(binary(name));
    }
    for name in fixtures {
        drop(go_fixture(name));
    }
}

/// What a daemon is started on.
pub(super) struct Installation {
    place: TempDir,
}

/// A running daemon. Dropping it kills it; its launcher and jails end with it, or with the group.
pub(super) struct Daemon {
    child: Child,
    launcher: u32,
    address: SocketAddr,
    installation: Installation,
    /// From the start of its process until every plugin served.
    pub(super) started_within: Duration,
}

impl Installation {
    pub(super) fn new() -> anyhow::Result<Self> {
        let installation = Self { place: scratch() };
        for directory in ["x", "x/plugins", "x/etc", "x/etc/policy.d"] {
            fs::DirBuilder::new()
                .mode(0o755)
                .create(installation.place.path().join(directory))?;
        }
        Ok(installation)
    }

    /// Adds a plugin under this name, with variables for its environment.
    pub(super) fn plugin(
        self,
        name: &str,
        program: &Path,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        self.plugin_under(POLICY, name, program, environment)
    }

    /// The same with a policy of the caller's: what follows `[trust]`.
    pub(super) fn plugin_under(
        self,
        policy: &str,
        name: &str,
        program: &Path,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let directory = self.base().join("plugins").join(name);
        fs::create_dir(&directory)?;
        let entry = directory.join(name);
        fs::copy(program, &entry).with_context(|| format!("copy {}", program.display()))?;
        fs::set_permissions(&entry, fs::Permissions::from_mode(0o755))?;
        fs::write(
            directory.join("plugin.yaml"),
            format!("name: {name}\nversion: 1.0.0\nruntime: grpc\nbinary: {name}\n"),
        )?;
        let mut policy = format!(
            "schema = 1\ndialect = 'goatflow'\nentry = '{name}'\n[trust]\nunsigned = true\n{policy}[env]\n"
        );
        for (key, value) in environment {
            policy += &format!("{key} = '{value}'\n");
        }
        let path = self.base().join(format!("etc/policy.d/{name}.toml"));
        fs::write(&path, policy)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        Ok(self)
    }

    /// Starts the daemon within the group, and waits until every plugin serves.
    pub(super) fn start(self, group: &Group) -> anyhow::Result<Daemon> {
        let output = |name: &str| File::create(self.place.path().join(name));
        let mut command = group.command(binary("pinfoldd"));
        command
            .args(["--dev", "--listen", "127.0.0.1:0", "--dev-dir"])
            .arg(self.base())
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.place.path())
            .stdin(Stdio::null())
            .stdout(output("stdout")?)
            .stderr(output("stderr")?);
        let begin = Instant::now();
        let mut child = command.spawn().context("start pinfoldd")?;
        match self.wait_ready(&mut child, begin + START_LIMIT) {
            Ok((address, launcher)) => Ok(Daemon {
                child,
                launcher,
                address,
                installation: self,
                started_within: begin.elapsed(),
            }),
            Err(error) => {
                child.kill().unwrap_or_default();
                child.wait().map(drop).unwrap_or_default();
                Err(error.context(self.printed()))
            }
        }
    }

    fn wait_ready(&self, child: &mut Child, end: Instant) -> anyhow::Result<(SocketAddr, u32)> {
        let admin = self.admin();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                bail!("pinfoldd ended with {status}");
            }
            // Until it listens nobody answers.
            let status = admin.get("/api/pinfold/v1/status");
            if let Ok(status) = status.and_then(|answer| answer.json())
                && status["state"] == "ready"
            {
                break status;
            }
            ensure!(Instant::now() < end, "pinfoldd was not ready in time");
            std::thread::sleep(AGAIN_AFTER);
        };
        let plugins = admin.get("/api/pinfold/v1/plugins")?.json()?;
        for plugin in plugins.as_array().context("a list of plugins")? {
            ensure!(
                plugin["state"] == "ready",
                "a plugin does not serve: {plugin}"
            );
        }
        let url = status["listeners"][0].as_str().unwrap_or_default();
        let address = url
            .strip_prefix("http://")
            .and_then(|address| address.parse().ok())
            .with_context(|| format!("no listener: {status}"))?;
        Ok((address, child_of(child.id())?))
    }

    fn admin(&self) -> Server {
        Server::Unix(self.base().join("run/admin.sock"))
    }

    fn base(&self) -> PathBuf {
        self.place.path().join("x")
    }

    /// The end of what the daemon and its launcher printed, without the line for each request.
    fn printed(&self) -> String {
        let bytes = fs::read(self.place.path().join("stderr")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines = text
            .lines()
            .filter(|line| !line.contains("pinfold::access"));
        let mut last: Vec<&str> = lines.rev().take(20).collect();
        last.reverse();
        last.join("\n")
    }
}

impl Daemon {
    /// Where the gateway listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn admin(&self) -> Server {
        self.installation.admin()
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn launcher_pid(&self) -> u32 {
        self.launcher
    }

    /// Every jail's reaper, with the plugin that it started.
    pub(super) fn jails(&self) -> anyhow::Result<Vec<(u32, u32)>> {
        let reapers = children(|of| of == self.launcher)?;
        let reapers: BTreeSet<u32> = reapers.into_iter().map(|(_, reaper)| reaper).collect();
        children(|of| reapers.contains(&of))
    }

    /// A name for a file of the benchmark's own, in the file system of the plugin directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.installation.place.path().join(name)
    }

    /// A plugin's program in the plugin directory.
    pub(super) fn program(&self, plugin: &str) -> PathBuf {
        self.installation
            .base()
            .join("plugins")
            .join(plugin)
            .join(plugin)
    }

    /// A new token of an ordinary user.
    pub(super) fn token(&self) -> anyhow::Result<String> {
        let wanted = json!({ "name": "bench", "user": "bench", "roles": ["user"] });
        let made = self
            .admin()
            .post("/api/pinfold/v1/tokens", &wanted)?
            .json()?;
        let token = made["token"].as_str().context("a token")?;
        Ok(token.to_owned())
    }

    /// The result of a call by the administration.
    pub(super) fn call(
        &self,
        plugin: &str,
        function: &str,
        arguments: &Value,
    ) -> anyhow::Result<Value> {
        let path = format!("/api/pinfold/v1/plugins/{plugin}/call/{function}");
        self.admin().post(&path, arguments)?.json()
    }

    /// Fails where the plugin does not serve.
    pub(super) fn serves(&self, plugin: &str) -> anyhow::Result<()> {
        let path = format!("/api/pinfold/v1/plugins/{plugin}");
        let plugin = self.admin().get(&path)?.json()?;
        ensure!(plugin["state"] == "ready", "it does not serve: {plugin}");
        Ok(())
    }

    /// Switches a plugin off or on, and waits until that is done.
    pub(super) fn switch(&self, plugin: &str, how: &str) -> anyhow::Result<()> {
        let path = format!("/api/pinfold/v1/plugins/{plugin}/{how}");
        self.admin().post(&path, &json!({}))?.json()?;
        Ok(())
    }

    /// Ends it in order.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.pid())?), Signal::SIGTERM)?;
        let end = Instant::now() + STOP_LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < end, "pinfoldd does not end");
            std::thread::sleep(AGAIN_AFTER);
        };
        ensure!(
            status.success(),
            "pinfoldd ended with {status}: {}",
            self.installation.printed()
        );
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
        // The installation's directories may go only when nothing is mounted there any more.
        let end = Instant::now() + STOP_LIMIT;
        while lives(self.launcher) && Instant::now() < end {
            std::thread::sleep(AGAIN_AFTER);
        }
    }
}

/// The one child of a process: the daemon starts its launcher and nothing else.
fn child_of(parent: u32) -> anyhow::Result<u32> {
    children(|of| of == parent)?
        .into_iter()
        .next()
        .map(|(_, child)| child)
        .with_context(|| format!("process {parent} has started no launcher"))
}

/// Children of those processes, each after its parent.
fn children(of: impl Fn(u32) -> bool) -> anyhow::Result<Vec<(u32, u32)>> {
    Ok(fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((field(pid, "PPid:")?.parse().ok()?, pid)))
        .filter(|(parent, _)| of(*parent))
        .collect())
}

/// Whether it runs: not gone, and not merely waiting to be reaped.
fn lives(pid: u32) -> bool {
    field(pid, "State:").is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// A line of `/proc/PID/status`.
fn field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_owned())
}
