use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use http::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use pinfold_gateway::admin::dto::Because;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use super::*;
use crate::cli::exit::{Exit, Failure};

/// A server on a socket of its own, answering everything the same.
struct Server {
    directory: TempDir,
    /// What was asked: method, target, body.
    asked: Arc<Mutex<Vec<(String, String, String)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    fn new(status: u16, body: &str) -> (Self, Client) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("admin.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, notes) = (Bytes::copy_from_slice(body.as_bytes()), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service_fn(|request: Request<Incoming>| {
                    let (answer, notes) = (answer.clone(), Arc::clone(&notes));
                    async move {
                        let (head, body) = request.into_parts();
                        #[expect(clippy::disallowed_methods, reason = "the client is ours")]
                        let body = body.collect().await.unwrap().to_bytes();
                        notes.lock().unwrap().push((
                            head.method.to_string(),
                            head.uri.to_string(),
                            String::from_utf8(body.to_vec()).unwrap(),
                        ));
                        let answer = Response::builder()
                            .status(status)
                            .body(Full::new(answer))
                            .unwrap();
                        Ok::<_, Infallible>(answer)
                    }
                });
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                    .unwrap_or_default();
            }
        });
        let server = Self {
            directory,
            asked,
            task,
        };
        (server, Client::new(socket, true))
    }

    fn asked(&self) -> (String, String, String) {
        self.asked.lock().unwrap().pop().unwrap()
    }
}

fn hello() -> PluginId {
    "hello".parse().unwrap()
}

const PROBLEM: &str = r#"{"type": "about:blank", "title": "Not Found", "status": 404,
    "detail": "plugin \"hello\" not found", "code": "control.unknown_plugin", "request_id": "r1"}"#;

#[tokio::test]
async fn requests_are_what_the_api_takes_and_answers_are_read() {
    let (server, client) = Server::new(200, "[]");
    assert!(client.plugins().await.unwrap().is_empty());
    let target = |path: &str| format!("/api/pinfold/v1{path}");
    assert_eq!(
        server.asked(),
        ("GET".into(), target("/plugins"), String::new())
    );
    let query = LogQuery {
        limit: 5,
        level: Some(pinfold_gateway::admin::dto::LogLevel::Warn),
        stream: None,
        follow: false,
    };
    client.logs(&hello(), query).await.unwrap();
    assert_eq!(
        server.asked().1,
        target("/plugins/hello/logs?limit=5&level=warn")
    );
    let result = client
        .call(&hello(), "../a b", Bytes::from_static(b"{}"))
        .await;
    assert_eq!(result.unwrap(), "[]");
    let asked = server.asked();
    let path = target("/plugins/hello/call/%2E%2E%2Fa%20b");
    assert_eq!(asked, ("POST".into(), path, "{}".into()));
}

#[tokio::test]
async fn a_plugin_that_is_gone_answers_with_nothing() {
    let (server, client) = Server::new(204, "");
    let why = RescanQuery::because(Because::PluginRemoved);
    assert_eq!(client.rescan(&hello(), &why).await.unwrap(), None);
    assert_eq!(
        server.asked().1,
        "/api/pinfold/v1/plugins/hello/rescan?because=plugin-removed"
    );
}

#[tokio::test]
async fn a_problem_is_told_in_its_own_words_with_what_to_do() {
    let (_server, client) = Server::new(404, PROBLEM);
    let failure = Failure::from(client.plugin(&hello()).await.unwrap_err());
    assert_eq!(failure.to_string(), r#"plugin "hello" not found"#);
    assert_eq!(failure.exit(), Exit::Failed);
    assert!(failure.hint_text().unwrap().contains("plugin list"));
    let (_server, client) = Server::new(503, &PROBLEM.replace("unknown_plugin", "stopping"));
    let failure = Failure::from(client.status().await.unwrap_err());
    assert_eq!(failure.exit(), Exit::Temporary);
}

#[tokio::test]
async fn answers_of_another_kind_end_as_a_protocol_error() {
    for (status, body) in [(200, "<html>"), (200, "{\"a\": 1}"), (500, "oops")] {
        let (_server, client) = Server::new(status, body);
        let failure = Failure::from(client.plugins().await.unwrap_err());
        assert_eq!(failure.exit(), Exit::Protocol, "{failure}");
    }
}

#[tokio::test]
async fn no_socket_and_a_stale_one_mean_that_the_daemon_is_not_running() {
    let (server, client) = Server::new(200, "[]");
    let absent = Client::new(server.directory.path().join("none"), false);
    let stale = server.directory.path().join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    for client in [absent, Client::new(stale, false)] {
        let error = client.plugins().await.unwrap_err();
        assert!(matches!(error, ClientError::NotRunning { .. }), "{error:?}");
        let failure = Failure::from(error);
        assert_eq!(failure.exit(), Exit::Unavailable);
        assert!(failure.hint_text().unwrap().contains("pinfold doctor"));
    }
    drop((server, client));
}

/// Root is refused by no mode, so for root this shows the mapping alone.
#[tokio::test]
async fn a_socket_that_this_user_may_not_use_asks_for_more_rights() {
    let (server, client) = Server::new(200, "[]");
    let socket = server.directory.path().join("admin.sock");
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o000)).unwrap();
    let error = if nix::unistd::geteuid().is_root() {
        client.not_connected(io::Error::from_raw_os_error(nix::libc::EACCES))
    } else {
        client.plugins().await.unwrap_err()
    };
    let failure = Failure::from(error);
    assert_eq!(failure.exit(), Exit::NoPermission);
    assert!(failure.hint_text().unwrap().starts_with("run it with sudo"));
}

#[tokio::test]
async fn a_connection_that_ends_in_the_middle_is_an_error_and_no_hang() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let task = tokio::spawn(async move {
        for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n["] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let client = Client::new(socket, true);
    for _ in 0..2 {
        let error = client.plugins().await.unwrap_err();
        assert!(matches!(error, ClientError::Transport { .. }), "{error:?}");
        assert_eq!(Failure::from(error).exit(), Exit::Unavailable);
    }
    task.await.unwrap();
}
