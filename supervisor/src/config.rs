//! `pinfold.toml`: the daemon's configuration.

mod credential;
#[cfg(test)]
mod examples;
mod life;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pinfold_gateway::{ContentSecurity, ContentSecurityError};
use pinfold_hostapi::{DatabaseConfig, HttpConfig, OpenFailure};
use pinfold_policy::document::{self, DocumentError, KnownKeys};
use pinfold_policy::{ByteSize, PluginId, Span};
use serde::{Deserialize, Serialize};

pub use credential::{CredentialError, Credentials};
pub(crate) use life::LifeSettings;
pub use life::{DiscoverySection, HealthSection, RestartSection};

use crate::telemetry::{self, FilterError};

/// The daemon's configuration. Every key has a default; unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Address of the gateway.
    pub listen: SocketAddr,
    /// Whether a proxy in front ends TLS: needed for a `listen` that is not loopback.
    pub behind_proxy: bool,
    /// Least severe log level: `error`, `warn`, `info`, `debug` or `trace`, or a filter of
    /// `target=level` parts separated by commas.
    pub log: String,
    /// Form of log lines.
    pub log_format: LogFormat,
    /// Threads that serve requests and plugins; 0 is half as many as there are processors, at
    /// least one. See [`crate::runtime`].
    pub worker_threads: u16,
    /// Plugins that are being started at the same time; 0 is four for each processor.
    pub starts_at_once: u16,
    /// The gateway's limits.
    pub gateway: GatewaySection,
    /// How plugins are found.
    pub discovery: DiscoverySection,
    /// How plugins are asked whether they live.
    pub health: HealthSection,
    /// When plugins that ended are started again.
    pub restart: RestartSection,
    /// What plugins may ask for.
    pub hostapi: HostApiSection,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// To the system's journal, each value a field of its own. The lines of the access log, and all of
    /// them where there is no journal, go to standard error as text.
    Journal,
}

/// `[gateway]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct GatewaySection {
    /// Largest request body.
    pub body_limit: ByteSize,
    /// Longest time for a request's header to arrive.
    pub header_timeout: Span,
    /// Longest time for a whole request.
    pub request_timeout: Span,
    /// How long a stopping gateway waits for requests in flight.
    pub drain: Span,
    /// Most connections at once.
    pub connections: u32,
    /// Requests in flight for all plugins together; three quarters of `connections` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// Requests in flight for each plugin.
    pub in_flight_per_plugin: u32,
    /// Form of `GET /api/v1/plugins`: `array` or `object`.
    pub plugin_list: PluginList,
    /// `Content-Security-Policy` of plugins' answers; none where it is empty.
    pub content_security: String,
    /// The same of single plugins.
    pub content_security_of: BTreeMap<PluginId, String>,
}

/// Form of the plugin list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginList {
    /// A bare array, as the tutorial reads it.
    #[default]
    Array,
    /// `{"plugins": [...]}`, as GoatFlow's host answers.
    Object,
}

impl GatewaySection {
    /// Requests in flight for all plugins together. Fewer than connections, so that health checks
    /// and administrators get through when plugins answer nothing.
    pub(crate) fn all_in_flight(&self) -> u32 {
        let three_quarters = self.connections - self.connections.div_ceil(4);
        self.in_flight.unwrap_or(three_quarters.max(1))
    }

    /// What browsers are told of plugins' answers, or the key whose text no header can be.
    pub(crate) fn content_security(
        &self,
    ) -> Result<ContentSecurity, (String, ContentSecurityError)> {
        let mut all = ContentSecurity::new(&self.content_security)
            .map_err(|error| ("gateway.content-security".to_owned(), error))?;
        for (plugin, text) in &self.content_security_of {
            all.set(plugin.clone(), text)
                .map_err(|error| (format!("gateway.content-security-of.{plugin}"), error))?;
        }
        Ok(all)
    }
}

impl Default for GatewaySection {
    fn default() -> Self {
        Self {
            body_limit: ByteSize::mebibytes(4),
            header_timeout: Span::seconds(10),
            request_timeout: Span::seconds(60),
            drain: Span::seconds(20),
            connections: 4096,
            in_flight: None,
            in_flight_per_plugin: 256,
            plugin_list: PluginList::Array,
            content_security: "sandbox".into(),
            content_security_of: BTreeMap::new(),
        }
    }
}

/// `[hostapi]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct HostApiSection {
    /// Databases of the application, by the name that policies grant.
    pub database: BTreeMap<String, DatabaseConfig>,
    /// What `config_get` can read.
    pub config: BTreeMap<String, String>,
    /// Outgoing HTTP.
    pub http: HttpConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            behind_proxy: false,
            log: "info".into(),
            log_format: LogFormat::Text,
            worker_threads: 0,
            starts_at_once: 0,
            gateway: GatewaySection::default(),
            discovery: DiscoverySection::default(),
            health: HealthSection::default(),
            restart: RestartSection::default(),
            hostapi: HostApiSection::default(),
        }
    }
}

/// More would only wait for each other.
const MAX_WORKER_THREADS: u16 = 256;
/// Largest `gateway.body-limit`: what the gateway holds of all requests' bodies together.
const MAX_BODY: ByteSize = ByteSize::mebibytes(256);

const KEYS: &KnownKeys = &[
    (
        "",
        &[
            "listen",
            "behind-proxy",
            "log",
            "log-format",
            "worker-threads",
            "starts-at-once",
            "gateway",
            "discovery",
            "health",
            "restart",
            "hostapi",
        ],
    ),
    ("discovery", &["debounce", "longest-wait", "interval"]),
    (
        "health",
        &["interval", "timeout", "degraded-after", "kill-after"],
    ),
    ("restart", &["first", "longest", "limit", "window"]),
    (
        "gateway",
        &[
            "body-limit",
            "header-timeout",
            "request-timeout",
            "drain",
            "connections",
            "in-flight",
            "in-flight-per-plugin",
            "plugin-list",
            "content-security",
            "content-security-of",
        ],
    ),
    ("hostapi", &["database", "config", "http"]),
    (
        "hostapi.database.*",
        &["url", "read-only", "create", "max-size", "write-time"],
    ),
    (
        "hostapi.http",
        &[
            "timeout",
            "request-limit",
            "response-limit",
            "in-flight-per-plugin",
            "tunnels-per-plugin",
            "tunnel-idle",
            "tunnel-time",
            "tunnel-limit",
            "roots",
            "extra-roots",
        ],
    ),
];

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is read and refused.
    #[error("{path}")]
    Document {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: DocumentError,
    },
    /// A credential that it names is not to be had.
    #[error("{path}: {key}")]
    Credential {
        /// The file.
        path: PathBuf,
        /// Dotted key.
        key: String,
        /// Why.
        #[source]
        source: CredentialError,
    },
    /// Its log filter cannot be read.
    #[error("{path}: log")]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: FilterError,
    },
    /// A database has a name, a URL or a time for a write that none can have.
    #[error("{path}: hostapi.database.{name}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Its name.
        name: String,
        /// What is wrong.
        #[source]
        source: OpenFailure,
    },
    /// What no header of an answer can be.
    #[error("{path}: {key}")]
    ContentSecurity {
        /// The file.
        path: PathBuf,
        /// Dotted key.
        key: String,
        /// What is wrong.
        #[source]
        source: ContentSecurityError,
    },
    /// A value that would do harm.
    #[error("{path}: {key} is {value}: {why}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Dotted key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        why: &'static str,
    },
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`] with the file and the line or key.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let bytes = std::fs::read(path).map_err(|source| ConfigError::Read {
            path: path.into(),
            source,
        })?;
        Self::parse(&bytes, path)
    }

    /// Takes the text of a file that is called `path`.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Self, ConfigError> {
        let config: Self = document::read(bytes, KEYS).map_err(|source| ConfigError::Document {
            path: path.into(),
            source,
        })?;
        let refuse = |key, value: String, why| {
            Err(ConfigError::Value {
                path: path.into(),
                key,
                value,
                why,
            })
        };
        if !config.listen.ip().to_canonical().is_loopback() && !config.behind_proxy {
            let why = "this version has no TLS: listen on loopback, or set behind-proxy = true";
            return refuse("listen", config.listen.to_string(), why);
        }
        if config.worker_threads > MAX_WORKER_THREADS {
            let threads = config.worker_threads.to_string();
            return refuse("worker-threads", threads, "at most 256");
        }
        let body = config.gateway.body_limit;
        if body > MAX_BODY {
            let why = "at most 256MiB, which is what all bodies together may take";
            return refuse("gateway.body-limit", body.to_string(), why);
        }
        for (key, places) in [
            ("gateway.connections", config.gateway.connections),
            ("gateway.in-flight", config.gateway.all_in_flight()),
            (
                "gateway.in-flight-per-plugin",
                config.gateway.in_flight_per_plugin,
            ),
        ] {
            if places == 0 {
                return refuse(key, "0".into(), "nobody could be served");
            }
        }
        if let Some(all) = config.gateway.in_flight
            && all >= config.gateway.connections
        {
            let why = "it must be below gateway.connections, or plugins that do not answer keep \
                       health checks and administrators out";
            return refuse("gateway.in-flight", all.to_string(), why);
        }
        config.gateway.content_security().map_err(|(key, source)| {
            ConfigError::ContentSecurity {
                path: path.into(),
                key,
                source,
            }
        })?;
        let http = &config.hostapi.http;
        for (key, size) in [
            ("hostapi.http.request-limit", http.request_limit),
            ("hostapi.http.response-limit", http.response_limit),
        ] {
            // A reply travels as base64 in one message: what is larger no plugin could take.
            if size > ByteSize::mebibytes(64) {
                return refuse(key, size.to_string(), "at most 64MiB");
            }
        }
        telemetry::check(&config.log).map_err(|source| ConfigError::Log {
            path: path.into(),
            source,
        })?;
        for (name, database) in &config.hostapi.database {
            database
                .check(name)
                .map_err(|source| ConfigError::Database {
                    path: path.into(),
                    name: name.clone(),
                    source,
                })?;
        }
        let life = life::fault(&config.restart, &config.health, &config.discovery);
        if let Some((key, value, why)) = life {
            return refuse(key, value, why);
        }
        Ok(config)
    }

    /// What plugins' lives go by.
    pub(crate) fn life(&self) -> LifeSettings {
        LifeSettings {
            discovery: self.discovery.clone(),
            health: self.health.clone(),
            restart: self.restart.clone(),
            starts_at_once: self.starts_at_once,
        }
    }

    /// The file's text.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every field has a TOML form, scalars before tables")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text.as_bytes(), Path::new("pinfold.toml"))
            .map_err(|error| crate::chain::Chain(&error).to_string())
    }

    #[test]
    fn an_empty_file_is_the_defaults_and_they_round_trip() {
        assert_eq!(parse(""), Ok(Config::default()));
        assert_eq!(parse(&Config::default().to_toml()), Ok(Config::default()));
    }

    #[test]
    fn the_packaged_file_is_taken() {
        let config = parse(include_str!("../../packaging/etc/pinfold.toml")).unwrap();
        assert_eq!(config.log_format, LogFormat::Journal);
        let main = config.hostapi.database.get("main").unwrap();
        assert_eq!(main.url, "sqlite:///var/lib/pinfold/main.db");
    }

    #[test]
    fn what_browsers_are_told_of_answers_is_said_for_all_and_for_single_plugins() {
        let config = parse(
            "[gateway]\ncontent-security = ''\n[gateway.content-security-of]\nhello = 'sandbox allow-scripts'",
        )
        .unwrap();
        let expected = {
            let mut expected = ContentSecurity::new("").unwrap();
            let hello = PluginId::parse("hello").unwrap();
            expected.set(hello, "sandbox allow-scripts").unwrap();
            expected
        };
        assert_eq!(config.gateway.content_security(), Ok(expected));
        assert_eq!(parse(&config.to_toml()), Ok(config));
    }

    #[test]
    fn faults_are_refused_with_file_and_place() {
        for (text, expected) in [
            (
                "[gateway]\ncontent-security = 'sändbox'",
                "pinfold.toml: gateway.content-security: printable ASCII alone can be sent in a header",
            ),
            (
                "[gateway.content-security-of]\nhello = \"a\\nb\"",
                "pinfold.toml: gateway.content-security-of.hello: printable ASCII alone can be sent in a header",
            ),
            (
                "lisen = 'x'",
                r#"pinfold.toml: line 1: unknown key "lisen", did you mean "listen"?"#,
            ),
            (
                "listen = '0.0.0.0:80'",
                "pinfold.toml: listen is 0.0.0.0:80: this version has no TLS: listen on loopback, or set behind-proxy = true",
            ),
            (
                "[hostapi.database.main]\nurll = 'x'",
                r#"pinfold.toml: line 2: unknown key "hostapi.database.main.urll", did you mean "url"?"#,
            ),
            (
                "[hostapi.database.main]\nurl = 'postgres://user:secret@db/main'",
                r#"pinfold.toml: hostapi.database.main: url "postgres://db/main": this version opens sqlite:///absolute/path alone"#,
            ),
            (
                "[hostapi.database.Main]\nurl = 'sqlite:///a.db'",
                "pinfold.toml: hostapi.database.Main: a name is 1 to 63 of a-z, 0-9, _ and -",
            ),
            (
                "[gateway]\nbody-limit = '257MiB'",
                "pinfold.toml: gateway.body-limit is 257MiB: at most 256MiB, which is what all bodies together may take",
            ),
        ] {
            assert_eq!(parse(text), Err(expected.to_owned()));
        }
        assert!(parse("listen = '0.0.0.0:80'\nbehind-proxy = true").is_ok());
        let filter = parse("log = 'pinfold=loud'").unwrap_err();
        assert!(
            filter.starts_with(r#"pinfold.toml: log: log filter "pinfold=loud": "#),
            "{filter}"
        );
    }

    #[test]
    fn the_largest_body_that_is_taken_is_one_that_the_gateway_serves() {
        let config = parse("[gateway]\nbody-limit = '256MiB'").unwrap();
        let gateway = pinfold_gateway::GatewayConfig {
            body_limit_bytes: usize::try_from(config.gateway.body_limit.0).unwrap(),
            ..Default::default()
        };
        gateway.check().unwrap();
    }

    #[test]
    fn fewer_requests_than_connections_are_under_way() {
        let all = |text: &str| {
            let config = parse(&format!("[gateway]\n{text}"));
            config.map(|config| config.gateway.all_in_flight())
        };
        assert_eq!(all(""), Ok(3072));
        assert_eq!(all("connections = 10"), Ok(7));
        assert_eq!(all("connections = 10\nin-flight = 9"), Ok(9));
        for text in ["in-flight = 4096", "connections = 10\nin-flight = 10"] {
            let error = all(text).unwrap_err();
            assert!(error.contains("below gateway.connections"), "{error}");
        }
    }

    #[test]
    fn every_key_is_in_the_reference() {
        let reference = include_str!("../../docs/configuration.md");
        for (table, keys) in KEYS {
            for key in *keys {
                let path = if table.is_empty() {
                    (*key).to_owned()
                } else {
                    format!("{table}.{key}")
                };
                let whole_table = KEYS.iter().any(|(inner, _)| inner.starts_with(&path));
                let row = format!("`{}`", path.replace('*', "NAME"));
                assert!(whole_table || reference.contains(&row), "{row} has no row");
            }
        }
    }
}
