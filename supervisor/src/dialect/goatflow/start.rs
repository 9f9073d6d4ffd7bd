//! From a started process to a plugin that serves: handshake, session, registration,
//! initialisation.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use pinfold_gateway::admin::dto::LogStream;
use pinfold_gob::{DecodeError, Kind, Nothing, Schema};
use pinfold_policy::{PluginId, Span, is_unprintable};
use pinfold_rpc::handshake::{Address, Expectation, FirstLine, HandshakeLine};
use pinfold_rpc::netrpc::{self, Body, Client, End};
use pinfold_rpc::session::{PluginSession, SessionConfig, Stdio};
use pinfold_rpc::yamux::{self, SessionError};
use pinfold_sandbox::protocol::{Loopback, NOTE_LIMIT_BYTES, SocketDirectory};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};

use super::callback::{self, CallTokens};
use super::instance::{GoatflowInstance, SESSION_END_LIMIT};
use super::registration::{GobRegistration, REGISTRATION_LIMIT_BYTES, Registration};
use super::wire::InitRequest;
use super::{DISPENSED, HOST_VERSION};
use crate::chain::Chain;
use crate::dialect::{Connect, DialectError, Process, Started};

/// Version of the contract that the handshake negotiates.
pub(super) const PROTOCOL_VERSION: i64 = 1;
/// The other directory in which a plugin's socket may lie.
const RUN_DIRECTORY: &str = "/run/plugin";
/// How long a plugin may read nothing of what is sent to it before its connection counts as dead:
/// longer than pings take, by default, to find out the same.
const WRITE_LIMIT: Duration = Duration::from_secs(180);
/// Longest base name of a socket.
const SOCKET_NAME_LIMIT_BYTES: usize = 64;

pub(super) async fn start(
    process: Process,
    mut stdout: pipe::Receiver,
) -> Result<Started, DialectError> {
    let limit = process.timeouts().handshake;
    let line = match &process.resumed {
        // It prints one in its life.
        Some(line) => line.clone().into_bytes(),
        None => timeout(limit.0, first_line(&mut stdout))
            .await
            .map_err(|_| DialectError::HandshakeDeadline { limit })??,
    };
    let handshake = HandshakeLine::parse(&line, &Expectation::net_rpc(vec![PROTOCOL_VERSION]))
        .map_err(DialectError::Handshake)?;
    let place = place(&handshake.address, &process.tmp_directory)?;
    // What comes on standard output from here on is nothing but output.
    process.output.add(LogStream::Stdout, stdout);
    let (session, stdio) = connect(process.connect.as_ref(), place).await?;
    process.output.add(LogStream::Stdout, stdio.stdout);
    process.output.add(LogStream::Stderr, stdio.stderr);
    let dispensing = session.dispense(DISPENSED, Instant::now() + limit.0);
    let client = step(&session, "dispense", limit, dispensing).await?;
    let registration = register(&session, &client, limit).await?;
    check_name(&process.plugin, &registration)?;
    let asked = registration
        .asked()
        .map_err(|error| DialectError::Registration {
            reason: one_line(&error),
        })?;
    let tokens = Arc::new(CallTokens::default());
    let offer = session
        .broker()
        .offer()
        .map_err(|error| failed("offer the host API", &error))?;
    let init = InitRequest {
        config: config(&process.plugin, &process.known, environment()),
        host_api_id: offer.id(),
    };
    let caller = process.caller(asked.clone());
    let (host, output) = (Arc::clone(&process.host), Arc::clone(&process.output));
    let calls = Arc::clone(&tokens);
    let stop = process
        .output
        .serve(move |stop| callback::serve(offer, host, caller, calls, output, stop));
    let end_with_failure = stop.clone().drop_guard();
    let limit = process.timeouts().init;
    let call = client.call::<InitRequest, Nothing>("Plugin.Init", &init, Instant::now() + limit.0);
    let Nothing = step(&session, "initialise", limit, call).await?;
    end_with_failure.disarm();
    let call_limit = process.timeouts().call.0;
    let version = registration.version();
    let offer = registration.offer();
    let output = Arc::clone(&process.output);
    let instance = GoatflowInstance::new(session, client, tokens, output, call_limit, stop);
    Ok(Started {
        instance: Arc::new(instance),
        offer,
        asked,
        version,
        resume: resume(line),
    })
}

/// What its next host has to know of a plugin: the handshake line. Each launch is given the same
/// environment, and no certificate, so nothing else is between it and its host.
fn resume(line: Vec<u8>) -> Option<String> {
    let line = String::from_utf8(line).ok()?;
    (line.len() <= NOTE_LIMIT_BYTES).then_some(line)
}

/// The first line of standard output.
async fn first_line(stdout: &mut pipe::Receiver) -> Result<Vec<u8>, DialectError> {
    let refused = |error: &dyn std::error::Error| DialectError::Step {
        step: "read the handshake line",
        reason: Chain(error).to_string(),
    };
    let mut reader = FirstLine::new();
    let mut buffer = vec![0; 4096];
    loop {
        let count = stdout
            .read(&mut buffer)
            .await
            .map_err(|error| refused(&error))?;
        if count == 0 {
            return reader.finish().map_err(|_| DialectError::EndedEarly);
        }
        let piece = buffer.get(..count).unwrap_or_default();
        if let Some(line) = reader.push(piece).map_err(|error| refused(&error))? {
            return Ok(line);
        }
    }
}

/// Where a plugin listens.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// At a name in one of the two directories.
    Unix(SocketDirectory, String),
    /// At a port of its own loopback.
    Tcp(Loopback, NonZeroU16),
}

/// Where the handshake line's socket is. Nothing but a plain name in one of two directories, or a
/// port of the jail's own loopback, is ever asked of the launcher, which checks again.
fn place(address: &Address, tmp_directory: &str) -> Result<Place, DialectError> {
    let refused = || DialectError::Address {
        address: format!("{address:?}").chars().take(200).collect(),
        allowed: format!("{tmp_directory} or {RUN_DIRECTORY}, or a port of 127.0.0.1 or ::1,"),
    };
    let path = match address {
        Address::Unix { path } => path,
        Address::Tcp { host, port } => {
            let loopback = match host.as_str() {
                "127.0.0.1" => Loopback::V4,
                "::1" => Loopback::V6,
                _ => return Err(refused()),
            };
            let port = NonZeroU16::new(*port).ok_or_else(refused)?;
            return Ok(Place::Tcp(loopback, port));
        }
    };
    let (directory, name) = path.rsplit_once('/').ok_or_else(refused)?;
    let directory = match directory {
        RUN_DIRECTORY => SocketDirectory::Run,
        directory if directory == tmp_directory => SocketDirectory::Tmp,
        _ => return Err(refused()),
    };
    let plain = (1..=SOCKET_NAME_LIMIT_BYTES).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'));
    if plain {
        Ok(Place::Unix(directory, name.to_owned()))
    } else {
        Err(refused())
    }
}

async fn connect(jail: &dyn Connect, place: Place) -> Result<(PluginSession, Stdio), DialectError> {
    let unusable = |error: std::io::Error| failed("open the session", &error);
    match place {
        Place::Unix(directory, name) => {
            let socket = jail.connect(directory, name).await?;
            let stream = std::os::unix::net::UnixStream::from(socket);
            stream.set_nonblocking(true).map_err(unusable)?;
            session(UnixStream::from_std(stream).map_err(unusable)?).await
        }
        Place::Tcp(loopback, port) => {
            let socket = jail.connect_port(loopback, port).await?;
            let stream = std::net::TcpStream::from(socket);
            stream.set_nonblocking(true).map_err(unusable)?;
            // Frames are written whole: waiting to fill a segment only delays them.
            stream.set_nodelay(true).map_err(unusable)?;
            session(TcpStream::from_std(stream).map_err(unusable)?).await
        }
    }
}

async fn session<S>(stream: S) -> Result<(PluginSession, Stdio), DialectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config = SessionConfig {
        yamux: yamux::Config {
            // The plugin is asked by its protocol's ping instead, and slow is told from dead there.
            keep_alive: None,
            write_timeout: WRITE_LIMIT,
            ..yamux::Config::default()
        },
        ..SessionConfig::default()
    };
    PluginSession::connect(stream, config)
        .await
        .map_err(|error| failed("open the session", &error))
}

fn failed(step: &'static str, error: &dyn std::error::Error) -> DialectError {
    DialectError::Step {
        step,
        reason: one_line(error),
    }
}

/// Longest reason, in characters: part of it may be the plugin's own words.
const REASON_LIMIT_CHARACTERS: usize = 1000;

/// An error with its causes as one line, whatever the plugin put into it.
fn one_line(error: &dyn std::error::Error) -> String {
    let text = Chain(error).to_string();
    let shown = text.chars().take(REASON_LIMIT_CHARACTERS);
    shown
        .map(|c| {
            if is_unprintable(c) {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

/// A step's outcome; one that took too long, or that the plugin's end cut short, is told apart.
async fn step<T, E: std::error::Error + 'static>(
    session: &PluginSession,
    step: &'static str,
    limit: Span,
    outcome: impl Future<Output = Result<T, E>>,
) -> Result<T, DialectError> {
    let error = match outcome.await {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    match call_error(&error) {
        Some(netrpc::CallError::Deadline) => Err(DialectError::StepDeadline { step, limit }),
        Some(netrpc::CallError::Closed { cause })
            if matches!(**cause, End::PeerClosed | End::Truncated | End::Io { .. }) =>
        {
            Err(match timeout(SESSION_END_LIMIT, session.closed()).await {
                Ok(why) if matches!(*why, SessionError::PeerClosed) => DialectError::Lost { step },
                Ok(why) => failed(step, &*why),
                Err(_) => failed(step, &error),
            })
        }
        _ => Err(failed(step, &error)),
    }
}

/// The failed call among an error and its causes.
fn call_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a netrpc::CallError> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|one| one.downcast_ref())
}

/// What `GKRegister` answers: JSON in a byte slice, or generation 1's struct.
enum Registered {
    Json(Vec<u8>),
    Struct(GobRegistration),
}

async fn register(
    session: &PluginSession,
    client: &Client,
    limit: Span,
) -> Result<Registration, DialectError> {
    let read = |mut body: Body<'_>| -> Result<Registered, DecodeError> {
        if body.wire_type()?.kind() == Kind::Struct {
            return body.decode().map(Registered::Struct);
        }
        body.decode::<serde_bytes::ByteBuf>()
            .map(|json| Registered::Json(json.into_vec()))
    };
    let (deadline, nothing) = (Instant::now() + limit.0, Schema::interface());
    let call = client.call_with("Plugin.GKRegister", (&nothing, &()), deadline, read);
    match step(session, "register", limit, call).await? {
        Registered::Struct(registration) => Ok(registration.into()),
        Registered::Json(json) if json.len() > REGISTRATION_LIMIT_BYTES => {
            Err(DialectError::Registration {
                reason: format!(
                    "it has {} bytes, at most {REGISTRATION_LIMIT_BYTES} are read",
                    json.len()
                ),
            })
        }
        Registered::Json(json) => {
            serde_json::from_slice(&json).map_err(|error| DialectError::Registration {
                reason: format!("not the JSON expected: {}", one_line(&error)),
            })
        }
    }
}

fn check_name(plugin: &PluginId, registration: &Registration) -> Result<(), DialectError> {
    if registration.name == plugin.as_str() {
        return Ok(());
    }
    let registered = registration.name.chars().take(80).collect();
    Err(DialectError::OtherName { registered })
}

/// What a plugin is told when it is initialised: the contract's four keys, then what the daemon's
/// own environment has for this plugin as `GOATFLOW_PLUGIN_<NAME>_<KEY>`. A variable that reads as
/// another known plugin's too is for the longer name; of two names that read the same, for neither.
fn config(
    plugin: &PluginId,
    known: &BTreeSet<PluginId>,
    environment: impl Iterator<Item = (String, String)>,
) -> BTreeMap<String, String> {
    let mut config: BTreeMap<String, String> = [
        ("host_version", HOST_VERSION.to_owned()),
        ("plugin_name", plugin.to_string()),
        ("plugin_dir", format!("config/plugins/{plugin}")),
        ("work_dir", format!("data/plugins/{plugin}")),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let own = variable_prefix(plugin);
    let closer: Vec<String> = known
        .iter()
        .filter(|other| *other != plugin)
        .map(variable_prefix)
        .filter(|other| other.starts_with(&own))
        .collect();
    for (name, value) in environment {
        if closer.iter().any(|other| name.starts_with(other.as_str())) {
            continue;
        }
        if let Some(key) = name.strip_prefix(&own).filter(|key| !key.is_empty()) {
            config.insert(key.to_ascii_lowercase(), value);
        }
    }
    config
}

/// What the names of a plugin's variables begin with.
fn variable_prefix(plugin: &PluginId) -> String {
    let name = plugin.as_str().to_ascii_uppercase().replace('-', "_");
    format!("GOATFLOW_PLUGIN_{name}_")
}

/// The daemon's environment, without what is not text.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys beside the contract's four that `plugin` is given where all of `known` are there.
    fn own_keys(plugin: &str, known: &[&str]) -> Vec<String> {
        let id = |name: &str| PluginId::parse(name).unwrap();
        let known = known.iter().map(|name| id(name)).collect();
        let environment = [
            ("GOATFLOW_PLUGIN_PAY_URL", "u"),
            ("GOATFLOW_PLUGIN_PAY_CARD_KEY", "k"),
            ("GOATFLOW_PLUGIN_PAY_", "no key"),
            ("GOATFLOW_PLUGIN_PAYER_KEY", "another's"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut config = config(&id(plugin), &known, environment.into_iter());
        for key in ["host_version", "plugin_name", "plugin_dir", "work_dir"] {
            config.remove(key).unwrap();
        }
        config.into_keys().collect()
    }

    #[test]
    fn a_plugin_whose_name_begins_anothers_is_not_given_its_variables() {
        assert_eq!(own_keys("pay", &["pay"]), ["card_key", "url"]);
        assert_eq!(own_keys("pay", &["pay", "pay-card"]), ["url"]);
        assert_eq!(own_keys("pay-card", &["pay", "pay-card"]), ["key"]);
        assert_eq!(
            own_keys("pay-card", &["pay-card", "pay_card"]),
            [""; 0],
            "two names that read the same"
        );
    }

    #[test]
    fn a_plugins_words_are_one_bounded_line() {
        let error = netrpc::CallError::Remote {
            text: format!("no\n\x1b[2Jfake line{}", "x".repeat(5000)),
        };
        let DialectError::Step { reason, .. } = failed("initialise", &error) else {
            panic!("another error");
        };
        assert!(reason.starts_with("no\u{fffd}\u{fffd}[2Jfake line"));
        assert_eq!(reason.chars().count(), REASON_LIMIT_CHARACTERS);
    }

    #[test]
    fn only_plain_names_in_the_two_directories_are_sockets() {
        let at = |path: &str| place(&Address::Unix { path: path.into() }, "/tmp/x");
        assert_eq!(
            at("/tmp/x/plugin1").unwrap(),
            Place::Unix(SocketDirectory::Tmp, "plugin1".into())
        );
        assert_eq!(
            at("/run/plugin/p.sock").unwrap(),
            Place::Unix(SocketDirectory::Run, "p.sock".into())
        );
        let long = format!("/tmp/x/{}", "a".repeat(65));
        for path in [
            "",
            "plugin",
            "/tmp/plugin",
            "/tmp/x/../y",
            "/tmp/x/",
            "/tmp/x/.p",
            "@abstract",
            &long,
        ] {
            assert!(
                matches!(at(path), Err(DialectError::Address { .. })),
                "{path}"
            );
        }
    }

    #[test]
    fn only_ports_of_loopback_are_ports_of_a_jail() {
        let at = |host: &str, port| {
            let host = host.into();
            place(&Address::Tcp { host, port }, "/tmp/x")
        };
        for (host, loopback) in [("127.0.0.1", Loopback::V4), ("::1", Loopback::V6)] {
            let port = NonZeroU16::new(10_000).unwrap();
            assert_eq!(at(host, 10_000).unwrap(), Place::Tcp(loopback, port));
        }
        for (host, port) in [
            ("127.0.0.1", 0),
            ("127.0.0.2", 1),
            ("", 1),
            ("localhost", 1),
            ("0.0.0.0", 1),
            ("::", 1),
            ("::ffff:127.0.0.1", 1),
            ("192.0.2.1", 1),
        ] {
            assert!(
                matches!(at(host, port), Err(DialectError::Address { .. })),
                "{host}"
            );
        }
    }
}
