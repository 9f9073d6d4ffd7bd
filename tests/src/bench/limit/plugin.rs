//! The plugin's process, started with no more than it needs.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::scratch;

/// It is killed when the value is dropped.
pub(in crate::bench) struct Plugin {
    child: Child,
    _directory: TempDir,
}

impl Plugin {
    pub(in crate::bench) fn start(program: &Path) -> anyhow::Result<(Self, UnixStream)> {
        let directory = scratch();
        let mut child = Command::new(program)
            .env("GOATKIT_PLUGIN", "goatkit-v1")
            .env("PLUGIN_PROTOCOL_VERSIONS", "1")
            .env("TMPDIR", directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start the plugin")?;
        let stdout = child.stdout.take();
        let plugin = Self {
            child,
            _directory: directory,
        };
        let mut line = String::new();
        BufReader::new(stdout.context("its standard output is piped")?).read_line(&mut line)?;
        let path = line
            .split('|')
            .nth(3)
            .with_context(|| format!("no handshake line: {line:?}"))?;
        let stream = UnixStream::connect(path).context("connect to the plugin")?;
        Ok((plugin, stream))
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
