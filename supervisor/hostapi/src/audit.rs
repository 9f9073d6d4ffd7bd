//! One record for every call's decision.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use pinfold_policy::{Generation, PluginId, is_unprintable};

use crate::HostError;
use crate::http::REDIRECT_LIMIT;

/// Where decisions are recorded. Called once for every call, on the call's own task: it must
/// neither block nor fail; grouping, folding of repeats and storage are behind it.
pub trait AuditSink: Send + Sync {
    /// The sink for the records of one plugin, which is asked for once and kept: what is looked up
    /// by the plugin's name is looked up here.
    fn of(self: Arc<Self>, plugin: &PluginId) -> Arc<dyn AuditSink>;

    /// Takes one record.
    fn record(&self, entry: AuditEntry<'_>);
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Carried out.
    Allow,
    /// Refused: not granted, or a statement that is never allowed.
    Deny,
    /// Refused: over a rate, or over what may be under way at once.
    Limit,
    /// Allowed, and failed.
    Error,
}

impl Decision {
    /// The word in logs and in the audit trail.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Limit => "limit",
            Self::Error => "error",
        }
    }

    pub(crate) fn of(error: &HostError) -> Self {
        match error {
            HostError::Refused(_) | HostError::Statement(_) => Self::Deny,
            HostError::RateLimited { .. }
            | HostError::TooManyUnderWay { .. }
            | HostError::PluginCallDepth { .. } => Self::Limit,
            _ => Self::Error,
        }
    }
}

/// Record of one call. Holds no value that a plugin passed as data: no SQL, no parameter, no
/// cached value, no log text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry<'a> {
    /// Who called.
    pub plugin: &'a PluginId,
    /// Which of its instances.
    pub generation: Generation,
    /// `db`, `cache`, `log`, `config`, `http` or `plugin`.
    pub service: &'static str,
    /// Operation within the service.
    pub method: &'static str,
    /// What became of it.
    pub decision: Decision,
    /// The permission that was missing, where one was.
    pub permission: Option<Cow<'a, str>>,
    /// What it was about: `database/table` with `:r`, `:w` or `:ddl`, separated by spaces, or a
    /// key, `plugin/function`, or
    /// `METHOD scheme://host:port` of each request of a chain, joined by ` -> `; control characters replaced, at most 280 characters, of a chain for
    /// each request. Empty for `log`, and where a call was refused before it was known.
    pub subject: Cow<'a, str>,
    /// [`HostError::code`] of what was answered, where that was an error.
    pub code: Option<&'static str>,
    /// Id of the request that the plugin was serving.
    pub request_id: Cow<'a, str>,
    /// From the call's arrival to its answer.
    pub duration: Duration,
}

/// Most characters of a subject or a request id that are recorded: the longest name of a host (253), with method, scheme
/// and port.
const RECORDED_CHARACTERS: usize = 280;

/// Between the requests of a chain.
pub(crate) const LEADS_TO: &str = " -> ";

/// Most requests of a chain.
const CHAIN_LIMIT: usize = REDIRECT_LIMIT + 1;

/// `text` as it may stand in a record: bounded, on one line.
pub(crate) fn recordable(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if text.len() <= RECORDED_CHARACTERS && text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut out: String = text
        .chars()
        .take(RECORDED_CHARACTERS)
        .map(|c| if is_unprintable(c) { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(RECORDED_CHARACTERS).is_some() {
        out.push('…');
    }
    Cow::Owned(out)
}

/// The same of a chain of requests, each bounded by itself: the first ones must not keep from the record where they
/// led to.
pub(crate) fn recordable_chain(text: &str) -> Cow<'_, str> {
    if text.len() <= RECORDED_CHARACTERS {
        return recordable(text);
    }
    let requests = text.splitn(CHAIN_LIMIT, LEADS_TO).map(recordable);
    Cow::Owned(requests.collect::<Vec<_>>().join(LEADS_TO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_one_bounded_line() {
        let cut = format!("{}…", "é".repeat(RECORDED_CHARACTERS));
        let long = "é".repeat(RECORDED_CHARACTERS + 1);
        for (text, recorded) in [
            ("main/items:r main/notes:w", "main/items:r main/notes:w"),
            ("a\nb\u{85}\u{7f}", "a\u{fffd}b\u{fffd}\u{fffd}"),
            ("ünï", "ünï"),
            (&long, &cut),
        ] {
            assert_eq!(recordable(text), recorded);
        }
        let plain = "x".repeat(RECORDED_CHARACTERS + 1);
        assert_eq!(recordable(&plain).chars().count(), RECORDED_CHARACTERS + 1);
    }

    #[test]
    fn every_request_of_a_chain_is_recorded_however_long_the_others_are() {
        let hop = |n: usize, length| format!("GET https://{n}{}:443", "x".repeat(length));
        let chain: Vec<String> = (0..CHAIN_LIMIT).map(|n| hop(n, 250)).collect();
        let chain = chain.join(LEADS_TO);
        assert_eq!(recordable_chain(&chain), chain);
        // No name is that long, and what is asked for by it is nowhere.
        let cut = format!("{}{LEADS_TO}GET https://evil.test:443", hop(1, 300));
        let recorded = recordable_chain(&cut).into_owned();
        assert!(
            recorded.ends_with("… -> GET https://evil.test:443"),
            "{recorded}"
        );
        let longer = recordable_chain(&"a -> ".repeat(1_000)).chars().count();
        assert!(
            longer <= CHAIN_LIMIT * (RECORDED_CHARACTERS + 5),
            "{longer}"
        );
    }
}
