//! Our host on the reference plugin, as the daemon does it but for all that is not the call: started,
//! registered, initialised, called.

mod contract;
pub(super) mod jailed;
mod unjailed;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, ensure};
use pinfold_gob::Nothing;
use pinfold_rpc::handshake::{
    Address, Expectation, FirstLine, HandshakeLine, PortRange, environment,
};
use pinfold_rpc::netrpc::{Client, Request, ServerConfig, Services, serve};
use pinfold_rpc::session::{PluginSession, SessionConfig};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::Instant as Deadline;

use contract::{HostResponse, InitRequest};

/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(20);

/// How a plugin is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum How {
    /// As a plain child process.
    Unjailed,
    /// By a launcher, in a jail.
    Jailed {
        /// The launcher's program.
        launcher: PathBuf,
    },
}

/// What starts plugins. With a jail the plugin's files are staged when this is made.
pub(super) enum Host {
    Unjailed(unjailed::Host),
    Jailed(jailed::Host),
}

/// A plugin that was initialised, and can be called.
pub(super) struct Plugin {
    session: PluginSession,
    client: Client,
    broker: JoinHandle<()>,
    process: Process,
}

/// What has to be ended when the plugin is.
enum Process {
    Unjailed(unjailed::Process),
    Jailed(jailed::Instance),
}

impl Host {
    pub(super) fn new(how: &How, plugin: PathBuf) -> anyhow::Result<Self> {
        Ok(match how {
            How::Unjailed => Self::Unjailed(unjailed::Host::new(plugin)),
            How::Jailed { launcher } => {
                let pool = pinfold_policy::NETNS_POOL;
                Self::Jailed(jailed::Host::new(launcher, &plugin, pool)?)
            }
        })
    }

    /// Starts the plugin and initialises it.
    pub(super) async fn start(&mut self) -> anyhow::Result<Plugin> {
        let (socket, process) = match self {
            Self::Unjailed(host) => {
                let (socket, process) = host.start().await?;
                (socket, Process::Unjailed(process))
            }
            Self::Jailed(host) => {
                let (socket, instance) = host.start().await?;
                (socket, Process::Jailed(instance))
            }
        };
        Plugin::open(socket, process).await
    }
}

impl Plugin {
    async fn open(socket: OwnedFd, process: Process) -> anyhow::Result<Self> {
        let stream = std::os::unix::net::UnixStream::from(socket);
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        let (session, _stdio) = PluginSession::connect(stream, SessionConfig::default()).await?;
        let client = session.dispense("gkplugin", deadline()).await?;
        client
            .call::<(), Nothing>("Plugin.GKRegister", &(), deadline())
            .await?;
        let offer = session.broker().offer()?;
        let init = InitRequest::new(offer.id());
        let broker = tokio::spawn(async move {
            let Ok(stream) = offer.accept().await else {
                return;
            };
            let services = Services::new().method("Plugin.Call", |_: Request<Nothing>| async {
                Ok(HostResponse::ok())
            });
            serve(stream, Arc::new(services), ServerConfig::default()).await;
        });
        client
            .call::<InitRequest, Nothing>("Plugin.Init", &init, deadline())
            .await?;
        Ok(Self {
            session,
            client,
            broker,
            process,
        })
    }

    /// What calls it.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Ends it as its host does.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.session.quit(deadline()).await?;
        self.broker.abort();
        match self.process {
            Process::Unjailed(process) => process.end(),
            Process::Jailed(instance) => instance.end(),
        }
        Ok(())
    }
}

/// Calls the plugin's function echo, and answers how many bytes came back.
pub(super) async fn echo(client: &Client, arguments: &[u8]) -> anyhow::Result<()> {
    let request = contract::CallRequest {
        function: "echo",
        args: arguments,
    };
    let reply: contract::CallResponse = client
        .call_with(
            "Plugin.Call",
            (&contract::CALL, &request),
            deadline(),
            |body| body.decode(),
        )
        .await?;
    ensure!(reply.error.is_empty(), "echo failed: {}", reply.error);
    ensure!(
        reply.result.len() == arguments.len(),
        "echo answered something else"
    );
    Ok(())
}

/// The runtime that the daemon has by default (`worker-threads`).
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let threads = std::thread::available_parallelism()?.get() / 2;
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .enable_all()
        .build()?)
}

/// The variables that make a program a plugin of ours.
fn handshake() -> impl IntoIterator<Item = (String, String)> {
    environment("GOATKIT_PLUGIN", "goatkit-v1", &[1], PortRange::default())
}

fn deadline() -> Deadline {
    Deadline::now() + LIMIT
}

/// The path that the handshake line names. Its output is read until it ends, so that the plugin
/// never waits for a reader.
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
            tokio::spawn(async move { while matches!(stdout.read(&mut buffer).await, Ok(1..)) {} });
            match line.address {
                Address::Unix { path } => return Ok(path),
                other => bail!("the handshake line names {other:?}"),
            }
        }
    }
}
