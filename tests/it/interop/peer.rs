//! An unmodified Go plugin under test, started without a jail.
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use pinfold_rpc::handshake::{
    Address, Expectation, FirstLine, FirstLineError, HandshakeLine, PortRange, environment,
};
use pinfold_rpc::log::{LogReader, Record};
use pinfold_rpc::netrpc::Client;
use pinfold_rpc::session::{PluginSession, SessionConfig, Stdio as PluginStdio};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// A deadline that no working test reaches.
pub(crate) fn soon() -> Instant {
    Instant::now() + pinfold_tests::LIMIT
}

/// A running plugin with an open session.
pub(crate) struct Peer {
    pub(crate) session: PluginSession,
    pub(crate) stdio: PluginStdio,
    pub(crate) process: Process,
}

impl Peer {
    pub(crate) async fn start(binary: &Path) -> Self {
        Self::start_with(binary, SessionConfig::default()).await
    }

    pub(crate) async fn start_with(binary: &Path, config: SessionConfig) -> Self {
        let process = Process::start(binary).await;
        let (session, stdio) = process.connect(config).await;
        Self {
            session,
            stdio,
            process,
        }
    }

    /// What the plugin serves.
    pub(crate) async fn dispense(&self) -> Client {
        self.session.dispense("peer", soon()).await.unwrap()
    }
}

/// A running plugin.
pub(crate) struct Process {
    child: Child,
    line: HandshakeLine,
    log: JoinHandle<Vec<Record>>,
    later_output: JoinHandle<Vec<u8>>,
    _directory: TempDir,
}

impl Process {
    pub(crate) async fn start(binary: &Path) -> Self {
        let variables = environment("PINFOLD_PEER", "peer", &[1], PortRange::default());
        let (child, directory) = spawn(binary, variables);
        Self::shake_hands(child, directory).await.unwrap()
    }

    /// Starts the binary with the given variables and nothing else; gives its first line, or why there is none.
    pub(crate) async fn try_start(
        binary: &Path,
        variables: Vec<(String, String)>,
    ) -> Result<Self, (FirstLineError, ExitStatus)> {
        let (child, directory) = spawn(binary, variables);
        Self::shake_hands(child, directory).await
    }

    async fn shake_hands(
        mut child: Child,
        directory: TempDir,
    ) -> Result<Self, (FirstLineError, ExitStatus)> {
        let mut stdout = child.stdout.take().unwrap();
        let log = tokio::spawn(read_log(child.stderr.take().unwrap()));
        let mut first = FirstLine::new();
        let line = loop {
            let mut buffer = [0; 4096];
            let n = stdout.read(&mut buffer).await.unwrap();
            if n == 0 {
                break first.finish();
            }
            if let Some(line) = first.push(&buffer[..n]).unwrap() {
                break Ok(line);
            }
        };
        let line = match line {
            Ok(line) => line,
            Err(error) => return Err((error, child.wait().await.unwrap())),
        };
        let line = HandshakeLine::parse(&line, &Expectation::net_rpc([1])).unwrap();
        // Read for as long as it lives, so that it never waits for us.
        let later_output = tokio::spawn(async move {
            let mut rest = Vec::new();
            stdout.read_to_end(&mut rest).await.unwrap();
            rest
        });
        Ok(Self {
            child,
            line,
            log,
            later_output,
            _directory: directory,
        })
    }

    pub(crate) fn line(&self) -> &HandshakeLine {
        &self.line
    }

    pub(crate) fn socket(&self) -> &Path {
        let Address::Unix { path } = &self.line.address else {
            panic!("{:?}", self.line)
        };
        Path::new(path)
    }

    pub(crate) async fn connect(&self, config: SessionConfig) -> (PluginSession, PluginStdio) {
        let socket = UnixStream::connect(self.socket()).await.unwrap();
        PluginSession::connect(socket, config).await.unwrap()
    }

    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        timeout(pinfold_tests::LIMIT, self.child.wait())
            .await
            .unwrap()
            .unwrap()
    }

    /// Everything that came on standard error; the process must have ended.
    pub(crate) async fn log(self) -> Vec<Record> {
        assert!(self.later_output.await.unwrap().is_empty());
        self.log.await.unwrap()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a plugin without a jail is what is tested here"
)]
fn spawn(binary: &Path, variables: Vec<(String, String)>) -> (Child, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let child = Command::new(binary)
        .env_clear()
        .envs(variables)
        .env("TMPDIR", directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    (child, directory)
}

async fn read_log(mut stderr: impl AsyncRead + Unpin) -> Vec<Record> {
    let mut reader = LogReader::new();
    let mut records = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let n = stderr.read(&mut buffer).await.unwrap();
        if n == 0 {
            reader.finish(|_, record| records.push(record));
            return records;
        }
        reader.push(&buffer[..n], |_, record| records.push(record));
    }
}
