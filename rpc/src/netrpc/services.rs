//! What a server serves: methods by name, each with the types of its argument and its reply.
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pinfold_gob::{DecodeError, EncodeError, GobType, Schema, WireType};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use super::body::Body;
use super::header::ResponseHeaderRef;
use super::outbox::Messages;
use super::refusals::Refusals;
use super::schema::schema_of;

/// One request, decoded.
#[derive(Debug)]
pub struct Request<A> {
    /// The argument.
    pub arg: A,
    /// The argument's type as the peer sent it: what fields its version of the struct has, say.
    pub arg_type: WireType,
    /// Its place among those that are served at once.
    pub place: Place,
}

/// A request's place among those that a server serves at once. It is given back when the reply has
/// been written, unless [`leave`](Place::leave) gave it back before.
#[derive(Clone, Debug)]
pub struct Place {
    permit: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
    refusals: Arc<Refusals>,
}

impl Place {
    pub(super) fn new(permit: OwnedSemaphorePermit, refusals: Arc<Refusals>) -> Self {
        Self {
            permit: Arc::new(Mutex::new(Some(permit))),
            refusals,
        }
    }

    /// Says that this request is refused, whatever form its reply has: it counts against
    /// [`refusals_per_second`](super::ServerConfig::refusals_per_second). An error that a method returns counts without
    /// this.
    pub fn refused(&self) {
        self.refusals.count();
    }

    /// Lets another request be read while this one is served on: for one that waits for what may
    /// itself send requests here, and that is bounded otherwise. Its reply is given up where too many are unread
    /// ([`max_unread`](super::ServerConfig::max_unread)).
    pub fn leave(&self) {
        drop(self.permit().take());
    }

    /// Whether it was given back before the reply.
    pub(super) fn is_left(&self) -> bool {
        self.permit().is_none()
    }

    fn permit(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Methods that a peer may call. Names are `Service.Method`.
#[derive(Clone, Default)]
pub struct Services {
    methods: HashMap<String, Arc<dyn Method>>,
}

impl Services {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a method. An error it returns reaches the peer as this very text, in place of a reply.
    #[must_use]
    pub fn method<A, R, F, Fut>(mut self, name: &str, handler: F) -> Self
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + GobType + Send + 'static,
        F: Fn(Request<A>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, String>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let method = move |mut body: Body<'_>, place: Place| {
            let arg_type = body.wire_type()?;
            let answer = handler(Request {
                arg: body.decode()?,
                arg_type,
                place,
            });
            let outcome =
                async move { answer.await.map(|reply| Box::new(reply) as Box<dyn Reply>) };
            Ok(Box::pin(outcome) as Answer)
        };
        self.methods.insert(name.to_owned(), Arc::new(method));
        self
    }

    /// The method of that name, or what Go's net/rpc says when there is none.
    pub(super) fn find(&self, name: &str) -> Result<&Arc<dyn Method>, String> {
        if let Some(method) = self.methods.get(name) {
            return Ok(method);
        }
        let Some((service, _)) = name.rsplit_once('.') else {
            return Err(format!("rpc: service/method request ill-formed: {name}"));
        };
        let mut known = self
            .methods
            .keys()
            .filter_map(|method| method.rsplit_once('.'));
        if known.any(|(known, _)| known == service) {
            Err(format!("rpc: can't find method {name}"))
        } else {
            Err(format!("rpc: can't find service {name}"))
        }
    }
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.methods.keys()).finish()
    }
}

/// A method under way.
pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Box<dyn Reply>, String>> + Send>>;

/// A method with its types left out.
pub(super) trait Method: Send + Sync {
    /// Decodes the argument; what is given back does the work.
    fn call(&self, body: Body<'_>, place: Place) -> Result<Answer, DecodeError>;
}

impl<F> Method for F
where
    F: Fn(Body<'_>, Place) -> Result<Answer, DecodeError> + Send + Sync,
{
    fn call(&self, body: Body<'_>, place: Place) -> Result<Answer, DecodeError> {
        self(body, place)
    }
}

/// A reply with its type left out.
pub(super) trait Reply: Send {
    /// Appends header and reply.
    fn append(
        &self,
        header: (&Schema, &ResponseHeaderRef<'_>),
        messages: &mut Messages,
    ) -> Result<(), EncodeError>;
}

impl<R: Serialize + GobType + Send + 'static> Reply for R {
    fn append(
        &self,
        header: (&Schema, &ResponseHeaderRef<'_>),
        messages: &mut Messages,
    ) -> Result<(), EncodeError> {
        let schema = schema_of::<R>();
        messages.append(header, |encoder, out| encoder.encode(&schema, self, out))
    }
}
