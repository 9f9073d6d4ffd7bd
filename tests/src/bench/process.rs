//! A subject's process, and how it and the benchmark keep pace: the benchmark reads the group's
//! processor time just before the load and just after.
//!
//! | who | line | means |
//! |---|---|---|
//! | subject | `ready` | started and warm |
//! | benchmark | `go` | processor time is read: begin |
//! | subject | `done` | the load has ended, nothing is computed yet |
//! | subject | a JSON object | its figures, numbers by key |

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::Serialize;

use super::group::Group;
use super::section::Values;

/// Longest wait for anything but the load itself.
pub const LIMIT: Duration = crate::LIMIT;

/// The most that is kept of what a subject says on standard error.
const KEPT_BYTES: usize = 16 * 1024;
/// Lines that may wait to be read.
const LINES: usize = 64;

/// A started process, spoken to by lines. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts it with piped standard streams.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(name: &str, mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("standard output is piped")?;
        let mut complaints = child.stderr.take().context("standard error is piped")?;
        let (sender, lines) = sync_channel(LINES);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let errors = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&errors);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = complaints.read(&mut buffer) {
                let mut kept = kept.lock().expect("nobody panics with it");
                let room = KEPT_BYTES.saturating_sub(kept.len()).min(count);
                kept.extend(buffer.iter().take(room));
            }
        });
        Ok(Self {
            name: name.to_owned(),
            child,
            input,
            lines,
            errors,
            reader: Some(reader),
        })
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it says.
    ///
    /// # Errors
    /// Where none comes in time, or it has ended; with what it said on standard error.
    pub fn line(&mut self, limit: Duration) -> anyhow::Result<String> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                bail!("{} said nothing within {limit:?}{}", self.name, self.said())
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.wait(LIMIT)?;
                if let Some(reader) = self.reader.take() {
                    // It holds nothing and cannot panic.
                    reader.join().unwrap_or_default();
                }
                bail!("{} ended ({status}){}", self.name, self.said())
            }
        }
    }

    /// Waits for a line of exactly this word.
    ///
    /// # Errors
    /// As [`Self::line`], and where it says something else.
    pub fn hear(&mut self, word: &str, limit: Duration) -> anyhow::Result<()> {
        let line = self.line(limit)?;
        ensure!(line == word, "{} said {line:?}, not {word}", self.name);
        Ok(())
    }

    /// Sends it a line.
    ///
    /// # Errors
    /// Where it listens no more.
    pub fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("its standard input is open")?;
        writeln!(input, "{line}").with_context(|| format!("speak to {}", self.name))
    }

    /// Drives a subject that keeps pace, and answers its figures with the processor time that its
    /// group used under the load, `None` where that is not known.
    ///
    /// # Errors
    /// Where the subject fails or is not done within the load's `seconds` and [`LIMIT`].
    pub fn drive(
        &mut self,
        group: &Group,
        seconds: f64,
    ) -> anyhow::Result<(Values, Option<Duration>)> {
        self.hear("ready", LIMIT)?;
        let before = group.processor_time().ok();
        self.say("go")?;
        self.hear("done", LIMIT + Duration::from_secs_f64(seconds))?;
        let after = group.processor_time().ok();
        let line = self.line(LIMIT)?;
        let values = serde_json::from_str(&line)
            .with_context(|| format!("read the figures of {}: {line}", self.name))?;
        let used = before
            .zip(after)
            .map(|(before, after)| after.saturating_sub(before));
        Ok((values, used))
    }

    /// Closes its standard input and waits until it has ended by itself.
    ///
    /// # Errors
    /// Where it fails, or does not end in time.
    pub fn end(mut self) -> anyhow::Result<()> {
        drop(self.input.take());
        let status = self.wait(LIMIT)?;
        ensure!(
            status.success(),
            "{} ended ({status}){}",
            self.name,
            self.said()
        );
        Ok(())
    }

    fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().context("wait for a process")? {
                return Ok(status);
            }
            if Instant::now() > end {
                return Err(anyhow!("{} did not end within {limit:?}", self.name));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn said(&self) -> String {
        let errors = self.errors.lock().expect("nobody panics with it");
        let text = String::from_utf8_lossy(&errors);
        let text = text.trim();
        if text.is_empty() {
            String::new()
        } else {
            format!(": {text}")
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

/// The subject's side.
#[derive(Debug)]
pub struct Pace(());

impl Pace {
    /// Says that all is started and warm, and waits for the word to begin.
    ///
    /// # Errors
    /// Where the benchmark is gone.
    pub fn ready() -> anyhow::Result<Self> {
        tell("ready")?;
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        ensure!(line == "go\n", "told {line:?}, not to go");
        Ok(Self(()))
    }

    /// Says that the load has ended. Only then may the figures be computed, by `figures`.
    ///
    /// # Errors
    /// Where the benchmark is gone, or of `figures`.
    pub fn done<T: Serialize>(
        self,
        figures: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<()> {
        tell("done")?;
        tell(&serde_json::to_string(&figures()?)?)
    }
}

fn tell(line: &str) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}
