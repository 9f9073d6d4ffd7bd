//! How TLS is spoken, set up when the first request needs it.
//!
//! A system trusts some hundred authorities, and reading them touches a good part of what speaks TLS: a
//! daemon whose plugins ask for nothing by `https` has none of it in its memory.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::HttpError;
use super::config::{self, HttpConfig, HttpSetupError, SetUp, Unread};
use crate::error::chain;

/// How long a set-up counts that failed, or that left something out: descriptors that were short, or a file that
/// was just being replaced, are there the next time, and how often that is asked is the plugins' to say.
const PASSING: Duration = Duration::from_secs(10);

/// TLS for every plugin.
#[derive(Debug)]
pub(super) struct Tls {
    config: HttpConfig,
    known: Arc<Known>,
    /// Held by the one that sets it up.
    setting_up: Arc<tokio::sync::Mutex<()>>,
}

impl Tls {
    /// Sets TLS up now where the operator has named a file, which has to be usable; otherwise when it
    /// is first asked for.
    pub(super) fn new(config: &HttpConfig) -> Result<Self, HttpSetupError> {
        let known = Known::default();
        if config.extra_roots.is_some() {
            let tried = match config::tls(config) {
                // What is the matter with the system may pass: it is tried again when it is needed.
                Err(error @ HttpSetupError::SystemRoots { .. }) => Err(error),
                tried => Ok(tried?),
            };
            // What came of it is asked for again by whoever needs it.
            drop(known.keep(tried, Instant::now()));
        }
        Ok(Self {
            config: config.clone(),
            known: Arc::new(known),
            setting_up: Arc::default(),
        })
    }

    /// How TLS is spoken. Cancel-safe: who comes next waits for the same set-up.
    ///
    /// # Errors
    /// [`HttpError::Tls`] where it cannot be set up. It is tried again once [`PASSING`] is over.
    pub(super) async fn client(&self) -> Result<Arc<ClientConfig>, HttpError> {
        let client = match self.known.at(Instant::now()) {
            Some(known) => known,
            None => self.set_up().await,
        };
        client.map_err(|reason| HttpError::Tls { reason })
    }

    async fn set_up(&self) -> Result<Arc<ClientConfig>, String> {
        let alone = Arc::clone(&self.setting_up).lock_owned().await;
        if let Some(known) = self.known.at(Instant::now()) {
            return known;
        }
        let (known, config) = (Arc::clone(&self.known), self.config.clone());
        // It reads some hundred files, and goes on alone where nobody waits for it any more.
        let set_up = move || {
            let _alone = alone;
            known.keep(config::tls(&config), Instant::now())
        };
        let set_up = tokio::task::spawn_blocking(set_up).await;
        set_up.unwrap_or_else(|error| Err(error.to_string()))
    }
}

/// What came of setting TLS up: whole for good, anything else for [`PASSING`].
#[derive(Debug, Default)]
struct Known {
    whole: OnceLock<Arc<ClientConfig>>,
    last: Mutex<Option<Last>>,
}

#[derive(Debug)]
struct Last {
    when: Instant,
    client: Result<Arc<ClientConfig>, String>,
    /// What was the matter.
    reason: String,
}

impl Known {
    /// What counts at a time.
    fn at(&self, now: Instant) -> Option<Result<Arc<ClientConfig>, String>> {
        if let Some(client) = self.whole.get() {
            return Some(Ok(Arc::clone(client)));
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let passing = last
            .as_ref()
            .filter(|last| now.saturating_duration_since(last.when) < PASSING);
        passing.map(|last| last.client.clone())
    }

    /// Keeps what a try came to, and tells of what was the matter with it, where that is not what it was the
    /// last time.
    fn keep(
        &self,
        tried: Result<SetUp, HttpSetupError>,
        now: Instant,
    ) -> Result<Arc<ClientConfig>, String> {
        let (client, count, reason) = match tried {
            Ok(SetUp {
                client,
                unread: None,
            }) => return Ok(Arc::clone(self.whole.get_or_init(|| client))),
            Ok(SetUp {
                client,
                unread: Some(Unread { count, first }),
            }) => (Ok(client), count, first.to_string()),
            Err(error) => {
                let reason = chain(&error);
                (Err(reason.clone()), 0, reason)
            }
        };
        let kept = Last {
            when: now,
            client: client.clone(),
            reason: reason.clone(),
        };
        let before = self
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(kept);
        if before.is_some_and(|before| before.reason == reason) {
            return client;
        }
        match &client {
            Ok(_) => {
                tracing::warn!(count, first = reason, "system certificates not all read");
            }
            Err(_) => tracing::warn!(error = reason, "TLS for outgoing HTTP not set up"),
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::config::Roots;
    use super::*;

    fn bundled(unread: Option<Unread>) -> Result<SetUp, HttpSetupError> {
        let bundled = HttpConfig {
            roots: Roots::Bundled,
            ..HttpConfig::default()
        };
        config::tls(&bundled).map(|set_up| SetUp { unread, ..set_up })
    }

    fn unreadable() -> rustls_native_certs::Error {
        let absent = Path::new("/nonexistent/roots.pem");
        let mut found = rustls_native_certs::load_certs_from_paths(Some(absent), None);
        found.errors.remove(0)
    }

    #[test]
    fn a_failure_counts_for_a_while_and_says_its_cause() {
        let known = Known::default();
        let now = Instant::now();
        assert!(known.at(now).is_none());
        let source = Some(unreadable());
        let failed = known.keep(Err(HttpSetupError::SystemRoots { source }), now);
        let reason = failed.unwrap_err();
        assert_eq!(
            reason.matches("/nonexistent/roots.pem").count(),
            1,
            "{reason}"
        );
        assert_eq!(known.at(now + PASSING / 2).unwrap().unwrap_err(), reason);
        assert!(known.at(now + PASSING).is_none());
    }

    #[test]
    fn what_was_set_up_whole_counts_for_good_and_a_part_for_a_while() {
        let known = Known::default();
        let now = Instant::now();
        let part = Unread {
            count: 1,
            first: unreadable(),
        };
        let part = known.keep(bundled(Some(part)), now).unwrap();
        let meanwhile = known.at(now + PASSING / 2).unwrap().unwrap();
        assert!(Arc::ptr_eq(&part, &meanwhile));
        assert!(known.at(now + PASSING).is_none());
        let whole = known.keep(bundled(None), now + PASSING).unwrap();
        let later = known.at(now + 100 * PASSING).unwrap().unwrap();
        assert!(Arc::ptr_eq(&whole, &later));
    }

    #[tokio::test]
    async fn whoever_asks_at_once_is_given_one_set_up() {
        let config = HttpConfig {
            roots: Roots::Bundled,
            ..HttpConfig::default()
        };
        let tls = Tls::new(&config).unwrap();
        let (one, other) = tokio::join!(tls.client(), tls.client());
        assert!(Arc::ptr_eq(&one.unwrap(), &other.unwrap()));
    }
}
