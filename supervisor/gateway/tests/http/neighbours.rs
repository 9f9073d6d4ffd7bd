//! The other side of each seam: instances, tokens, the daemon, the audit; and a gateway between.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, StatusCode};
use pinfold_gateway::admin::dto::DaemonState;
use pinfold_gateway::{
    Audit, AuditRecord, CallError, Capacity, Drained, Entry, Gateway, GatewayConfig, Instance,
    PluginRequest, PluginResponse, Shared, Table, Tokens, TokensError,
};
use pinfold_policy::{CallContext, Generation, Middleware, PluginId, Route, RouteMethod, User};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Reply};
pub(crate) use crate::daemon::Daemon;

pub(crate) const USER: &str = "authorization: Bearer pf_user";
pub(crate) const ADMIN: &str = "authorization: Bearer pf_admin";

/// What an instance tells the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Called,
    Dropped,
}

/// An instance whose route's handler names what it does.
pub(crate) struct Scripted {
    pub(crate) events: mpsc::Sender<Event>,
    /// `wait` answers once it gets a permit here.
    pub(crate) gate: Arc<Semaphore>,
}

/// Tells the test when a call is dropped before its end.
struct DropNote(Option<mpsc::Sender<Event>>);

impl Drop for DropNote {
    fn drop(&mut self) {
        if let Some(events) = self.0.take() {
            events.try_send(Event::Dropped).unwrap();
        }
    }
}

impl Instance for Scripted {
    fn http(
        &self,
        request: PluginRequest,
        context: CallContext,
    ) -> BoxFuture<'_, Result<PluginResponse, CallError>> {
        Box::pin(async move {
            self.events.try_send(Event::Called).unwrap();
            let mut note = DropNote(Some(self.events.clone()));
            let result = self.act(&request, &context).await;
            note.0 = None;
            result
        })
    }

    fn call(&self, _: &str, _: Bytes, _: CallContext) -> BoxFuture<'_, Result<Bytes, CallError>> {
        Box::pin(async { Err(CallError::Unsupported { what: "call" }) })
    }

    fn ping(&self, _: CallContext) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(async { Ok(()) })
    }
}

impl Scripted {
    async fn act(
        &self,
        request: &PluginRequest,
        context: &CallContext,
    ) -> Result<PluginResponse, CallError> {
        match request.route.handler.as_str() {
            "echo" => Ok(answer(
                200,
                &[("content-type", "application/json")],
                echo(request, context),
            )),
            "hang" => std::future::pending().await,
            "wait" => {
                self.gate.acquire().await.unwrap().forget();
                Ok(answer(
                    200,
                    &[("content-type", "text/plain")],
                    "waited".into(),
                ))
            }
            "large" => Ok(answer(200, &[], "x".repeat(32 << 20))),
            "redirect" => Ok(answer(303, &[("location", "/elsewhere")], String::new())),
            "nothing" => Ok(answer(204, &[], "not to be seen".into())),
            "headers" => Ok(answer(
                200,
                &[
                    ("content-type", "text/html"),
                    ("set-cookie", "a=b"),
                    ("server", "plugin"),
                    ("connection", "close"),
                    ("transfer-encoding", "chunked"),
                    ("content-length", "1"),
                    ("x-content-type-options", "no"),
                    ("content-security-policy", "default-src *"),
                    ("x-request-id", "forged-by-plugin"),
                    ("access-control-allow-origin", "*"),
                    ("strict-transport-security", "max-age=0"),
                    ("etag", "\"1\""),
                ],
                "<p>hi".into(),
            )),
            "status-101" => Ok(answer(101, &[], String::new())),
            "status-999" => Ok(answer(999, &[], String::new())),
            "plugin" => Err(CallError::Plugin {
                text: "no such item".into(),
            }),
            "bad-request" => Err(CallError::BadRequest {
                text: "too many parameters".into(),
            }),
            "deadline" => Err(CallError::Deadline),
            "gone" => Err(CallError::Gone {
                cause: "signal 9, secret cause".into(),
            }),
            "not-ready" => Err(CallError::NotReady {
                state: "starting".into(),
            }),
            "disabled" => Err(CallError::Disabled),
            "overloaded" => Err(CallError::Overloaded),
            "too-large-arguments" => Err(CallError::TooLarge {
                what: "arguments",
                bytes: 9,
                limit_bytes: 5,
            }),
            "too-large-reply" => Err(CallError::TooLarge {
                what: "reply",
                bytes: 9,
                limit_bytes: 5,
            }),
            "unsupported" => Err(CallError::Unsupported { what: "http" }),
            "protocol" => Err(CallError::Protocol {
                text: "secret bytes".into(),
            }),
            "host" => Err(CallError::Host {
                text: "secret trouble".into(),
            }),
            other => panic!("no such behaviour: {other}"),
        }
    }
}

fn echo(request: &PluginRequest, context: &CallContext) -> String {
    let mut names: Vec<_> = request.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    json!({
        "method": request.method.as_str(),
        "path": request.path,
        "route": request.route.path,
        "parameters": request.path_parameters,
        "query": request.query,
        "headers": names,
        "body": String::from_utf8_lossy(&request.body),
        "request_id": &*context.request_id,
        "user": context.user.as_deref(),
        "language": context.language,
        "depth": context.depth,
    })
    .to_string()
}

fn answer(status: u16, headers: &[(&'static str, &str)], body: String) -> PluginResponse {
    PluginResponse {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect::<HeaderMap>(),
        body: body.into(),
    }
}

pub(crate) fn id(text: &str) -> PluginId {
    PluginId::parse(text).unwrap()
}

pub(crate) struct FewTokens;

impl Tokens for FewTokens {
    fn authenticate<'a>(
        &'a self,
        token: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<User>>, TokensError>> {
        let user = |id: &str, role: &str| {
            Some(Arc::new(User {
                id: id.into(),
                login: format!("{id}@x"),
                roles: vec![role.into()],
            }))
        };
        Box::pin(async move {
            match token {
                "pf_user" => Ok(user("ann", "user")),
                "pf_metrics" => Ok(user("prometheus", "metrics")),
                "pf_admin" => Ok(user("root", "admin")),
                "pf_broken" => Err(TokensError {
                    cause: "secret: database is locked".into(),
                }),
                _ => Ok(None),
            }
        })
    }
}

#[derive(Default)]
pub(crate) struct Notes(pub(crate) Mutex<Vec<AuditRecord>>);

impl Audit for Notes {
    fn record(&self, record: AuditRecord) {
        self.0.lock().unwrap().push(record);
    }
}

pub(crate) fn route(
    method: RouteMethod,
    path: &str,
    handler: &str,
    middleware: &[Middleware],
) -> Arc<Route> {
    Arc::new(Route {
        method,
        path: path.into(),
        handler: handler.into(),
        middleware: middleware.to_vec(),
        description: String::new(),
    })
}

/// Routes `/do/BEHAVIOUR` by GET and POST, and those that the tests name.
pub(crate) fn routes() -> Vec<Arc<Route>> {
    use RouteMethod::{Delete, Get, Post};
    let mut routes = vec![
        route(Get, "/items/{id}", "echo", &[]),
        route(Delete, "/items/{id}", "echo", &[]),
        route(Get, "/files/{*path}", "echo", &[]),
        route(Get, "/mine", "echo", &[Middleware::Auth]),
        route(Post, "/mine", "echo", &[Middleware::Auth]),
        route(Get, "/admin", "echo", &[Middleware::Admin]),
        route(Get, "/api/pinfold/v1/status", "echo", &[]),
    ];
    for behaviour in [
        "echo",
        "hang",
        "wait",
        "large",
        "redirect",
        "nothing",
        "headers",
        "status-101",
        "status-999",
        "plugin",
        "bad-request",
        "deadline",
        "gone",
        "not-ready",
        "disabled",
        "overloaded",
        "too-large-arguments",
        "too-large-reply",
        "unsupported",
        "protocol",
        "host",
    ] {
        let path = format!("/do/{behaviour}");
        routes.push(route(Get, &path, behaviour, &[]));
        routes.push(route(Post, &path, behaviour, &[]));
    }
    routes
}

/// A gateway that serves, and everything around it.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) table: Shared,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) audit: Arc<Notes>,
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: JoinHandle<Drained>,
}

impl World {
    pub(crate) async fn with(
        change_config: impl FnOnce(&mut GatewayConfig),
        change_entry: impl FnOnce(&mut Entry),
    ) -> Self {
        let mut config = GatewayConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            ..GatewayConfig::default()
        };
        change_config(&mut config);
        let (sender, events) = mpsc::channel(1000);
        let gate = Arc::new(Semaphore::new(0));
        let mut entry = Entry {
            plugin: id("hello"),
            version: "1.2.0".into(),
            generation: Generation(7),
            routes: routes(),
            instance: Arc::new(Scripted {
                events: sender,
                gate: Arc::clone(&gate),
            }),
            call_timeout: Duration::from_secs(30),
            calls_per_second: None,
            meter: Capacity::new(&config).meter(),
        };
        change_entry(&mut entry);
        let table: Shared = Arc::new(ArcSwap::from_pointee(Table::build(vec![entry.into()]).0));
        let audit = Arc::new(Notes::default());
        let daemon = Arc::new(Daemon {
            state: Mutex::new(DaemonState::Ready),
            acts: Mutex::default(),
        });
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let gateway = Gateway::new(
            config,
            Arc::clone(&table),
            Arc::new(FewTokens),
            Arc::<Daemon>::clone(&daemon),
            Arc::<Notes>::clone(&audit),
        );
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serving = tokio::spawn(async move { gateway.serve(listener, stopped).await.unwrap() });
        Self {
            address,
            table,
            events,
            gate,
            audit,
            daemon,
            stop,
            serving,
        }
    }

    pub(crate) async fn new() -> Self {
        Self::with(|_| {}, |_| {}).await
    }

    pub(crate) async fn client(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, line: &str, headers: &[&str], body: &str) -> Reply {
        self.client().await.ask(line, headers, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask(&format!("GET {path}"), &[], "").await
    }
}
