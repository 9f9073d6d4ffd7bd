//! A launcher of its own for each test, with directories that end with it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pinfold_policy::{Digest, Generation, InstanceId, PluginId};
use pinfold_sandbox::client::{CallError, Client, connect, spawn};
use pinfold_sandbox::protocol::{
    Event, ExitCause, Failure, KillHow, Launched, Loopback, Reply, Request, SocketDirectory, Stats,
};

pub(crate) use crate::patience::PATIENCE;
use crate::skip::skip;

/// Whether this machine lets the test run as root; else it is skipped by name, or fails where root
/// was promised.
pub(crate) fn has_root(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    skip(test, "root", "it needs root");
    false
}

/// Where a service's daemons come in.
const SOCKET: &str = "launcher.sock";

/// A launcher and everything around it.
pub(crate) struct Machine {
    root: tempfile::TempDir,
    pub(crate) client: Client,
    pub(crate) child: Child,
    /// A service's listening socket, which the service manager keeps too.
    pub(crate) listener: Option<OwnedFd>,
}

/// What a test may change of the configuration before the launcher starts.
#[derive(Clone, Copy, Default)]
pub(crate) struct Setup<'a> {
    /// Further lines of launcher.toml.
    pub(crate) config: &'a str,
    /// Further arguments.
    pub(crate) arguments: &'a [&'a str],
    /// Its environment, in place of the test's.
    pub(crate) environment: &'a [(&'a str, &'a str)],
    /// What is done in the directory of everything before the launcher starts.
    pub(crate) prepare: Option<&'a dyn Fn(&Path)>,
    /// Run it as this user, who then owns everything; else as the test's own.
    pub(crate) user: Option<&'a str>,
}

impl Machine {
    pub(crate) fn start() -> Self {
        Self::with(Setup::default())
    }

    pub(crate) fn with(setup: Setup<'_>) -> Self {
        let root = directories();
        let config = write_config(root.path(), setup);
        if let Some(prepare) = setup.prepare {
            prepare(root.path());
        }
        let launcher = Path::new(env!("CARGO_BIN_EXE_pinfold-launcher"));
        let user = setup.user.filter(|_| rustix::process::geteuid().is_root());
        let (client, child) = match (user, setup.environment) {
            (None, []) => spawn(launcher, &config, setup.arguments).unwrap(),
            (user, environment) => spawn_as(user, environment, root.path(), &config),
        };
        Self {
            root,
            client,
            child,
            listener: None,
        }
    }

    /// A launcher as a service manager starts it: with a listening socket, on which this is its first
    /// daemon.
    pub(crate) fn service(setup: Setup<'_>) -> Self {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
        let root = directories();
        let config = write_config(root.path(), setup);
        // A copy of its own, which a test may replace.
        let program = copied(root.path());
        let path = root.path().join(SOCKET);
        let flags = SocketFlags::CLOEXEC;
        let kind = SocketType::SEQPACKET;
        let listener = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&listener, 8).unwrap();
        let managers = listener.try_clone().unwrap();
        #[expect(
            clippy::disallowed_methods,
            reason = "the test starts it in a service manager's place"
        )]
        let child = Command::new("sh")
            .arg("-c")
            .arg("export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\" 3<&0 </dev/null")
            .arg("sh")
            .arg(program)
            .arg("--config")
            .arg(config)
            .arg("--service")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(listener)
            .spawn()
            .unwrap();
        let client = connect(&path).unwrap();
        Self {
            root,
            client,
            child,
            listener: Some(managers),
        }
    }

    /// Ends the daemon's connection, and is the next daemon.
    pub(crate) fn reconnect(&mut self) {
        self.close();
        self.client = connect(&self.path(SOCKET)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A plugin directory with the test program as `probe`.
    pub(crate) fn add_plugin(&self, plugin: &str) -> PathBuf {
        let directory = self.path("plugins").join(plugin);
        fs::create_dir_all(&directory).unwrap();
        fs::copy(probe(), directory.join("probe")).unwrap();
        directory
    }

    /// Writes a policy that runs `probe` with these arguments; `more` is appended.
    pub(crate) fn add_policy(&self, plugin: &str, args: &[&str], more: &str) {
        let text = format!(
            "schema = 1\ndialect = \"goatflow\"\nentry = \"probe\"\nargs = {args:?}\n{}{more}",
            if more.contains("[trust]") {
                ""
            } else {
                "[trust]\nunsigned = true\n"
            }
        );
        let path = self.path("policies").join(format!("{plugin}.toml"));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        // The launcher's user's, like everything here.
        let owner = fs::metadata(self.root.path()).unwrap().uid();
        std::os::unix::fs::chown(&path, Some(owner), None).unwrap();
    }

    pub(crate) fn call(&self, request: &Request) -> Result<Reply, Failure> {
        match self.client.call(request, PATIENCE) {
            Ok(reply) => Ok(reply),
            Err(CallError::Failed(failure)) => Err(failure),
            Err(error) => panic!("{request:?}: {error}: {error:?}"),
        }
    }

    pub(crate) fn stage(&self, plugin: &str) -> Result<(Digest, OwnedFd), Failure> {
        let plugin = id(plugin);
        match self.call(&Request::Stage { plugin })? {
            Reply::Staged { digest, root } => Ok((digest, root)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn launch_with(
        &self,
        plugin: &str,
        digest: Digest,
        values: &[(&str, &str)],
    ) -> Result<Launched, Failure> {
        let request = Request::Launch {
            plugin: id(plugin),
            generation: Generation(1),
            digest,
            values: values
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>(),
        };
        match self.call(&request)? {
            Reply::Launched(launched) => Ok(launched),
            other => panic!("{other:?}"),
        }
    }

    /// Adds, stages and launches a plugin that does `args`.
    pub(crate) fn run(&self, plugin: &str, args: &[&str], more: &str) -> Result<Launched, Failure> {
        self.add_plugin(plugin);
        self.add_policy(plugin, args, more);
        let (digest, _) = self.stage(plugin)?;
        self.launch_with(plugin, digest, &[])
    }

    pub(crate) fn kill(&self, instance: InstanceId, how: KillHow) -> Result<(), Failure> {
        match self.call(&Request::Kill { instance, how })? {
            Reply::Killed => Ok(()),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn stats(&self, instance: InstanceId) -> Result<Stats, Failure> {
        match self.call(&Request::Stats { instance })? {
            Reply::Stats(stats) => Ok(stats),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn connect(
        &self,
        instance: InstanceId,
        directory: SocketDirectory,
        name: &str,
    ) -> Result<OwnedFd, Failure> {
        let request = Request::Connect {
            instance,
            directory,
            name: name.to_owned(),
        };
        match self.call(&request)? {
            Reply::Connected { socket } => Ok(socket),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn connect_port(
        &self,
        instance: InstanceId,
        loopback: Loopback,
        port: u16,
    ) -> Result<OwnedFd, Failure> {
        let request = Request::ConnectPort {
            instance,
            loopback,
            port: port.try_into().unwrap(),
        };
        match self.call(&request)? {
            Reply::Connected { socket } => Ok(socket),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn posture(&self, plugin: Option<&str>) -> pinfold_sandbox::posture::Posture {
        let plugin = plugin.map(id);
        match self.call(&Request::Probe { plugin }).unwrap() {
            Reply::Posture { toml } => {
                let mut text = String::new();
                fs::File::from(toml).read_to_string(&mut text).unwrap();
                pinfold_sandbox::posture::Posture::from_toml(&text).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Ends the daemon's connection.
    pub(crate) fn close(&mut self) {
        let (other, _) = std::os::unix::net::UnixStream::pair().unwrap();
        self.client = Client::new(other.into());
    }

    /// Waits for the end of an instance.
    pub(crate) fn exited(&self, instance: InstanceId) -> ExitCause {
        loop {
            match self.client.next_event(PATIENCE).unwrap() {
                Event::Exited {
                    instance: ended,
                    cause,
                } => {
                    assert_eq!(ended, instance);
                    return cause;
                }
                // What a probe of a busy machine finds is no test's but its own.
                Event::ControlChanged(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Whatever the test left: the launcher ends with its connection, or else by force.
        if self.child.try_wait().unwrap().is_none() {
            rustix::process::kill_process(
                rustix::process::Pid::from_child(&self.child),
                rustix::process::Signal::TERM,
            )
            .unwrap();
            self.child.wait().unwrap();
        }
        // Where a test has mounted it; else there is nothing.
        let _unmounted = nix::mount::umount2(&self.path("state"), nix::mount::MntFlags::MNT_DETACH);
    }
}

pub(crate) fn id(plugin: &str) -> PluginId {
    plugin.parse().unwrap()
}

fn directories() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["plugins", "policies", "keys", "data", "data/profiles"] {
        let path = root.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    root
}

/// Starts the launcher in another way than a daemon does: as another user, who gets everything below
/// `root`, or with an environment of its own.
fn spawn_as(
    user: Option<&str>,
    environment: &[(&str, &str)],
    root: &Path,
    config: &Path,
) -> (Client, Child) {
    use std::os::unix::fs::chown;
    use std::os::unix::process::CommandExt;
    // The user may not reach where it was built.
    let own = copied(root);
    let (ours, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    #[expect(
        clippy::disallowed_methods,
        reason = "the client has no way to start a launcher like this"
    )]
    let mut command = Command::new(own);
    command
        .arg("--config")
        .arg(config)
        .args(["--socket-fd", "0"])
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(theirs);
    if let Some(user) = user {
        let user = nix::unistd::User::from_name(user).unwrap().unwrap();
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        chown(root, Some(uid), Some(gid)).unwrap();
        for entry in fs::read_dir(root).unwrap() {
            chown(entry.unwrap().path(), Some(uid), Some(gid)).unwrap();
        }
        chown(root.join("data/profiles"), Some(uid), Some(gid)).unwrap();
        command.uid(uid).gid(gid);
    }
    (Client::new(ours), command.spawn().unwrap())
}

/// A copy of the launcher below `root`. Made by another process: a descriptor for writing of ours would
/// be in children that other tests fork meanwhile, and the file be busy.
fn copied(root: &Path) -> PathBuf {
    let own = root.join("pinfold-launcher");
    #[expect(clippy::disallowed_methods, reason = "the test copies its own file")]
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_pinfold-launcher"))
        .arg(&own)
        .status()
        .unwrap();
    assert!(copied.success(), "cp: {copied}");
    own
}

fn write_config(root: &Path, setup: Setup<'_>) -> PathBuf {
    let path = |name: &str| root.join(name).display().to_string();
    let text = format!(
        "plugin-dir = {:?}\npolicy-dir = {:?}\nkeys-dir = {:?}\nstate-dir = {:?}\n\
         data-dir = {:?}\ndaemon-user = {:?}\n{}",
        path("plugins"),
        path("policies"),
        path("keys"),
        path("state"),
        path("data"),
        setup.user.unwrap_or("nobody"),
        setup.config,
    );
    let config = root.join("launcher.toml");
    fs::write(&config, text).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    config
}

/// The test program, built once.
fn probe() -> &'static Path {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let built = target.join("launcher-probe");
        let fresh = target.join(format!("launcher-probe-{}", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/launcher/probe.c");
        #[expect(
            clippy::disallowed_methods,
            reason = "the test builds the program that it lets the launcher start"
        )]
        let status = Command::new("cc")
            .args(["-static", "-O1", "-o"])
            .arg(&fresh)
            .arg(source)
            .status()
            .expect("cc runs: Rust needs it to link");
        assert!(status.success(), "cc: {status}");
        // Whole at once: other test runs may be using it.
        fs::rename(fresh, &built).unwrap();
        built
    })
}

/// The lines of a plugin's output, until one is `last`.
pub(crate) fn lines_until(pipe: OwnedFd, last: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in BufReader::new(fs::File::from(pipe)).lines() {
        let line = line.unwrap();
        if line == last {
            return lines;
        }
        lines.push(line);
    }
    panic!("no line {last:?} among {lines:?}");
}

/// All of a plugin's output, once it has ended.
pub(crate) fn output(pipe: OwnedFd) -> String {
    let mut text = String::new();
    fs::File::from(pipe).read_to_string(&mut text).unwrap();
    text
}

/// Waits until something holds: for what nothing tells of.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
