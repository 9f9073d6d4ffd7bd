//! The plugin in a jail, started by a launcher of its own.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use pinfold_policy::{Digest, Generation, InstanceId, LauncherConfig, PluginId};
use pinfold_sandbox::client;
use pinfold_sandbox::protocol::{
    Event, ExitCause, KillHow, Launched, Reply, Request, SocketDirectory,
};
use tempfile::TempDir;

use super::{LIMIT, handshake, socket_path};
use crate::scratch;

/// As in the policies of the other sections: a limit that is no limit on two processors, so that
/// its cost is measured and not its effect.
const POLICY: &str = "schema = 1\ndialect = \"goatflow\"\nentry = \"hello\"\n\
    [trust]\nunsigned = true\n[limits]\ncpu = \"200%\"\n";

/// A launcher with one staged plugin.
pub(in super::super) struct Host {
    client: Arc<client::Client>,
    launcher: Child,
    plugin: PluginId,
    digest: Digest,
    generation: u64,
    _directory: TempDir,
}

/// A plugin in its jail.
pub(super) struct Instance {
    client: Arc<client::Client>,
    instance: InstanceId,
    /// A plugin that writes to a closed one dies of it.
    _stderr: OwnedFd,
}

impl Host {
    /// Stages this program; the launcher has so many network namespaces prepared.
    pub(in super::super) fn new(
        launcher: &Path,
        program: &Path,
        netns_pool: usize,
    ) -> anyhow::Result<Self> {
        let directory = scratch();
        let base = directory.path();
        for name in ["plugins/hello", "policy", "keys", "state"] {
            std::fs::create_dir_all(base.join(name))?;
        }
        std::fs::copy(program, base.join("plugins/hello/hello"))?;
        std::fs::write(base.join("policy/hello.toml"), POLICY)?;
        let config = LauncherConfig {
            plugin_dir: base.join("plugins"),
            policy_dir: base.join("policy"),
            keys_dir: base.join("keys"),
            state_dir: base.join("state"),
            data_dir: None,
            uid_range: pinfold_policy::UidRange::default(),
            uid_lease_dir: "/var/lib/pinfold-uids".into(),
            daemon_user: "root".into(),
            require_signatures: pinfold_policy::RequireSignatures::None,
            netns_pool,
            probe_interval: pinfold_policy::Span::seconds(0),
            stages_memory: pinfold_policy::STAGES_MEMORY,
            watched_runs: false,
            handover_limit: pinfold_policy::Span::seconds(30),
            dev_grants: None,
            dev_policy_dir: None,
        };
        let config_path = base.join("launcher.toml");
        std::fs::write(&config_path, config.to_toml())?;
        let (client, launcher) = client::spawn(launcher, &config_path, [] as [&str; 0])?;
        let plugin: PluginId = "hello".parse()?;
        let stage = Request::Stage {
            plugin: plugin.clone(),
        };
        let Reply::Staged { digest, .. } = client.call(&stage, LIMIT)? else {
            bail!("the launcher answered something else");
        };
        Ok(Self {
            client: Arc::new(client),
            launcher,
            plugin,
            digest,
            generation: 0,
            _directory: directory,
        })
    }

    /// Starts it once more.
    pub(in super::super) fn launch(&mut self) -> anyhow::Result<Launched> {
        self.generation += 1;
        let request = Request::Launch {
            plugin: self.plugin.clone(),
            generation: Generation(self.generation),
            digest: self.digest,
            values: handshake().into_iter().collect(),
        };
        match self.client.call(&request, LIMIT)? {
            Reply::Launched(launched) => Ok(launched),
            _ => bail!("the launcher answered something else"),
        }
    }

    /// Waits until an instance has ended, and answers why.
    pub(in super::super) fn ended(&self, instance: InstanceId) -> anyhow::Result<ExitCause> {
        wait_until_ended(&self.client, instance)
    }

    pub(super) async fn start(&mut self) -> anyhow::Result<(OwnedFd, Instance)> {
        let Launched {
            instance,
            stdout,
            stderr,
            ..
        } = self.launch()?;
        let started = Instance {
            client: Arc::clone(&self.client),
            instance,
            _stderr: stderr,
        };
        let path = socket_path(stdout).await?;
        let (_, name) = path.rsplit_once('/').context("a path")?;
        let request = Request::Connect {
            instance,
            directory: SocketDirectory::Tmp,
            name: name.to_owned(),
        };
        match self.client.call(&request, LIMIT)? {
            Reply::Connected { socket } => Ok((socket, started)),
            _ => bail!("the launcher answered something else"),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.launcher.kill().unwrap_or_default();
        self.launcher.wait().map(drop).unwrap_or_default();
    }
}

impl Instance {
    /// Ends it, and waits until it has ended, as the Go host waits for its plugin's process.
    pub(super) fn end(self) {
        // It may be gone already, of its own accord.
        let kill = Request::Kill {
            instance: self.instance,
            how: KillHow::Kill,
        };
        self.client.call(&kill, LIMIT).map(drop).unwrap_or_default();
        wait_until_ended(&self.client, self.instance)
            .map(drop)
            .unwrap_or_default();
    }
}

fn wait_until_ended(client: &client::Client, waited_for: InstanceId) -> anyhow::Result<ExitCause> {
    loop {
        match client.next_event(LIMIT)? {
            Event::Exited { instance, cause } if instance == waited_for => return Ok(cause),
            _ => {}
        }
    }
}
