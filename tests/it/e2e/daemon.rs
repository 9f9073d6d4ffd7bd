//! A daemon with directories, plugins and a port of its own. Everything ends with the value.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use pinfold_tests::{binary, go_fixture, scratch, wait_for};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{Answer, Server};
use super::process;

/// What a daemon is started on: a development installation of its own, in which an operator's
/// policies win over the ones that are granted as asked for.
pub(super) struct Setup {
    place: TempDir,
    plugins: Vec<PathBuf>,
    environment: BTreeMap<String, String>,
    /// Runs the daemon as this uid, without groups, instead of as root.
    uid: Option<u32>,
}

impl Setup {
    pub(super) fn new() -> Self {
        Self {
            place: scratch(),
            plugins: Vec::new(),
            environment: BTreeMap::new(),
            uid: None,
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
        self.file(&policy_path(name), &policy_text(name, more))
    }

    /// A file of the installation, by its path below the installation's directory.
    pub(super) fn file(self, path: &str, text: &str) -> Self {
        write_file(&self.base().join(path), text);
        self
    }

    pub(super) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Starts the daemon and waits until every plugin has been started or has failed.
    pub(super) fn start(self) -> Daemon {
        self.start_until(|status| status["state"] == "ready")
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
        let url = status["listeners"][0].as_str().unwrap();
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        Daemon {
            launcher: process::children(child.id()).first().copied(),
            child,
            setup: Some(self),
            admin,
            http: Server::Tcp(address),
        }
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

    fn spawn(&self) -> Child {
        let mut command = match self.uid {
            None => Command::new(binary("pinfoldd")),
            Some(uid) => {
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
        for plugin in &self.plugins {
            command.arg("--with-plugin").arg(plugin);
        }
        command
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.place.path())
            .envs(&self.environment)
            .stdin(Stdio::null())
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

/// A running daemon. Dropping it kills it, and waits until its launcher and every jail are gone.
pub(super) struct Daemon {
    child: Child,
    launcher: Option<u32>,
    setup: Option<Setup>,
    admin: Server,
    http: Server,
}

impl Daemon {
    /// The gateway's listener.
    pub(super) fn http(&self) -> &Server {
        &self.http
    }

    /// The administration socket.
    pub(super) fn admin(&self) -> &Server {
        &self.admin
    }

    pub(super) fn setup(&self) -> &Setup {
        self.setup.as_ref().expect("taken when it has ended")
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn launcher_pid(&self) -> u32 {
        self.launcher.expect("the daemon has started one")
    }

    pub(super) fn status(&self) -> Value {
        self.admin.get("/api/pinfold/v1/status").send().ok()
    }

    /// Everything about one plugin.
    pub(super) fn plugin(&self, name: &str) -> Value {
        let path = format!("/api/pinfold/v1/plugins/{name}");
        self.admin.get(&path).send().ok()
    }

    /// A plugin that is `ready`, or the test fails with why it is not.
    #[track_caller]
    pub(super) fn ready(&self, name: &str) -> Value {
        let plugin = self.plugin(name);
        assert_eq!(plugin["state"], "ready", "{name}: {}", plugin["reason"]);
        plugin
    }

    /// Waits until a plugin is in this state.
    pub(super) fn in_state(&self, name: &str, state: &str) -> Value {
        wait_for(&format!("{name} to be {state}"), || {
            Some(self.plugin(name)).filter(|plugin| plugin["state"] == state)
        })
    }

    /// Host process id of a plugin's main process.
    pub(super) fn plugin_pid(&self, name: &str) -> u32 {
        let pid = self.ready(name)["pid"].as_u64().unwrap();
        u32::try_from(pid).unwrap()
    }

    /// Calls a function over the administration socket.
    pub(super) fn call(&self, plugin: &str, function: &str, arguments: &Value) -> Answer {
        let path = format!("/api/pinfold/v1/plugins/{plugin}/call/{function}");
        self.admin.post(&path).json(arguments).send()
    }

    /// The result of a call that succeeds.
    #[track_caller]
    pub(super) fn result(&self, plugin: &str, function: &str, arguments: &Value) -> Value {
        self.call(plugin, function, arguments).ok()
    }

    /// One call of a host method by the plugin; the answer as the plugin got it.
    #[track_caller]
    pub(super) fn host(&self, plugin: &str, method: &str, arguments: &Value) -> Value {
        let request = json!({ "method": method, "args": arguments });
        self.result(plugin, "host", &request)
    }

    /// The text with which a host method was refused.
    #[track_caller]
    pub(super) fn refusal(&self, plugin: &str, method: &str, arguments: &Value) -> String {
        let answer = self.host(plugin, method, arguments);
        assert_eq!(answer["header_error"], "", "{answer}");
        assert!(answer.get("result").is_none(), "{answer}");
        answer["error"].as_str().unwrap().to_owned()
    }

    /// Looks at one plugin again, or at all.
    pub(super) fn rescan(&self, plugin: Option<&str>) -> Answer {
        let path = plugin.map_or("rescan".into(), |name| format!("plugins/{name}/rescan"));
        self.admin.post(&format!("/api/pinfold/v1/{path}")).send()
    }

    /// The latest records of a plugin's log.
    pub(super) fn logs(&self, plugin: &str) -> Vec<Value> {
        let path = format!("/api/pinfold/v1/plugins/{plugin}/logs?limit=1000");
        self.admin
            .get(&path)
            .send()
            .ok()
            .as_array()
            .unwrap()
            .clone()
    }

    /// Whether a record of the plugin's log has this in its message.
    pub(super) fn has_logged(&self, plugin: &str, text: &str) -> bool {
        self.logs(plugin)
            .iter()
            .any(|record| record["message"].as_str().unwrap().contains(text))
    }

    /// A new token with these roles.
    pub(super) fn token(&self, user: &str, roles: &[&str]) -> String {
        let wanted = json!({ "name": format!("for {user}"), "user": user, "roles": roles });
        let created = self.admin.post("/api/pinfold/v1/tokens").json(&wanted);
        let created = created.send();
        assert_eq!(created.status, 201, "{}", created.text());
        created.json()["token"].as_str().unwrap().to_owned()
    }

    /// Puts a plugin into the plugin directory while the daemon runs. It is not looked at yet.
    pub(super) fn add_plugin(&self, name: &str, fixture: &str) {
        write_plugin(&self.base().join("plugins").join(name), fixture, "");
    }

    /// Writes an operator's policy while the daemon runs.
    pub(super) fn add_policy(&self, name: &str, more: &str) {
        let path = self.base().join(policy_path(name));
        write_file(&path, &policy_text(name, more));
    }

    pub(super) fn base(&self) -> PathBuf {
        self.setup().base()
    }

    pub(super) fn signal(&self, signal: nix::sys::signal::Signal) {
        process::signal(self.pid(), signal);
    }

    /// Waits for the daemon's own end.
    pub(super) fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the daemon to end", || child.try_wait().unwrap())
    }

    /// Ends it in order; what it stood on can be started again.
    pub(super) fn stop(mut self) -> Setup {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let status = self.wait();
        assert!(status.success(), "{status}");
        self.again()
    }

    /// What it stood on, with the plugins that are there by now. It must have ended.
    pub(super) fn again(mut self) -> Setup {
        let mut setup = self.setup.take().expect("taken once, here");
        setup.plugins.clear();
        setup
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
        // It kills every jail when its daemon is gone; only then may its directories go.
        if let Some(launcher) = self.launcher {
            process::gone_within_limit(launcher);
        }
        if std::thread::panicking()
            && let Some(setup) = &self.setup
        {
            println!("the daemon printed:\n{}", setup.printed());
        }
    }
}

fn policy_path(name: &str) -> String {
    format!("etc/policy.d/{name}.toml")
}

fn policy_text(name: &str, more: &str) -> String {
    format!(
        "schema = 1\ndialect = \"goatflow\"\nentry = \"{name}\"\n[trust]\nunsigned = true\n{more}"
    )
}

/// A file that only its owner, root, can change, with its directories.
fn write_file(path: &Path, text: &str) {
    let directory = path.parent().unwrap();
    fs::create_dir_all(directory).unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
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
