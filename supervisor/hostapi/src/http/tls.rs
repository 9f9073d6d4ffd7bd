//! How TLS is spoken, set up when the first request needs it.
//!
//! A system trusts some hundred authorities, and reading them touches a good part of what speaks TLS: a
//! daemon whose plugins ask for nothing by `https` has none of it in its memory.

use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;

use super::HttpError;
use super::config::{self, HttpConfig, HttpSetupError};

/// TLS, once it is known.
type Known = Result<Arc<ClientConfig>, String>;

/// TLS for every plugin.
#[derive(Debug)]
pub(super) struct Tls {
    config: HttpConfig,
    known: Arc<OnceLock<Known>>,
}

impl Tls {
    /// Sets TLS up now where the operator has named a file, which has to be usable; otherwise when it
    /// is first asked for.
    pub(super) fn new(config: &HttpConfig) -> Result<Self, HttpSetupError> {
        let known = OnceLock::new();
        if config.extra_roots.is_some() {
            let client = config::tls(config)?;
            known.get_or_init(|| Ok(client));
        }
        Ok(Self {
            config: config.clone(),
            known: Arc::new(known),
        })
    }

    /// How TLS is spoken. Cancel-safe: who comes next waits for the same set-up.
    ///
    /// # Errors
    /// [`HttpError::Tls`] where it cannot be set up.
    pub(super) async fn client(&self) -> Result<Arc<ClientConfig>, HttpError> {
        let known = match self.known.get() {
            Some(known) => known.clone(),
            None => {
                let (known, config) = (Arc::clone(&self.known), self.config.clone());
                // It reads some hundred files.
                let set_up = move || known.get_or_init(|| set_up(&config)).clone();
                let set_up = tokio::task::spawn_blocking(set_up).await;
                set_up.unwrap_or_else(|error| Err(error.to_string()))
            }
        };
        known.map_err(|reason| HttpError::Tls { reason })
    }
}

fn set_up(config: &HttpConfig) -> Known {
    config::tls(config).map_err(|error| {
        tracing::error!(error = %error, "TLS for outgoing HTTP not set up");
        error.to_string()
    })
}
