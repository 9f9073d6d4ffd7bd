//! A daemon with directories, plugins and a port of its own. Everything ends with the value.

use std::path::PathBuf;
use std::process::{Child, ExitStatus};

use pinfold_tests::wait_for;
use serde_json::{Value, json};

use super::http::{Answer, Server};
use super::process;
use super::setup::{Setup, write_plugin};

/// A running daemon. Dropping it kills it, and waits until its launcher and every jail are gone.
pub(super) struct Daemon {
    child: Child,
    launcher: Option<u32>,
    setup: Option<Setup>,
    admin: Server,
    http: Server,
}

impl Daemon {
    /// A daemon that serves, started on `setup`, with the status that says so.
    pub(super) fn new(child: Child, setup: Setup, admin: Server, status: &Value) -> Self {
        let url = status["listeners"][0].as_str().unwrap();
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        Self {
            launcher: process::children(child.id()).first().copied(),
            child,
            setup: Some(setup),
            admin,
            http: Server::Tcp(address),
        }
    }

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

    /// Why newer versions of a plugin were not taken, oldest first.
    pub(super) fn rejections(&self, plugin: &str) -> Vec<String> {
        let logs = self.logs(plugin);
        let notes = logs.iter().filter(|record| record["stream"] == "host");
        let lines = notes.filter_map(|record| record["message"].as_str());
        let reasons = lines.filter_map(|line| line.strip_prefix("not taken: "));
        reasons.map(str::to_owned).collect()
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
        self.setup().write_policy(name, more);
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
        let setup = self.setup.take().expect("taken once, here");
        setup.without_additions()
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
