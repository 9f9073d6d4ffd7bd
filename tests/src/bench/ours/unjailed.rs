//! The plugin as a plain child process, as go-plugin starts it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use tempfile::TempDir;

use super::{handshake, socket_path};
use crate::scratch;

pub(in super::super) struct Host {
    plugin: PathBuf,
    directory: TempDir,
}

/// A started plugin. It is killed when the value is dropped.
pub(super) struct Process(Child);

impl Host {
    pub(super) fn new(plugin: PathBuf) -> Self {
        Self {
            plugin,
            directory: scratch(),
        }
    }

    pub(super) async fn start(&self) -> anyhow::Result<(OwnedFd, Process)> {
        let child = Command::new(&self.plugin)
            .env_clear()
            .envs(handshake())
            .env("TMPDIR", self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start the plugin")?;
        let mut process = Process(child);
        let stdout = process.0.stdout.take();
        let path = socket_path(stdout.context("its standard output is piped")?.into()).await?;
        let socket = std::os::unix::net::UnixStream::connect(path)?;
        Ok((socket.into(), process))
    }
}

impl Process {
    pub(super) fn end(self) {}
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}
