//! What a daemon is started on: directories, plugins and policies.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use pinfold_tests::{binary, deadline, go_fixture, scratch, wait_for};
use serde_json::Value;
use tempfile::TempDir;

use super::daemon::Daemon;
use super::http::Server;

/// What a daemon is started on: a development installation of its own, in which an operator's
/// policies win over the ones that are granted as asked for.
pub(super) struct Setup {
    place: TempDir,
    plugins: Vec<PathBuf>,
    environment: BTreeMap<String, String>,
    /// Runs the daemon as this uid, without groups, instead of as root.
    uid: Option<u32>,
    /// Most descriptors of the daemon and of its launcher.
    open_files: Option<u32>,
    /// A program with arguments that starts the daemon in its own place.
    through: Vec<String>,
    /// Further arguments of the daemon.
    arguments: Vec<String>,
    /// What its standard input is, instead of nothing.
    stdin: Option<OwnedFd>,
}

impl Setup {
    pub(super) fn new() -> Self {
        Self {
            place: scratch(),
            plugins: Vec::new(),
            environment: BTreeMap::new(),
            uid: None,
            open_files: None,
            through: Vec::new(),
            arguments: Vec::new(),
            stdin: None,
        }
    }

    /// An installation that belongs to an ordinary user, and is run by it: by this test's own, or,
    /// where that is root, by `uid`.
    pub(super) fn of_user(uid: u32) -> Self {
        let mut setup = Self::new();
        if nix::unistd::geteuid().is_root() {
            setup.uid = Some(uid);
            std::os::unix::fs::chown(setup.place.path(), Some(uid), Some(uid)).unwrap();
        }
        setup
    }

    /// The fixture as plugin `name`, whose manifest asks for nothing. Its registration may.
    pub(super) fn plugin(self, name: &str, fixture: &str) -> Self {
        self.plugin_asking(name, fixture, "")
    }

    /// The same with further lines in its manifest.
    pub(super) fn plugin_asking(mut self, name: &str, fixture: &str, more: &str) -> Self {
        let directory = self.path("sources").join(name);
        write_plugin(&directory, fixture, more);
        self.plugins.push(directory);
        self
    }

    /// The reference plugin with its own manifest, for which nothing but development grants are
    /// there.
    pub(super) fn hello(mut self) -> Self {
        let directory = self.path("sources/hello");
        write_plugin(&directory, "hello", "");
        let manifest = pinfold_tests::repository().join("sdk/plugins/hello/plugin.yaml");
        fs::copy(manifest, directory.join("plugin.yaml")).unwrap();
        self.plugins.push(directory);
        self
    }

    /// The operator's policy for a plugin: it trusts any files, and `more` is what it grants and
    /// limits.
    pub(super) fn policy(self, name: &str, more: &str) -> Self {
        self.write_policy(name, more);
        self
    }

    /// A file of the installation, by its path below the installation's directory.
    pub(super) fn file(self, path: &str, text: &str) -> Self {
        write_file(&self.base().join(path), text);
        self
    }

    /// A plugin that ends by itself stays as it is then, to be looked at. The daemon has no
    /// database then.
    pub(super) fn without_restarts(self) -> Self {
        self.file("etc/pinfold.toml", "[restart]\nlimit = 0\n")
    }

    pub(super) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Limits the descriptors of the daemon and of its launcher. A jail is given 256.
    pub(super) fn open_files(mut self, limit: u32) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// A program with its first arguments that starts the daemon, by executing what follows them.
    pub(super) fn through(mut self, program: &[&str]) -> Self {
        self.through = program.iter().map(|&part| part.to_owned()).collect();
        self
    }

    /// Further arguments of the daemon.
    pub(super) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|&one| one.to_owned()).collect();
        self
    }

    /// What is passed to it, or to the program that starts it, as standard input.
    pub(super) fn stdin(mut self, stdin: OwnedFd) -> Self {
        self.stdin = Some(stdin);
        self
    }

    /// Starts the daemon and waits until every plugin has been started or has failed.
    pub(super) fn start(self) -> Daemon {
        // A slow machine's daemon is ready before all of its plugins have started.
        self.start_until(|status| status["state"] == "ready" && status["still_starting"] == 0)
    }

    /// Starts the daemon and waits until its status is as wanted.
    pub(super) fn start_until(self, is_wanted: impl Fn(&Value) -> bool) -> Daemon {
        let mut child = self.spawn();
        let admin = Server::Unix(self.base().join("run/admin.sock"));
        let status = wait_for("the daemon to have started", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("pinfoldd ended with {status}: {}", self.printed());
            }
            let status = admin.get("/api/pinfold/v1/status").try_send().ok()?.json();
            is_wanted(&status).then_some(status)
        });
        Daemon::new(child, self, admin, &status)
    }

    /// Starts a daemon that ends by itself; gives its exit code and what it printed.
    pub(super) fn start_and_fail(&self) -> (Option<i32>, String) {
        let mut child = self.spawn();
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for("the daemon to give up", || child.try_wait().unwrap())
        }));
        if ended.is_err() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        (ended.unwrap().code(), self.printed())
    }

    /// Writes [`Self::policy`] now.
    pub(super) fn write_policy(&self, name: &str, more: &str) {
        let path = self.base().join(format!("etc/policy.d/{name}.toml"));
        let text = self.policy_text(name, more);
        assert_in_schema(&text);
        write_file(&path, &text);
    }

    /// The same installation without plugins to put into it: with those that are there.
    pub(super) fn without_additions(mut self) -> Self {
        self.plugins.clear();
        self
    }

    /// As an ordinary user, to whom nobody has delegated a control group, the limits on memory and
    /// processor time cannot be had: the policy has to say that this is known.
    fn policy_text(&self, name: &str, more: &str) -> String {
        let is_root = self.uid.is_none() && nix::unistd::geteuid().is_root();
        let controls = if is_root {
            ""
        } else {
            "[controls]
memory = { wanted = 'preferred', i-accept-the-risk = 'no delegation' }
cpu = 'preferred'
"
        };
        // The default, longer on a machine that is slower.
        let handshake = format!("[timeouts]\nhandshake = '{}'\n", deadline(10));
        let more = match more.split_once("[timeouts]\n") {
            Some(_) if more.contains("handshake") => more.to_owned(),
            Some((before, after)) => format!("{before}{handshake}{after}"),
            None => format!("{more}\n{handshake}"),
        };
        format!(
            "schema = 1\ndialect = \"goatflow\"\nentry = \"{name}\"\n[trust]\nunsigned = true\n{more}{controls}"
        )
    }

    /// Starts the daemon and waits for nothing.
    pub(super) fn spawn(&self) -> Child {
        if let Some(uid) = self.uid
            && self.base().exists()
        {
            give_away(&self.base(), uid);
        }
        let mut command = match (self.uid, self.open_files) {
            (None, None) => Command::new(binary("pinfoldd")),
            (None, Some(limit)) => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={limit}:{limit}"));
                command.arg(binary("pinfoldd"));
                command
            }
            (Some(uid), _) => {
                let mut command = Command::new("setpriv");
                let ids = [format!("--reuid={uid}"), format!("--regid={uid}")];
                command.args(ids).arg("--clear-groups").arg("--");
                command.arg(self.reachable("pinfoldd"));
                self.reachable("pinfold-launcher");
                command
            }
        };
        command.args(["--dev", "--listen", "127.0.0.1:0"]);
        command.arg("--dev-dir").arg(self.base());
        command.args(&self.arguments);
        for plugin in &self.plugins {
            command.arg("--with-plugin").arg(plugin);
        }
        if let [program, arguments @ ..] = &self.through[..] {
            let mut outer = Command::new(program);
            outer.args(arguments).arg(command.get_program());
            outer.args(command.get_args());
            command = outer;
        }
        command
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.place.path())
            .envs(&self.environment)
            .stdin(match &self.stdin {
                Some(stdin) => Stdio::from(stdin.try_clone().unwrap()),
                None => Stdio::null(),
            })
            .stdout(self.output("stdout"))
            .stderr(self.output("stderr"))
            .spawn()
            .unwrap()
    }

    /// A copy of the program where any user can execute it.
    fn reachable(&self, name: &str) -> PathBuf {
        let copy = self.path(name);
        if !copy.exists() {
            fs::copy(binary(name), &copy).unwrap();
        }
        copy
    }

    fn output(&self, name: &str) -> File {
        let path = self.path(name);
        File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap()
    }

    /// What the daemon and its launcher printed on standard error.
    pub(super) fn all_printed(&self) -> String {
        let bytes = fs::read(self.path("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The same without the line for each request: too many to see the others.
    pub(super) fn printed(&self) -> String {
        let access_log = " pinfold::access: ";
        self.all_printed()
            .lines()
            .filter(|line| !line.contains(access_log))
            .flat_map(|line| [line, "\n"])
            .collect()
    }

    /// The installation's directory.
    pub(super) fn base(&self) -> PathBuf {
        self.path("x")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }
}

/// What the parser of policies takes, the schema for editors takes too.
fn assert_in_schema(policy: &str) {
    static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
        let schema = serde_json::from_str(pinfold_policy::POLICY_SCHEMA).unwrap();
        jsonschema::validator_for(&schema).unwrap()
    });
    if pinfold_policy::PolicyFile::parse(policy.as_bytes()).is_ok() {
        let document: toml::Table = toml::from_str(policy).unwrap();
        let document = serde_json::to_value(document).unwrap();
        let errors: Vec<String> = SCHEMA
            .iter_errors(&document)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(
            errors.is_empty(),
            "docs/policy.schema.json: {errors:?}: {policy}"
        );
    }
}

/// A file that only its owner can change, with its directories.
fn write_file(path: &Path, text: &str) {
    let directory = path.parent().unwrap();
    fs::create_dir_all(directory).unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

/// Makes a directory and everything in it `uid`'s.
fn give_away(path: &Path, uid: u32) {
    std::os::unix::fs::chown(path, Some(uid), Some(uid)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give_away(&entry.unwrap().path(), uid);
        }
    }
}

/// A plugin's directory: the fixture under the directory's name, and a manifest with `more` in it.
pub(super) fn write_plugin(directory: &Path, fixture: &str, more: &str) {
    let name = directory.file_name().unwrap().to_str().unwrap();
    fs::create_dir_all(directory).unwrap();
    let program = directory.join(name);
    fs::copy(go_fixture(fixture), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let manifest = format!("name: {name}\nversion: 1.0.0\nruntime: grpc\nbinary: {name}\n{more}");
    fs::write(directory.join("plugin.yaml"), manifest).unwrap();
}
