//! What `make bench` measures: hosts of the reference plugin, ours unjailed, ours jailed, and Go's.

mod ours;
pub mod report;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::{binary, go_fixture};

/// How a subject is driven.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Calls under way at once.
    pub callers: usize,
    /// Bytes of text in each call.
    pub payload_bytes: usize,
    /// How long.
    pub seconds: f64,
}

/// What one measurement found.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Figure {
    /// Calls a second.
    pub calls_per_second: f64,
    /// Median time of a call, microseconds.
    pub p50_us: f64,
    /// Time within which 99 of 100 calls ended, microseconds.
    pub p99_us: f64,
    /// From launch to the first reply, microseconds. For the jailed subject staging is not part of
    /// it.
    #[serde(rename = "start_p50_us")]
    pub start_us: f64,
}

/// One host with the plugin.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A Go host of the newest go-plugin.
    Go {
        /// Its program.
        host: PathBuf,
        /// The plugin's program.
        plugin: PathBuf,
    },
    /// Our host, the plugin as a plain child process.
    Unjailed {
        /// The plugin's program.
        plugin: PathBuf,
    },
    /// Our host, the plugin in its jail.
    Jailed {
        /// The plugin's program.
        plugin: PathBuf,
        /// The launcher's program.
        launcher: PathBuf,
    },
}

impl Subject {
    /// Every subject, the Go host first; the jailed one needs root.
    ///
    /// # Errors
    /// Where a program cannot be built or found.
    pub fn all() -> anyhow::Result<Vec<Self>> {
        let plugin = go_fixture("hello");
        let host = go_fixture("host");
        let mut subjects = vec![
            Self::Go {
                host,
                plugin: plugin.clone(),
            },
            Self::Unjailed {
                plugin: plugin.clone(),
            },
        ];
        if nix::unistd::geteuid().is_root() {
            subjects.push(Self::Jailed {
                plugin,
                launcher: binary("pinfold-launcher"),
            });
        }
        Ok(subjects)
    }

    /// Its name in the report.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Go { .. } => "Go host",
            Self::Unjailed { .. } => "Pinfold, unjailed",
            Self::Jailed { .. } => "Pinfold, jailed",
        }
    }

    /// Starts the host and the plugin, drives it, and ends both.
    ///
    /// # Errors
    /// Where the plugin does not start or a call fails.
    pub fn measure(&self, load: Load) -> anyhow::Result<Figure> {
        match self {
            Self::Go { host, plugin } => go(host, plugin, load),
            Self::Unjailed { plugin } => ours::unjailed(plugin, load),
            Self::Jailed { plugin, launcher } => ours::jailed(launcher, plugin, load),
        }
    }
}

fn go(host: &PathBuf, plugin: &PathBuf, load: Load) -> anyhow::Result<Figure> {
    let output = Command::new(host)
        .args(["-callers", &load.callers.to_string()])
        .args(["-payload", &load.payload_bytes.to_string()])
        .args(["-seconds", &load.seconds.to_string()])
        .arg(plugin)
        .output()
        .context("start the Go host")?;
    ensure!(
        output.status.success(),
        "the Go host failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("read the Go host's figures")
}

/// The figure of sorted call times.
fn figure(mut times: Vec<Duration>, lasted: Duration, start: Duration) -> anyhow::Result<Figure> {
    ensure!(!times.is_empty(), "no call ended");
    times.sort_unstable();
    let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
    let at = |hundredths: usize| {
        times
            .get((times.len() - 1) * hundredths / 100)
            .copied()
            .unwrap_or_default()
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of calls are far below 2^52"
    )]
    let count = times.len() as f64;
    Ok(Figure {
        calls_per_second: count / lasted.as_secs_f64(),
        p50_us: micros(at(50)),
        p99_us: micros(at(99)),
        start_us: micros(start),
    })
}
