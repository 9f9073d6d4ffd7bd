//! From a host to addresses.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use url::Host;

/// Look-ups of one plugin at once. One that hangs takes a thread until the system gives it up.
pub(crate) const LOOKUPS_PER_PLUGIN: usize = 4;
/// Look-ups of all plugins at once: far below the runtime's threads for blocking work.
const LOOKUPS: usize = 32;
/// Most addresses of one name that are looked at.
const ADDRESS_LIMIT: usize = 16;

/// Finds the addresses of a name.
pub trait Resolve: Send + Sync {
    /// The addresses of `name`, in the order in which they are to be tried. `place` is the calling
    /// plugin's: it is held for as long as the look-up takes something, also when its future is
    /// dropped.
    fn resolve(&self, name: String, place: LookupPlace) -> BoxFuture<'_, io::Result<Vec<IpAddr>>>;
}

/// A look-up's place among those of its plugin.
pub type LookupPlace = tokio::sync::OwnedSemaphorePermit;

/// The system's own look-up.
#[derive(Debug)]
pub struct SystemResolver {
    places: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(LOOKUPS)),
        }
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: String, place: LookupPlace) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        async move {
            let among_all = Arc::clone(&self.places).acquire_owned().await;
            let looked_up = tokio::task::spawn_blocking(move || {
                // Not interruptible: its places are taken until it is back.
                let _places = (place, among_all);
                let addresses = (name.as_str(), 0).to_socket_addrs()?;
                Ok(addresses.map(|address| address.ip()).collect())
            });
            looked_up
                .await
                .unwrap_or_else(|gone| Err(io::Error::other(gone)))
        }
        .boxed()
    }
}

/// The addresses that a URL's host stands for. An address stands for itself: a number in whatever
/// notation is one by the time the URL is parsed, and is never looked up.
pub(super) async fn addresses(
    resolver: &dyn Resolve,
    host: &Host<&str>,
    places: &Arc<Semaphore>,
) -> io::Result<Vec<IpAddr>> {
    match host {
        Host::Ipv4(address) => Ok(vec![IpAddr::V4(*address)]),
        Host::Ipv6(address) => Ok(vec![IpAddr::V6(*address)]),
        Host::Domain(name) => {
            let place = Arc::clone(places).acquire_owned().await;
            let place = place.map_err(io::Error::other)?;
            let mut found = resolver.resolve((*name).to_owned(), place).await?;
            found.truncate(ADDRESS_LIMIT);
            Ok(found)
        }
    }
}
