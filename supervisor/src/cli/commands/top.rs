//! `pinfold top`: what plugins do and use, once a second.

mod rates;
mod screen;

use std::io::IsTerminal as _;
use std::time::Duration;

use pinfold_gateway::admin::dto::UsageView;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use self::rates::{PluginRates, Rates};
use self::screen::{Key, Screen};
use crate::cli::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Page;

/// Time between two looks: rates are of this time.
const INTERVAL: Duration = Duration::from_secs(1);

/// The terminal cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("use the terminal")]
struct TerminalError(#[source] std::io::Error);

impl From<TerminalError> for Failure {
    fn from(error: TerminalError) -> Self {
        Self::new(Exit::Io, error)
    }
}

/// Without a terminal, or as JSON: one sample.
pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let first = look(context).await?;
    if context.output.is_json() || !std::io::stdout().is_terminal() {
        tokio::time::sleep(INTERVAL).await;
        let rates = Rates::between(&first, &look(context).await?);
        return Ok(context.output.give(&rates, page)?);
    }
    watch(context, first).await
}

/// One look, and when it was by a clock that nobody sets.
type Look = (Instant, UsageView);

async fn look(context: &Context) -> Result<Look, Failure> {
    let usage = context.client.usage().await?;
    Ok((Instant::now(), usage))
}

/// Draws until somebody has seen enough.
async fn watch(context: &Context, mut before: Look) -> Result<(), Failure> {
    // Before the screen is taken: from then on it has to be given back.
    let mut interrupted = listen(SignalKind::interrupt())?;
    let mut terminated = listen(SignalKind::terminate())?;
    let mut resized = listen(SignalKind::window_change())?;
    let mut screen = Screen::take().map_err(TerminalError)?;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut rates = Rates::between(&before, &before);
    loop {
        screen.draw(&page(&rates)).map_err(TerminalError)?;
        tokio::select! {
            _ = ticks.tick() => {
                let now = look(context).await?;
                rates = Rates::between(&before, &now).keeping(&rates);
                before = now;
            }
            _ = resized.recv() => {}
            key = screen.key() => match key {
                Ok(Key::Quit) => return Ok(()),
                Ok(Key::Other) => {}
                Err(error) => return Err(TerminalError(error).into()),
            },
            _ = interrupted.recv() => return Ok(()),
            _ = terminated.recv() => return Ok(()),
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal, TerminalError> {
    signal(kind).map_err(TerminalError)
}

fn page(rates: &Rates) -> Page {
    let mut page = Page::default();
    if rates.plugins.is_empty() {
        page.line("There are no plugins: `pinfold plugin add DIRECTORY` puts one in.");
        return page;
    }
    page.table(
        [
            "PLUGIN", "STATE", "CALLS/S", "P50", "P99", "FAIL/S", "NOW", "MEMORY", "CPU", "HOST/S",
            "RESTARTS",
        ],
        rates.plugins.iter().map(row),
    );
    page
}

fn row(plugin: &PluginRates) -> [String; 11] {
    [
        plugin.id.to_string(),
        plugin.state.clone(),
        number(plugin.calls_per_second),
        duration(plugin.p50_seconds),
        duration(plugin.p99_seconds),
        number(plugin.failures_per_second),
        plugin.in_flight.to_string(),
        plugin.memory_bytes.map_or_else(nothing, size),
        plugin
            .cpu_percent
            .map_or_else(nothing, |percent| format!("{percent:.0}%")),
        number(plugin.host_calls_per_second),
        plugin.restarts.to_string(),
    ]
}

fn nothing() -> String {
    "-".into()
}

fn number(per_second: f64) -> String {
    if per_second == 0.0 || per_second >= 10.0 {
        format!("{per_second:.0}")
    } else {
        format!("{per_second:.1}")
    }
}

fn duration(seconds: Option<f64>) -> String {
    match seconds {
        None => nothing(),
        Some(seconds) if seconds < 0.01 => format!("{:.1}ms", seconds * 1e3),
        Some(seconds) if seconds < 1.0 => format!("{:.0}ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.1}s"),
    }
}

fn size(bytes: u64) -> String {
    const MEBIBYTE: u64 = 1 << 20;
    match bytes {
        0..MEBIBYTE => format!("{}KiB", bytes / 1024),
        MEBIBYTE..=u64::MAX => format!("{}MiB", bytes / MEBIBYTE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_plugin_is_a_line() {
        let plugin = PluginRates {
            id: "hello".parse().unwrap(),
            state: "ready".into(),
            calls_per_second: 1234.4,
            p50_seconds: Some(0.00042),
            p99_seconds: Some(0.25),
            failures_per_second: 0.5,
            refused_per_second: 0.0,
            in_flight: 7,
            memory_bytes: Some(12 << 20),
            cpu_percent: Some(12.6),
            host_calls_per_second: 0.0,
            restarts: 2,
        };
        let idle = PluginRates {
            id: "idle".parse().unwrap(),
            p50_seconds: None,
            p99_seconds: None,
            memory_bytes: None,
            cpu_percent: None,
            ..plugin.clone()
        };
        let rates = Rates {
            seconds: 1.0,
            plugins: vec![plugin, idle],
        };
        let text = page(&rates).to_string();
        let words = |n: usize| -> Vec<&str> {
            let line = text.lines().nth(n).unwrap();
            line.split_whitespace().collect()
        };
        let hello = [
            "hello", "ready", "1234", "0.4ms", "250ms", "0.5", "7", "12MiB", "13%", "0", "2",
        ];
        assert_eq!(words(1), hello);
        let idle = [
            "idle", "ready", "1234", "-", "-", "0.5", "7", "-", "-", "0", "2",
        ];
        assert_eq!(words(2), idle);
    }
}
