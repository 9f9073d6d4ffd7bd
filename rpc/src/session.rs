//! One connected plugin: control, its two output streams, and the broker.
use std::sync::Arc;
use std::time::Duration;

use pinfold_gob::Empty;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::broker::{Broker, BrokerConfig, BrokerError};
use crate::netrpc::{CallError, Client, ClientConfig};
use crate::yamux::{Config, Connection, OpenError, Role, SessionError, Stream};

/// How long a plugin keeps the stream of something dispensed waiting: go-plugin's own limit.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Limits of a session.
#[derive(Clone, Debug, Default)]
pub struct SessionConfig {
    /// Of the connection.
    pub yamux: Config,
    /// Of the control conversation, and of everything dispensed.
    pub client: ClientConfig,
    /// Of the broker.
    pub broker: BrokerConfig,
}

/// What a plugin prints through its language's standard streams; after the handshake that comes here, not through the
/// pipes. Both must be read for as long as the plugin lives: it stops in its own prints otherwise.
#[derive(Debug)]
pub struct Stdio {
    /// Standard output.
    pub stdout: Stream,
    /// Standard error.
    pub stderr: Stream,
}

/// Why nothing was dispensed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DispenseError {
    /// The plugin refused, or did not answer.
    #[error("dispense {name:?}")]
    Call {
        /// The name asked for.
        name: String,
        /// The call's error.
        #[source]
        source: CallError,
    },
    /// The plugin answered, and its stream could not be opened.
    #[error("connect to dispensed {name:?}")]
    Dial {
        /// The name asked for.
        name: String,
        /// The broker's error.
        #[source]
        source: BrokerError,
    },
}

/// A connected plugin. Dropping it closes the connection, and with it everything dispensed; the plugin itself goes on
/// running.
#[derive(Debug)]
pub struct PluginSession {
    connection: Connection,
    control: Client,
    broker: Broker,
    client_config: ClientConfig,
}

impl PluginSession {
    /// Opens a session on a fresh connection to the plugin's address. Nothing is waited for; [`ping`](Self::ping) tells
    /// whether somebody answers. Needs a tokio runtime.
    pub async fn connect<S>(socket: S, config: SessionConfig) -> Result<(Self, Stdio), OpenError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let SessionConfig {
            yamux,
            client,
            broker,
        } = config;
        let connection = Connection::start(socket, Role::Client, yamux);
        // The plugin tells them apart by this order, and answers nothing before it has all three.
        let control = connection.open().await?;
        let stdout = connection.open().await?;
        let stderr = connection.open().await?;
        let session = Self {
            control: Client::start_direct(control, client.clone()),
            broker: Broker::start(connection.clone(), broker),
            client_config: client,
            connection,
        };
        Ok((session, Stdio { stdout, stderr }))
    }

    /// Asks the plugin for a sign of life. It tells that the connection works, not that the plugin is well.
    pub async fn ping(&self, deadline: Instant) -> Result<(), CallError> {
        let Empty = self.control.call("Control.Ping", &true, deadline).await?;
        Ok(())
    }

    /// Gets the named thing from the plugin, a new one each time; it serves `Plugin.Method`.
    pub async fn dispense(&self, name: &str, deadline: Instant) -> Result<Client, DispenseError> {
        let call = self.control.call("Dispenser.Dispense", name, deadline);
        let id: u32 = call.await.map_err(|source| DispenseError::Call {
            name: name.to_owned(),
            source,
        })?;
        let within = DIAL_TIMEOUT.min(deadline.saturating_duration_since(Instant::now()));
        let stream = self
            .broker
            .dial(id, within)
            .await
            .map_err(|source| DispenseError::Dial {
                name: name.to_owned(),
                source,
            })?;
        Ok(Client::start_direct(stream, self.client_config.clone()))
    }

    /// Further streams, in either direction.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Asks the plugin to end itself, and closes the connection. Its process is then on its way out, or not: watch it.
    ///
    /// A plugin may be gone before its answer is written: an end of the connection counts as success.
    pub async fn quit(&self, deadline: Instant) -> Result<(), CallError> {
        let outcome = self
            .control
            .call::<_, Empty>("Control.Quit", &true, deadline)
            .await;
        self.connection.close();
        match outcome {
            Ok(Empty) | Err(CallError::Closed { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits for the connection's end and says why.
    pub async fn closed(&self) -> Arc<SessionError> {
        self.connection.ended().await
    }
}

impl Drop for PluginSession {
    fn drop(&mut self) {
        // Brokers given away hold the connection too.
        self.connection.close();
    }
}
