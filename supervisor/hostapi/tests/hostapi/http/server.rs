//! Real servers on addresses of this host, and a resolver that knows them by name.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pinfold_hostapi::{LookupPlace, Resolve};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// A server, ended when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// What it was asked: the head, and the body as text.
    pub(crate) seen: Arc<Mutex<Vec<(http::request::Parts, String)>>>,
    /// How many connections it was sent.
    pub(crate) connections: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Seen = Arc<Mutex<Vec<(http::request::Parts, String)>>>;

impl Server {
    /// Answers each request by `answer`.
    pub(crate) async fn start(
        ip: &str,
        answer: impl Fn(&http::request::Parts) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let answer = Arc::new(answer);
        Self::with(ip, move |stream, seen| {
            let answer = Arc::clone(&answer);
            async move { talk(stream, seen, answer).await }.boxed()
        })
        .await
    }

    /// Answers over TLS, with a certificate for `name` that is written to `directory`.
    pub(crate) async fn start_tls(
        ip: &str,
        name: &str,
        directory: &Path,
        answer: impl Fn(&http::request::Parts) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        std::fs::write(directory.join(format!("{name}.pem")), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let answer = Arc::new(answer);
        Self::with(ip, move |stream, seen| {
            let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    talk(stream, seen, answer).await;
                }
            }
            .boxed()
        })
        .await
    }

    /// Does as it likes with each connection.
    pub(crate) async fn with(
        ip: &str,
        serve: impl Fn(TcpStream, Seen) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((ip.parse::<IpAddr>().unwrap(), 0))
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, connections) = (Seen::default(), Arc::new(AtomicUsize::new(0)));
        let task = tokio::spawn({
            let (seen, connections) = (Arc::clone(&seen), Arc::clone(&connections));
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(serve(stream, Arc::clone(&seen)));
                }
            }
        });
        Self {
            address,
            seen,
            connections,
            task: task.abort_handle(),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn was_reached(&self) -> bool {
        self.connections.load(Ordering::SeqCst) > 0
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: Seen,
    answer: Arc<impl Fn(&http::request::Parts) -> Response<Full<Bytes>>>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
        async move {
            let (head, mut body) = request.into_parts();
            let mut text = String::new();
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame.unwrap().into_data() {
                    text.push_str(str::from_utf8(&data).unwrap());
                }
            }
            let response = answer(&head);
            seen.lock().unwrap().push((head, text));
            Ok::<_, io::Error>(response)
        }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    drop(served.await);
}

/// A plain answer.
pub(crate) fn text(body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::new(Full::new(body.into()))
}

/// A redirect.
pub(crate) fn redirect(status: u16, location: &str) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("location", location)
        .body(Full::default())
        .unwrap()
}

/// Names and what each look-up of them gives; the last answer stays.
#[derive(Default)]
pub(crate) struct Names {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    pub(crate) lookups: AtomicUsize,
}

impl Names {
    /// `names` is `name=address,address;address`: look-ups are separated by semicolons.
    pub(crate) fn new(names: &[&str]) -> Arc<Self> {
        let names = Self {
            answers: Mutex::new(names.iter().map(|text| parse(text)).collect()),
            lookups: AtomicUsize::new(0),
        };
        Arc::new(names)
    }
}

fn parse(text: &str) -> (String, Vec<Vec<IpAddr>>) {
    let (name, answers) = text.split_once('=').unwrap();
    let answer = |list: &str| list.split(',').map(|ip| ip.parse().unwrap()).collect();
    (name.to_owned(), answers.split(';').map(answer).collect())
}

impl Resolve for Names {
    fn resolve(&self, name: String, _place: LookupPlace) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        let mut all = self.answers.lock().unwrap();
        let answer = all.get_mut(&name).map(|answers| {
            if answers.len() > 1 {
                answers.remove(0)
            } else {
                answers[0].clone()
            }
        });
        let answer = answer.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        std::future::ready(answer).boxed()
    }
}
