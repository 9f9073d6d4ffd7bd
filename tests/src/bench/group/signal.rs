//! A benchmark that is interrupted takes its groups with it.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::sweep;

/// From now on SIGINT and SIGTERM kill every subject, remove the groups, and end this process.
///
/// # Errors
/// Where signals cannot be waited for.
pub fn remove_at_signal() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("wait for signals")?;
    let (mut interrupt, mut terminate) = runtime.block_on(async {
        anyhow::Ok((
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        ))
    })?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        let own = std::process::id();
        // What stays is the next benchmark's to sweep.
        sweep(|owner| owner == own).unwrap_or_default();
        #[expect(
            clippy::exit,
            reason = "it was told to end, and nothing is left to drop"
        )]
        std::process::exit(130);
    });
    Ok(())
}
