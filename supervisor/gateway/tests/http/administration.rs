//! The administration API, on the gateway's listener and on a Unix socket.

use std::sync::{Arc, Mutex};

use pinfold_gateway::admin::dto::{
    ControlState, CreatedToken, DaemonState, EventView, FollowLine, LogLevel, LogRecord, LogStream,
    PluginDetail, PluginView, PostureView, Problem, StatusView, TokenView,
};
use pinfold_gateway::{Actor, Drained, GatewayConfig, admin};
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Reply};
use crate::neighbours::{ADMIN, Daemon, USER, World};

const API: &str = "/api/pinfold/v1";

fn read<T: DeserializeOwned>(reply: &Reply) -> T {
    assert!(reply.status < 300, "{reply:?}");
    serde_json::from_str(&reply.body).unwrap()
}

fn problem(reply: &Reply) -> Problem {
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json"),
        "{reply:?}"
    );
    let problem: Problem = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(problem.status, reply.status);
    assert_eq!(
        Some(problem.request_id.as_str()),
        reply.header("x-request-id")
    );
    assert_eq!(problem.kind, "about:blank");
    problem
}

/// An admin socket in a directory of its own.
struct Socket {
    directory: tempfile::TempDir,
    daemon: Arc<Daemon>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<Drained>,
}

impl Socket {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("admin.sock")).unwrap();
        let daemon = Arc::new(Daemon {
            state: Mutex::new(DaemonState::Ready),
            acts: Mutex::default(),
        });
        let (stop, control) = (CancellationToken::new(), Arc::clone(&daemon));
        let stopped = stop.clone();
        let serving = tokio::spawn(async move {
            let config = GatewayConfig {
                body_limit_bytes: 1000,
                ..GatewayConfig::default()
            };
            admin::serve_unix(listener, control, &config, stopped).await
        });
        Self {
            directory,
            daemon,
            stop,
            serving,
        }
    }

    async fn client(&self) -> Client<UnixStream> {
        let path = self.directory.path().join("admin.sock");
        Client::new(UnixStream::connect(path).await.unwrap())
    }

    async fn ask(&self, line: &str, body: &str) -> Reply {
        self.client().await.ask(line, &[], body).await
    }
}

#[tokio::test]
async fn every_operation_is_there_on_the_socket_without_a_token() {
    let socket = Socket::new();
    let mut client = socket.client().await;
    let mut ask = async |line: &str, body: &str| {
        let (method, path) = line.split_once(' ').unwrap();
        client
            .ask(&format!("{method} {API}{path}"), &[], body)
            .await
    };
    let status: StatusView = read(&ask("GET /status", "").await);
    assert_eq!(
        (status.state, status.plugins["ready"]),
        (DaemonState::Ready, 1)
    );
    let plugins: Vec<PluginView> = read(&ask("GET /plugins", "").await);
    let trust: Vec<_> = plugins.iter().map(PluginView::signed_now).collect();
    assert_eq!(trust, ["pinned, LOST", "pinned, ?"]);
    let plugin: PluginDetail = read(&ask("GET /plugins/hello", "").await);
    assert_eq!((plugin.view.id.as_str(), plugin.pid), ("hello", Some(42)));
    let logs: Vec<LogRecord> = read(
        &ask(
            "GET /plugins/hello/logs?limit=5&level=warn&stream=stdout",
            "",
        )
        .await,
    );
    assert_eq!(logs[0].message, "limit 5");
    assert_eq!(
        (logs[0].level, logs[0].stream),
        (LogLevel::Warn, LogStream::Stdout)
    );
    let logs: Vec<LogRecord> = read(&ask("GET /plugins/hello/logs", "").await);
    assert_eq!(logs[0].message, "limit 100");
    let result = ask("POST /plugins/hello/call/echo", "[1]").await;
    assert_eq!(result.json()["arguments"], serde_json::json!([1]));
    let all: Vec<PluginDetail> = read(&ask("POST /rescan", "").await);
    assert_eq!(all.len(), 2);
    let one: PluginDetail = read(&ask("POST /plugins/hello/rescan", "").await);
    assert_eq!(one.view.id.as_str(), "hello");
    assert_eq!(
        ask("POST /plugins/removed/rescan?because=plugin-removed", "")
            .await
            .status,
        204
    );
    assert_eq!(ask("POST /rescan?because=whatever", "").await.status, 400);
    assert_eq!(ask("POST /rescan?record=..", "").await.status, 400);
    for (record, status) in [("0", 204), ("f", 404), ("/", 404)] {
        let path = format!("POST /audit/pending/{}", record.repeat(32));
        assert_eq!(ask(&path, "").await.status, status, "{path}");
    }
    assert_eq!(ask("POST /audit/pending/..%2f", "").await.status, 400);
    for act in ["enable", "disable", "reload"] {
        let changed = ask(&format!("POST /plugins/hello/{act}"), "").await;
        let changed: PluginDetail = read(&changed);
        assert_eq!(changed.view.id.as_str(), "hello");
    }
    let events: Vec<EventView> = read(&ask("GET /events?after=6&plugin=off", "").await);
    assert_eq!((events[0].number, events[0].plugin.as_str()), (7, "off"));
    let posture: PostureView = read(&ask("GET /posture", "").await);
    assert_eq!(posture.controls[0].state, ControlState::NotBuilt);
    let posture: PostureView = read(&ask("GET /posture/hello", "").await);
    assert_eq!(posture.plugin.unwrap().as_str(), "hello");
    let tokens: Vec<TokenView> = read(&ask("GET /tokens", "").await);
    assert_eq!(tokens[0].id, "t1");
    let made = ask(
        "POST /tokens",
        r#"{"name":"ci","user":"ann","roles":["admin"]}"#,
    )
    .await;
    assert_eq!(
        (made.status, made.header("cache-control")),
        (201, Some("no-store"))
    );
    let made: CreatedToken = read(&made);
    assert_eq!((made.token.as_str(), made.view.roles.len()), ("pf_new", 1));
    assert!(!format!("{made:?}").contains("pf_new"));
    assert_eq!(ask("DELETE /tokens/t1", "").await.status, 204);

    let acts = socket.daemon.acts.lock().unwrap();
    let names: Vec<_> = acts.iter().map(|(act, _)| act.as_str()).collect();
    assert_eq!(
        names,
        [
            "call hello echo",
            "rescan None",
            "rescan Some(PluginId(\"hello\"))",
            "rescan Some(PluginId(\"removed\"))admin.plugin.remove",
            "enable hello",
            "disable hello",
            "reload hello",
            "create token ci",
            "revoke token t1"
        ]
    );
    let pid = i32::try_from(std::process::id()).ok();
    for (act, actor) in acts.iter() {
        let Actor::Process { pid: seen, .. } = actor else {
            panic!("{act}: {actor:?}")
        };
        assert_eq!(*seen, pid, "the kernel names this process");
    }
}

#[tokio::test]
async fn refusals_are_problems_with_code_and_request_id() {
    let socket = Socket::new();
    let long_name = format!(r#"{{"name":"{}","user":"a"}}"#, "n".repeat(200));
    for (line, body, status, code, detail) in [
        ("GET /nothing", "", 404, "gateway.not_found", "not found"),
        (
            "GET /plugins/missing",
            "",
            404,
            "control.unknown_plugin",
            "plugin \"missing\" not found",
        ),
        (
            "GET /plugins/missing/logs",
            "",
            404,
            "control.unknown_plugin",
            "",
        ),
        (
            "GET /plugins/No",
            "",
            400,
            "control.invalid",
            "plugin name has 'N' at byte 0",
        ),
        (
            "GET /plugins/hello/logs?limit=0",
            "",
            400,
            "control.invalid",
            "limit is 0",
        ),
        (
            "GET /plugins/hello/logs?limit=1001",
            "",
            400,
            "control.invalid",
            "limit is 1001",
        ),
        (
            "POST /plugins/missing/enable",
            "",
            404,
            "control.unknown_plugin",
            "",
        ),
        (
            "POST /plugins/off/reload",
            "",
            409,
            "control.disabled",
            "enable it first",
        ),
        (
            "GET /events?limit=0",
            "",
            400,
            "control.invalid",
            "limit is 0",
        ),
        ("GET /events?since=1", "", 400, "control.invalid", "since"),
        (
            "GET /events?follow=true&plugin=off",
            "",
            503,
            "control.followers",
            "64 follow",
        ),
        (
            "GET /plugins/missing/logs?follow=true",
            "",
            404,
            "control.unknown_plugin",
            "",
        ),
        (
            "GET /plugins/hello/logs?limit=x",
            "",
            400,
            "control.invalid",
            "",
        ),
        (
            "GET /plugins/hello/logs?levle=warn",
            "",
            400,
            "control.invalid",
            "levle",
        ),
        (
            "POST /plugins/hello/call/nope",
            "{}",
            500,
            "call.plugin",
            "unknown function: nope",
        ),
        (
            "POST /plugins/hello/call/late",
            "{}",
            504,
            "call.deadline",
            "",
        ),
        (
            "POST /plugins/off/call/echo",
            "{}",
            403,
            "call.disabled",
            "plugin is disabled",
        ),
        (
            "POST /plugins/hello/call/echo",
            "{",
            400,
            "gateway.arguments",
            "request body is not JSON",
        ),
        (
            "POST /tokens",
            "{}",
            400,
            "control.invalid",
            "missing field",
        ),
        (
            "POST /tokens",
            r#"{"name":"a","user":"b","admin":1}"#,
            400,
            "control.invalid",
            "admin",
        ),
        (
            "POST /tokens",
            r#"{"name":"","user":"b"}"#,
            400,
            "control.invalid",
            "name has 0",
        ),
        (
            "POST /tokens",
            &long_name,
            400,
            "control.invalid",
            "name has 200",
        ),
        (
            "DELETE /tokens/t9",
            "",
            404,
            "control.unknown_token",
            "token \"t9\" not found",
        ),
        (
            "GET /posture/broken",
            "",
            500,
            "control.failed",
            "ask the launcher failed; the log says why",
        ),
        (
            "POST /tokens",
            &"x".repeat(1001),
            413,
            "gateway.body_too_large",
            "",
        ),
    ] {
        let (method, path) = line.split_once(' ').unwrap();
        let reply = socket.ask(&format!("{method} {API}{path}"), body).await;
        let problem = problem(&reply);
        assert_eq!(
            (reply.status, problem.code.as_str()),
            (status, code),
            "{line}"
        );
        assert!(
            problem.detail.contains(detail),
            "{line}: {}",
            problem.detail
        );
        assert!(!problem.detail.contains("secret"));
    }
    let reply = socket.ask(&format!("PUT {API}/tokens"), "").await;
    assert_eq!(problem(&reply).code, "gateway.method_not_allowed");
    assert_eq!(reply.header("allow"), Some("GET,HEAD,POST"));
    let reply = socket.ask("GET /items/1", "").await;
    assert_eq!(problem(&reply).status, 404);
}

#[tokio::test]
async fn what_is_followed_comes_line_by_line_until_it_ends() {
    let socket = Socket::new();
    let mut client = socket.client().await;
    let get = |path: &str| format!("GET {API}{path} HTTP/1.1\r\nhost: x\r\n\r\n");
    client.send(get("/events?follow=true&limit=0")).await;
    let read = client.until("\r\n0\r\n\r\n").await;
    assert!(read.starts_with("HTTP/1.1 200 "), "{read}");
    assert!(
        read.contains("content-type: application/x-ndjson\r\n"),
        "{read}"
    );
    assert!(read.contains("cache-control: no-store\r\n"), "{read}");
    let lines: Vec<FollowLine> = read
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        matches!(
            lines.as_slice(),
            [
                FollowLine::Missed(2),
                FollowLine::Event(_),
                FollowLine::End(_)
            ]
        ),
        "{lines:?}"
    );
    let mut client = socket.client().await;
    client
        .send(get("/plugins/hello/logs?follow=true&limit=7"))
        .await;
    client.until("limit 7").await;
}

#[tokio::test]
async fn socket_drains_too() {
    let socket = Socket::new();
    let mut client = socket.client().await;
    assert_eq!(
        client
            .ask(&format!("GET {API}/status"), &[], "")
            .await
            .status,
        200
    );
    socket.stop.cancel();
    client.closed().await;
    assert_eq!(socket.serving.await.unwrap(), Drained { abandoned: 0 });
}

#[tokio::test]
async fn on_the_gateway_it_is_for_administrators_alone() {
    let world = World::new().await;
    for path in ["/status", "/plugins/hello/logs", "/tokens", "/nothing", ""] {
        let line = format!("GET {API}{path}");
        let reply = world.ask(&line, &[], "").await;
        assert_eq!(problem(&reply).code, "gateway.login_required", "{path}");
        assert_eq!(reply.status, 401);
        let reply = world.ask(&line, &[USER], "").await;
        assert_eq!(
            (reply.status, problem(&reply).code.as_str()),
            (403, "gateway.admin_required")
        );
    }
    let status: StatusView = read(&world.ask(&format!("GET {API}/status"), &[ADMIN], "").await);
    assert_eq!(status.version, "0.1.0");
    let reply = world.ask(&format!("GET {API}/nothing"), &[ADMIN], "").await;
    assert_eq!(problem(&reply).code, "gateway.not_found");
    let reply = world.ask("GET /api/pinfold/v2", &[ADMIN], "").await;
    assert_eq!(problem(&reply).code, "gateway.not_found");
    let body = r#"{"name":"ci","user":"ann"}"#;
    let reply = world
        .ask(&format!("POST {API}/tokens"), &[ADMIN], body)
        .await;
    assert_eq!(reply.status, 201);
    let acts = world.daemon.acts.lock().unwrap();
    let [(_, Actor::User(user))] = acts.as_slice() else {
        panic!("{acts:?}")
    };
    assert_eq!(user.id, "root");
}

#[tokio::test]
async fn what_another_sites_page_has_a_browser_ask_for_is_refused() {
    let world = World::new().await;
    let line = format!("POST {API}/tokens");
    let body = r#"{"name":"ci","user":"ann"}"#;
    for site in ["cross-site", "same-site"] {
        let site = format!("sec-fetch-site: {site}");
        let reply = world.ask(&line, &[ADMIN, site.as_str()], body).await;
        assert_eq!(
            (reply.status, problem(&reply).code.as_str()),
            (403, "gateway.cross_site")
        );
    }
    for path in ["disable", "call/secret"] {
        let line = format!("POST /api/v1/plugins/hello/{path}");
        let reply = world
            .ask(&line, &[ADMIN, "sec-fetch-site: cross-site"], "{}")
            .await;
        assert_eq!(reply.status, 403, "{line}");
    }
    assert!(world.daemon.acts.lock().unwrap().is_empty());
    // What plugins serve may be part of another site.
    let reply = world
        .ask("GET /items/1", &["sec-fetch-site: cross-site"], "")
        .await;
    assert_eq!(reply.status, 200);
    // A program's `fetch` says how it asks, and nothing of a site.
    let reply = world
        .ask(&line, &[ADMIN, "sec-fetch-mode: cors"], body)
        .await;
    assert_eq!(reply.status, 201);
}
