//! go-plugin's broker for net/rpc: further streams on an existing session, in either direction, told apart by number.
//!
//! The side that accepts gives out the number, tells it to the other inside some call, and waits. The other opens a
//! stream, sends the number as four little-endian bytes and reads the same four back; the stream is theirs then.
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::yamux::{Connection, Incoming, OpenError, SessionError, Stream};

/// Limits of a broker; the times are go-plugin's own.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// How long a stream of the peer may take to say its number.
    pub identify_timeout: Duration,
    /// Streams of the peer that have not said their number; one more is closed.
    pub max_unidentified: usize,
    /// Numbers given out and not used; no more are given out beyond.
    pub max_offers: usize,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            identify_timeout: Duration::from_secs(5),
            max_unidentified: 64,
            max_offers: 1024,
        }
    }
}

/// Why no brokered stream came about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// No stream could be opened.
    #[error("open a stream for broker id {id}")]
    Open {
        /// The number to dial.
        id: u32,
        /// Why not.
        #[source]
        source: OpenError,
    },
    /// The stream failed or ended before the numbers were exchanged; the peer may have refused the number.
    #[error("broker id {id} not confirmed by the peer")]
    Handshake {
        /// The number.
        id: u32,
        /// The stream's error.
        #[source]
        source: io::Error,
    },
    /// The peer confirmed another number.
    #[error("broker id {id} confirmed as {confirmed}")]
    WrongConfirmation {
        /// The number dialled.
        id: u32,
        /// The number read.
        confirmed: u32,
    },
    /// It took too long.
    #[error("broker id {id} not connected within {timeout:?}")]
    Timeout {
        /// The number.
        id: u32,
        /// The time it had.
        timeout: Duration,
    },
    /// Too many numbers are given out and unused.
    #[error("limit of {limit} unused broker ids reached")]
    TooManyOffers {
        /// The limit.
        limit: usize,
    },
    /// The session is over.
    #[error("session ended")]
    SessionEnded {
        /// Why.
        #[source]
        source: Arc<SessionError>,
    },
}

/// Both directions of brokering on one session. Clones share it. Ends with the session.
#[derive(Clone, Debug)]
pub struct Broker {
    connection: Connection,
    offers: Arc<Offers>,
}

#[derive(Debug)]
struct Offers {
    config: BrokerConfig,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    last_id: u32,
    waiting: HashMap<u32, oneshot::Sender<Stream>>,
    ended: Option<Arc<SessionError>>,
}

impl Broker {
    /// Takes every further stream that the peer opens on `connection`. Needs a tokio runtime.
    pub fn start(connection: Connection, config: BrokerConfig) -> Self {
        let offers = Arc::new(Offers {
            config,
            table: Mutex::default(),
        });
        // Ends with the session: it holds nothing that keeps the connection.
        tokio::spawn(identify_all(connection.incoming(), Arc::clone(&offers)));
        Self { connection, offers }
    }

    /// Gives out the next number, from 1, for one stream of the peer. It is taken back when the offer is dropped.
    pub fn offer(&self) -> Result<Offer, BrokerError> {
        let mut table = self.offers.table();
        if let Some(source) = table.ended.clone() {
            return Err(BrokerError::SessionEnded { source });
        }
        let limit = self.offers.config.max_offers;
        if table.waiting.len() >= limit {
            return Err(BrokerError::TooManyOffers { limit });
        }
        let (sender, arrival) = oneshot::channel();
        // After 2^32 numbers they start again; 0 and numbers in use are left out.
        let mut id = table.last_id.wrapping_add(1);
        while id == 0 || table.waiting.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        table.last_id = id;
        table.waiting.insert(id, sender);
        drop(table);
        Ok(Offer {
            id,
            arrival,
            offers: Arc::clone(&self.offers),
        })
    }

    /// Opens a stream for a number that the peer has given out.
    pub async fn dial(&self, id: u32, within: Duration) -> Result<Stream, BrokerError> {
        timeout(within, self.dial_unbounded(id))
            .await
            .unwrap_or(Err(BrokerError::Timeout {
                id,
                timeout: within,
            }))
    }

    async fn dial_unbounded(&self, id: u32) -> Result<Stream, BrokerError> {
        let mut stream = self
            .connection
            .open()
            .await
            .map_err(|source| BrokerError::Open { id, source })?;
        let mut confirmed = [0; 4];
        let exchange = async {
            stream.write_all(&id.to_le_bytes()).await?;
            stream.read_exact(&mut confirmed).await
        };
        exchange
            .await
            .map_err(|source| BrokerError::Handshake { id, source })?;
        match u32::from_le_bytes(confirmed) {
            confirmed if confirmed == id => Ok(stream),
            confirmed => Err(BrokerError::WrongConfirmation { id, confirmed }),
        }
    }
}

/// A number given out, good for one stream.
#[derive(Debug)]
pub struct Offer {
    id: u32,
    arrival: oneshot::Receiver<Stream>,
    offers: Arc<Offers>,
}

impl Offer {
    /// The number to tell the peer.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Waits for the peer's stream, for as long as the session lives, and confirms it. A stream that came before is
    /// taken at once. For a limit in time, drop the future: the number is then taken back.
    pub async fn accept(mut self) -> Result<Stream, BrokerError> {
        let id = self.id;
        let Ok(mut stream) = (&mut self.arrival).await else {
            let ended = self.offers.table().ended.clone();
            let source = ended.unwrap_or_else(|| Arc::new(SessionError::Closed));
            return Err(BrokerError::SessionEnded { source });
        };
        stream
            .write_all(&id.to_le_bytes())
            .await
            .map_err(|source| BrokerError::Handshake { id, source })?;
        Ok(stream)
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.offers.table().waiting.remove(&self.id);
    }
}

impl Offers {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears each new stream in a task of its own, so that one that says nothing holds up no other.
async fn identify_all(mut incoming: Incoming, offers: Arc<Offers>) {
    let unidentified = Arc::new(Semaphore::new(offers.config.max_unidentified));
    let cause = loop {
        let stream = match incoming.accept().await {
            Ok(stream) => stream,
            Err(cause) => break cause,
        };
        let Ok(permit) = Arc::clone(&unidentified).try_acquire_owned() else {
            tracing::debug!("brokered stream closed: too many have not said their id");
            continue;
        };
        let offers = Arc::clone(&offers);
        // Ends within the time-out, or with the session.
        tokio::spawn(async move {
            identify(stream, &offers).await;
            drop(permit);
        });
    };
    let mut table = offers.table();
    table.ended = Some(cause);
    table.waiting.clear();
}

/// Reads a stream's number and hands it to who waits; a stream that nobody waits for is closed by being dropped.
async fn identify(mut stream: Stream, offers: &Offers) {
    let mut id = [0; 4];
    let limit = offers.config.identify_timeout;
    let Ok(Ok(_)) = timeout(limit, stream.read_exact(&mut id)).await else {
        tracing::debug!("brokered stream closed: it did not say its id");
        return;
    };
    let id = u32::from_le_bytes(id);
    let waiting = offers.table().waiting.remove(&id);
    let refused = match waiting {
        Some(waiting) => waiting.send(stream).is_err(),
        None => true,
    };
    if refused {
        tracing::debug!(id, "brokered stream closed: nobody waits for its id");
    }
}
