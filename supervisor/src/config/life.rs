//! How plugins are found, watched over and started again.

use std::time::Duration;

use pinfold_policy::Span;
use serde::{Deserialize, Serialize};

/// `[restart]`: what follows the end of a plugin that nobody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RestartSection {
    /// Wait before the first restart; it doubles with each further one.
    pub first: Span,
    /// Longest wait. A plugin that has served as long starts with a clean record.
    pub longest: Span,
    /// Most restarts within `window`; after that the plugin has failed. 0: it is never restarted.
    pub limit: u32,
    /// Time within which crashes are counted.
    pub window: Span,
}

impl Default for RestartSection {
    fn default() -> Self {
        Self {
            first: Span::seconds(1),
            longest: Span::seconds(5 * 60),
            limit: 5,
            window: Span::seconds(10 * 60),
        }
    }
}

/// `[health]`: how plugins are asked whether they live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct HealthSection {
    /// Time between an answer and the next question.
    pub interval: Span,
    /// Time for an answer.
    pub timeout: Span,
    /// Missing answers in a row after which a plugin is degraded.
    pub degraded_after: u32,
    /// Missing answers in a row after which it is killed and started again.
    pub kill_after: u32,
}

impl Default for HealthSection {
    fn default() -> Self {
        Self {
            interval: Span::seconds(10),
            timeout: Span::seconds(5),
            degraded_after: 3,
            kill_after: 12,
        }
    }
}

/// `[discovery]`: how the plugin directory is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DiscoverySection {
    /// Time without a change of a plugin's files after which they are looked at.
    pub debounce: Span,
    /// Longest time that changes put the look off; the files must then be the same twice.
    pub longest_wait: Span,
    /// How often the directory is looked at where it cannot be watched.
    pub interval: Span,
}

impl Default for DiscoverySection {
    fn default() -> Self {
        Self {
            debounce: Span(Duration::from_millis(500)),
            longest_wait: Span::seconds(5),
            interval: Span::seconds(5),
        }
    }
}

/// What a plugin's life goes by.
#[derive(Clone, Debug, Default)]
pub(crate) struct LifeSettings {
    pub(crate) discovery: DiscoverySection,
    pub(crate) health: HealthSection,
    pub(crate) restart: RestartSection,
    /// Plugins that are being started at the same time; 0 is the default of [`crate::lifecycle::Turns`].
    pub(crate) starts_at_once: u16,
}

/// Times that would keep a processor busy, or numbers that say nothing.
pub(super) fn fault(
    restart: &RestartSection,
    health: &HealthSection,
    discovery: &DiscoverySection,
) -> Option<(&'static str, String, &'static str)> {
    let least = Span(Duration::from_millis(10));
    for (key, value) in [
        ("restart.first", restart.first),
        ("restart.window", restart.window),
        ("health.interval", health.interval),
        ("health.timeout", health.timeout),
        ("discovery.debounce", discovery.debounce),
        ("discovery.longest-wait", discovery.longest_wait),
        ("discovery.interval", discovery.interval),
    ] {
        if value < least {
            return Some((key, value.to_string(), "at least 10ms"));
        }
    }
    if restart.longest < restart.first {
        let value = restart.longest.to_string();
        return Some(("restart.longest", value, "at least restart.first"));
    }
    if restart.limit > 100 {
        return Some(("restart.limit", restart.limit.to_string(), "at most 100"));
    }
    if health.degraded_after == 0 || health.kill_after <= health.degraded_after {
        let value = health.kill_after.to_string();
        let why = "more than health.degraded-after, which is at least 1";
        return Some(("health.kill-after", value, why));
    }
    None
}
