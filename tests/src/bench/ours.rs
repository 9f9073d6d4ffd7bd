//! Our host on the reference plugin: as a plain child process, and in a jail.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use pinfold_gob::{Nothing, Schema, gob_struct};
use pinfold_policy::{Digest, Generation, InstanceId, LauncherConfig, PluginId};
use pinfold_rpc::handshake::{
    Address, Expectation, FirstLine, HandshakeLine, PortRange, environment,
};
use pinfold_rpc::netrpc::{Client, Request, ServerConfig, Services, serve};
use pinfold_rpc::session::{PluginSession, SessionConfig};
use pinfold_sandbox::client;
use pinfold_sandbox::protocol::{self, KillHow, Reply, SocketDirectory};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::time::Instant as Deadline;

use super::{Figure, Load, figure};
use crate::scratch;

/// Longest wait for anything but the load itself.
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Serialize)]
struct InitRequest {
    #[serde(rename = "Config")]
    config: BTreeMap<String, String>,
    #[serde(rename = "HostAPIID")]
    host_api_id: u32,
}
gob_struct!(InitRequest as "InitRequest" { "Config": BTreeMap<String, String>, "HostAPIID": u32 });

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CallRequest<'a> {
    function: &'a str,
    #[serde(with = "serde_bytes")]
    args: &'a [u8],
}
gob_struct!(CallRequest<'_> as "CallRequest" { "Function": String, "Args": Vec<u8> });

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CallResponse {
    #[serde(with = "serde_bytes")]
    result: Vec<u8>,
    error: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostResponse {
    #[serde(with = "serde_bytes")]
    result: Vec<u8>,
}
gob_struct!(HostResponse as "HostAPIResponse" { "Result": Vec<u8> });

static CALL: LazyLock<Schema> = LazyLock::new(Schema::of::<CallRequest<'_>>);

/// A plugin that has answered its first call.
struct Plugin {
    session: PluginSession,
    client: Client,
}

impl Plugin {
    async fn open(socket: OwnedFd, arguments: &[u8]) -> anyhow::Result<Self> {
        let stream = std::os::unix::net::UnixStream::from(socket);
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        let (session, _stdio) = PluginSession::connect(stream, SessionConfig::default()).await?;
        let client = session.dispense("gkplugin", deadline()).await?;
        client
            .call::<(), Nothing>("Plugin.GKRegister", &(), deadline())
            .await?;
        let offer = session.broker().offer()?;
        let init = InitRequest {
            config: BTreeMap::new(),
            host_api_id: offer.id(),
        };
        tokio::spawn(async move {
            let Ok(stream) = offer.accept().await else {
                return;
            };
            let services = Services::new().method("Plugin.Call", |_: Request<Nothing>| async {
                Ok(HostResponse {
                    result: br#"{"ok":true}"#.to_vec(),
                })
            });
            serve(stream, Arc::new(services), ServerConfig::default()).await;
        });
        client
            .call::<InitRequest, Nothing>("Plugin.Init", &init, deadline())
            .await?;
        call(&client, arguments).await?;
        Ok(Self { session, client })
    }

    async fn load(
        &self,
        load: Load,
        arguments: &[u8],
    ) -> anyhow::Result<(Vec<Duration>, Duration)> {
        let begin = Instant::now();
        let end = begin + Duration::from_secs_f64(load.seconds);
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..load.callers {
            let (client, arguments) = (self.client.clone(), arguments.to_vec());
            callers.spawn(async move {
                let mut times = Vec::new();
                let mut now = Instant::now();
                while now < end {
                    call(&client, &arguments).await?;
                    let after = Instant::now();
                    times.push(after - now);
                    now = after;
                }
                anyhow::Ok(times)
            });
        }
        let mut times = Vec::new();
        while let Some(caller) = callers.join_next().await {
            times.extend(caller??);
        }
        Ok((times, begin.elapsed()))
    }
}

/// The variables that make a program a plugin of ours.
fn handshake() -> BTreeMap<String, String> {
    environment("GOATKIT_PLUGIN", "goatkit-v1", &[1], PortRange::default())
        .into_iter()
        .collect()
}

fn deadline() -> Deadline {
    Deadline::now() + LIMIT
}

async fn call(client: &Client, arguments: &[u8]) -> anyhow::Result<()> {
    let request = CallRequest {
        function: "echo",
        args: arguments,
    };
    let reply: CallResponse = client
        .call_with("Plugin.Call", (&CALL, &request), deadline(), |body| {
            body.decode()
        })
        .await?;
    ensure!(reply.error.is_empty(), "echo failed: {}", reply.error);
    ensure!(reply.result == arguments, "echo answered something else");
    Ok(())
}

fn arguments(load: Load) -> Vec<u8> {
    format!(r#"{{"text":"{}"}}"#, "x".repeat(load.payload_bytes)).into_bytes()
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}

/// The plugin as a plain child process.
pub(super) fn unjailed(plugin: &Path, load: Load) -> anyhow::Result<Figure> {
    let arguments = arguments(load);
    let directory = scratch();
    runtime()?.block_on(async {
        let begin = Instant::now();
        let mut child = Command::new(plugin)
            .env_clear()
            .envs(handshake())
            .env("TMPDIR", directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start the plugin")?;
        let outcome = async {
            let stdout = child
                .stdout
                .take()
                .context("its standard output is piped")?;
            let path = socket_path(stdout.into()).await?;
            let socket = std::os::unix::net::UnixStream::connect(path)?;
            let plugin = Plugin::open(socket.into(), &arguments).await?;
            let start = begin.elapsed();
            let (times, lasted) = plugin.load(load, &arguments).await?;
            plugin.session.quit(deadline()).await?;
            figure(times, lasted, start)
        }
        .await;
        end(child);
        outcome
    })
}

fn end(mut child: Child) {
    // It may have ended by itself.
    child.kill().unwrap_or_default();
    child.wait().map(drop).unwrap_or_default();
}

/// The path that the handshake line names.
async fn socket_path(stdout: OwnedFd) -> anyhow::Result<String> {
    use tokio::io::AsyncReadExt as _;
    let mut stdout = tokio::net::unix::pipe::Receiver::from_owned_fd(stdout)?;
    let mut line = FirstLine::new();
    let mut buffer = [0; 1024];
    loop {
        let count = stdout.read(&mut buffer).await?;
        ensure!(count > 0, "the plugin ended before its handshake line");
        if let Some(line) = line.push(buffer.get(..count).unwrap_or_default())? {
            let line = HandshakeLine::parse(&line, &Expectation::net_rpc(vec![1]))?;
            // Read on, so that it never blocks.
            tokio::spawn(async move { while matches!(stdout.read(&mut buffer).await, Ok(1..)) {} });
            match line.address {
                Address::Unix { path } => return Ok(path),
                other => bail!("the handshake line names {other:?}"),
            }
        }
    }
}

/// The plugin in a jail. Staging is done before the clock starts.
pub(super) fn jailed(launcher: &Path, plugin: &Path, load: Load) -> anyhow::Result<Figure> {
    let arguments = arguments(load);
    let place = Place::new(launcher, plugin)?;
    runtime()?.block_on(async {
        let begin = Instant::now();
        let (instance, stdout, _stderr) = place.launch()?;
        let path = socket_path(stdout).await?;
        let name = path
            .rsplit_once('/')
            .map(|(_, name)| name.to_owned())
            .context("a path")?;
        let socket = place.connect(instance, name)?;
        let plugin = Plugin::open(socket, &arguments).await?;
        let start = begin.elapsed();
        let (times, lasted) = plugin.load(load, &arguments).await?;
        plugin.session.quit(deadline()).await?;
        // It may be gone already, of its own accord.
        let kill = protocol::Request::Kill {
            instance,
            how: KillHow::Kill,
        };
        place
            .client
            .call(&kill, LIMIT)
            .map(drop)
            .unwrap_or_default();
        figure(times, lasted, start)
    })
}

/// A launcher of its own with one staged plugin.
struct Place {
    client: client::Client,
    launcher: Option<Child>,
    plugin: PluginId,
    digest: Digest,
    _directory: TempDir,
}

impl Place {
    fn new(launcher: &Path, program: &Path) -> anyhow::Result<Self> {
        let directory = scratch();
        let base = directory.path();
        for name in ["plugins/hello", "policy", "keys", "state"] {
            std::fs::create_dir_all(base.join(name))?;
        }
        std::fs::copy(program, base.join("plugins/hello/hello"))?;
        std::fs::write(
            base.join("policy/hello.toml"),
            "schema = 1\ndialect = \"goatflow\"\nentry = \"hello\"\n[trust]\nunsigned = true\n\
             [limits]\ncpu = \"200%\"\n",
        )?;
        let config = LauncherConfig {
            plugin_dir: base.join("plugins"),
            policy_dir: base.join("policy"),
            keys_dir: base.join("keys"),
            state_dir: base.join("state"),
            data_dir: None,
            uid_range: pinfold_policy::UidRange::default(),
            uid_lease_dir: "/var/lib/pinfold-uids".into(),
            daemon_user: "root".into(),
            require_signatures: false,
            handover_limit: pinfold_policy::Span::seconds(30),
            dev_grants: None,
            dev_policy_dir: None,
        };
        let config_path = base.join("launcher.toml");
        std::fs::write(&config_path, config.to_toml())?;
        let (client, launcher) = client::spawn(launcher, &config_path, [] as [&str; 0])?;
        let plugin: PluginId = "hello".parse()?;
        let stage = protocol::Request::Stage {
            plugin: plugin.clone(),
        };
        let Reply::Staged { digest, .. } = client.call(&stage, LIMIT)? else {
            bail!("the launcher answered something else");
        };
        Ok(Self {
            client,
            launcher: Some(launcher),
            plugin,
            digest,
            _directory: directory,
        })
    }

    /// The instance with its outputs. Standard error is to be kept: a plugin that writes to a closed
    /// one dies of it.
    fn launch(&self) -> anyhow::Result<(InstanceId, OwnedFd, OwnedFd)> {
        let request = protocol::Request::Launch {
            plugin: self.plugin.clone(),
            generation: Generation(1),
            digest: self.digest,
            values: handshake(),
        };
        match self.client.call(&request, LIMIT)? {
            Reply::Launched(protocol::Launched {
                instance,
                stdout,
                stderr,
                ..
            }) => Ok((instance, stdout, stderr)),
            _ => bail!("the launcher answered something else"),
        }
    }

    fn connect(&self, instance: InstanceId, name: String) -> anyhow::Result<OwnedFd> {
        let directory = SocketDirectory::Tmp;
        let request = protocol::Request::Connect {
            instance,
            directory,
            name,
        };
        match self.client.call(&request, LIMIT)? {
            Reply::Connected { socket } => Ok(socket),
            _ => bail!("the launcher answered something else"),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(launcher) = self.launcher.take() {
            end(launcher);
        }
    }
}
