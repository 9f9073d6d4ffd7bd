//! How TLS is spoken, set up when the first request needs it.
//!
//! A system trusts some hundred authorities, and reading them touches a good part of what speaks TLS: a
//! daemon whose plugins ask for nothing by `https` has none of it in its memory.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::ClientConfig;

use super::HttpError;
use super::config::{self, HttpConfig, HttpSetupError};

/// TLS for every plugin.
#[derive(Debug)]
pub(super) struct Tls {
    config: HttpConfig,
    known: Arc<Known>,
}

impl Tls {
    /// Sets TLS up now where the operator has named a file, which has to be usable; otherwise when it
    /// is first asked for.
    pub(super) fn new(config: &HttpConfig) -> Result<Self, HttpSetupError> {
        let known = Known::default();
        if config.extra_roots.is_some() {
            match known.or_set_up(|| config::tls(config)) {
                // What is the matter with the system may pass: it is tried again when it is needed.
                Err(error @ HttpSetupError::SystemRoots { .. }) => log(&error),
                other => drop(other?),
            }
        }
        Ok(Self {
            config: config.clone(),
            known: Arc::new(known),
        })
    }

    /// How TLS is spoken. Cancel-safe: who comes next waits for the same set-up.
    ///
    /// # Errors
    /// [`HttpError::Tls`] where it cannot be set up. It is tried again the next time.
    pub(super) async fn client(&self) -> Result<Arc<ClientConfig>, HttpError> {
        if let Some(client) = self.known.client.get() {
            return Ok(Arc::clone(client));
        }
        let (known, config) = (Arc::clone(&self.known), self.config.clone());
        // It reads some hundred files.
        let set_up = move || {
            known
                .or_set_up(|| config::tls(&config))
                .inspect_err(log)
                .map_err(|error| error.to_string())
        };
        let set_up = tokio::task::spawn_blocking(set_up).await;
        set_up
            .unwrap_or_else(|error| Err(error.to_string()))
            .map_err(|reason| HttpError::Tls { reason })
    }
}

/// TLS, once it has been set up. A failure is not kept: descriptors that were short, or a file that was just being
/// replaced, are there the next time.
#[derive(Debug, Default)]
struct Known {
    client: OnceLock<Arc<ClientConfig>>,
    setting_up: Mutex<()>,
}

impl Known {
    fn or_set_up(
        &self,
        set_up: impl FnOnce() -> Result<Arc<ClientConfig>, HttpSetupError>,
    ) -> Result<Arc<ClientConfig>, HttpSetupError> {
        let _alone = self
            .setting_up
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = self.client.get() {
            return Ok(Arc::clone(client));
        }
        let client = set_up()?;
        Ok(Arc::clone(self.client.get_or_init(|| client)))
    }
}

fn log(error: &HttpSetupError) {
    tracing::error!(error = %error, "TLS for outgoing HTTP not set up");
}

#[cfg(test)]
mod tests {
    use super::super::config::Roots;
    use super::*;

    #[test]
    fn a_failure_is_not_kept_and_a_success_is() {
        let known = Known::default();
        let failing = || {
            Err(HttpSetupError::Tls(rustls::Error::General(
                "not now".into(),
            )))
        };
        known.or_set_up(failing).unwrap_err();
        let bundled = HttpConfig {
            roots: Roots::Bundled,
            ..HttpConfig::default()
        };
        let client = known.or_set_up(|| config::tls(&bundled)).unwrap();
        let again = known.or_set_up(failing).unwrap();
        assert!(Arc::ptr_eq(&client, &again));
    }
}
