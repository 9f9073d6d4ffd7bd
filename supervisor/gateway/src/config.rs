//! What the operator may set about the gateway, and which listeners are refused.

use std::net::SocketAddr;
use std::time::Duration;

use crate::content_security::ContentSecurity;
use crate::listen::ConnectionLimits;

/// Settings of one gateway listener. `Default` is what holds where the operator says nothing.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Whether a reverse proxy with TLS stands in front; without it only loopback is listened on.
    pub behind_proxy: bool,
    /// Largest request body in bytes.
    pub body_limit_bytes: usize,
    /// Bodies held at once by all requests together, in bytes; those without a token may take half of it, or one body
    /// where that is more. The admin socket has as much for itself.
    pub body_budget_bytes: usize,
    /// Answers of more than 64 KiB that clients have yet to read, held at once by all requests
    /// together but those to the administration API, in bytes. A longer one is never sent.
    pub answer_budget_bytes: usize,
    /// Largest request head (request line and headers) in bytes, at least 8192.
    pub header_limit_bytes: usize,
    /// Most headers of one request.
    pub header_count: usize,
    /// Time for a request's head to arrive; also how long an idle connection is kept.
    pub header_read_time_out: Duration,
    /// Time for a whole request, from its head to the plugin's answer. A plugin's own call
    /// time-out may be shorter.
    pub request_time_out: Duration,
    /// How long a client may read nothing of an answer that waits for it; also how much longer it may
    /// take in all than it would at 16 KiB/s.
    pub write_time_out: Duration,
    /// Most connections at once; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Most requests under way to all plugins together; further ones are answered 503. Fewer than
    /// connections, so that health checks and administrators still get through.
    pub max_in_flight: usize,
    /// Most requests under way to one plugin; further ones are answered 503.
    pub max_in_flight_per_plugin: usize,
    /// How long requests under way may go on once the gateway is told to stop.
    pub drain_time: Duration,
    /// Which original's management paths are mounted.
    pub compat: Compat,
    /// Form of that original's list of plugins.
    pub list_form: ListForm,
    /// What browsers are told to hold plugins' answers to.
    pub content_security: ContentSecurity,
}

/// The original whose management paths a listener has, beside Pinfold's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compat {
    /// GoatFlow's `/api/v1/plugins`.
    #[default]
    Goatflow,
}

/// Form of the list of plugins under `/api/v1/plugins`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListForm {
    /// `[…]`
    #[default]
    Array,
    /// `{"plugins": […]}`
    Object,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            behind_proxy: false,
            body_limit_bytes: 4 << 20,
            body_budget_bytes: 256 << 20,
            answer_budget_bytes: 256 << 20,
            header_limit_bytes: 32 << 10,
            header_count: 100,
            header_read_time_out: Duration::from_secs(10),
            request_time_out: Duration::from_secs(60),
            write_time_out: Duration::from_secs(30),
            max_connections: 1024,
            max_in_flight: 768,
            max_in_flight_per_plugin: 256,
            drain_time: Duration::from_secs(10),
            compat: Compat::default(),
            list_form: ListForm::default(),
            content_security: ContentSecurity::default(),
        }
    }
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Tokens would cross a network in the clear.
    #[error(
        "listen address {address} is not on loopback and there is no TLS: listen on 127.0.0.1, or \
         put a proxy with TLS in front and set behind-proxy = true"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// A number that cannot work.
    #[error("{key} is {value}, at least {least} is needed")]
    TooSmall {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: usize,
        /// The least value.
        least: usize,
    },
}

impl GatewayConfig {
    /// Checks the settings before anything is opened.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting and what to do.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_address(self.listen)?;
        for (key, value, least) in [
            ("header-limit", self.header_limit_bytes, 8192),
            ("header-count", self.header_count, 8),
            ("max-connections", self.max_connections, 1),
            ("max-in-flight", self.max_in_flight, 1),
            ("max-in-flight-per-plugin", self.max_in_flight_per_plugin, 1),
            ("body-budget", self.body_budget_bytes, self.body_limit_bytes),
        ] {
            if value < least {
                return Err(ConfigError::TooSmall { key, value, least });
            }
        }
        Ok(())
    }

    pub(crate) const fn connection_limits(&self) -> ConnectionLimits {
        ConnectionLimits {
            header_limit_bytes: self.header_limit_bytes,
            header_count: self.header_count,
            header_read_time_out: self.header_read_time_out,
            write_time_out: self.write_time_out,
            max_connections: self.max_connections,
            drain_time: self.drain_time,
        }
    }

    /// Checks an address that is, or is about to be, listened on.
    ///
    /// # Errors
    /// [`ConfigError::NotLoopback`]
    pub fn check_address(&self, address: SocketAddr) -> Result<(), ConfigError> {
        if self.behind_proxy || address.ip().to_canonical().is_loopback() {
            Ok(())
        } else {
            Err(ConfigError::NotLoopback { address })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_off_loopback_is_refused_without_a_proxy() {
        for (address, loopback) in [
            ("127.0.0.1:8080", true),
            ("127.8.8.8:1", true),
            ("[::1]:8080", true),
            ("[::ffff:127.0.0.1]:8080", true),
            ("0.0.0.0:8080", false),
            ("[::]:8080", false),
            ("192.168.1.2:8080", false),
        ] {
            let mut config = GatewayConfig {
                listen: address.parse().unwrap(),
                ..GatewayConfig::default()
            };
            assert_eq!(config.check().is_ok(), loopback, "{address}");
            config.behind_proxy = true;
            assert_eq!(config.check(), Ok(()), "{address}");
        }
    }

    #[test]
    fn numbers_that_cannot_work_are_refused_by_name() {
        let config = GatewayConfig {
            header_limit_bytes: 100,
            ..GatewayConfig::default()
        };
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "header-limit is 100, at least 8192 is needed"
        );
    }
}
