//! Every answer the gateway gives to a well-formed request, and what it writes down.

use pinfold_gateway::{Actor, ContentSecurity, Decision, RoutePattern};
use pinfold_policy::Generation;
use serde_json::json;

use crate::neighbours::{ADMIN, Event, USER, World, id};

#[tokio::test]
async fn plugin_gets_the_request_and_its_answer_comes_back() {
    let world = World::new().await;
    let reply = world
        .ask(
            "GET /items/a%20b%2Fc?x=1&x=%202",
            &[
                "accept-language: de-AT",
                "x-request-id: client-id-1",
                "cookie: a=b",
                USER,
            ],
            "",
        )
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.header("x-request-id"), Some("client-id-1"));
    assert_eq!(reply.header("server"), None);
    assert_eq!(
        reply.json(),
        json!({
            "method": "GET",
            "path": "/items/a b/c",
            "route": "/items/{id}",
            "parameters": [["id", "a b/c"]],
            "query": "x=1&x=%202",
            "headers": ["accept-language", "host", "x-request-id"],
            "body": "",
            "request_id": "client-id-1",
            "user": {"id": "ann", "login": "ann@x", "roles": ["user"]},
            "language": "de-AT",
            "depth": 0,
        })
    );
}

#[tokio::test]
async fn routes_are_found_by_method_and_exact_path() {
    let world = World::new().await;
    assert_eq!(
        world.get("/files/").await.json()["parameters"],
        json!([["path", ""]])
    );
    assert_eq!(
        world.get("/files/a/b").await.json()["parameters"],
        json!([["path", "a/b"]])
    );
    for path in [
        "/",
        "/items",
        "/items/",
        "/items/1/2",
        "/nothing",
        "/metrics",
        "/.well-known/x",
    ] {
        let reply = world.get(path).await;
        assert_eq!(
            (reply.status, reply.error().as_str()),
            (404, "not found"),
            "{path}"
        );
    }
    let reply = world.ask("PUT /items/1", &[], "").await;
    assert_eq!(
        (reply.status, reply.header("allow")),
        (405, Some("GET, DELETE, HEAD"))
    );
    assert_eq!(reply.error(), "method not allowed");
    let reply = world.ask("OPTIONS /mine", &[], "").await;
    assert_eq!(
        (reply.status, reply.header("allow")),
        (405, Some("GET, POST, HEAD"))
    );
}

#[tokio::test]
async fn head_is_answered_as_get_without_a_body() {
    let world = World::new().await;
    let mut client = world.client().await;
    let head = client.ask("HEAD /items/1", &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let length: usize = head.header("content-length").unwrap().parse().unwrap();
    assert!(length > 0);
    let get = client.ask("GET /items/1", &[], "").await;
    assert_eq!(get.json()["method"], "GET");
}

#[tokio::test]
async fn each_error_of_a_call_has_its_status_and_hides_what_is_the_operators() {
    let world = World::new().await;
    for (behaviour, status, text) in [
        ("plugin", 500, "no such item"),
        ("bad-request", 400, "too many parameters"),
        ("deadline", 504, "plugin did not answer before the deadline"),
        ("gone", 502, "plugin ended before it answered"),
        ("not-ready", 503, "plugin takes no calls: it is starting"),
        ("disabled", 403, r#"plugin "hello" is disabled"#),
        (
            "overloaded",
            503,
            "plugin has as many calls under way as it may have",
        ),
        (
            "too-large-arguments",
            413,
            "arguments has 9 bytes, the limit is 5",
        ),
        ("too-large-reply", 502, "reply has 9 bytes, the limit is 5"),
        ("unsupported", 501, "plugin does not support http"),
        ("protocol", 502, "plugin gave an unusable answer"),
        ("host", 500, "call could not be made"),
        ("status-101", 502, "plugin gave an unusable answer"),
        ("status-999", 502, "plugin gave an unusable answer"),
    ] {
        let reply = world.get(&format!("/do/{behaviour}")).await;
        assert_eq!(
            (reply.status, reply.error().as_str()),
            (status, text),
            "{behaviour}"
        );
        let may_retry = status == 503;
        assert_eq!(
            reply.header("retry-after").is_some(),
            may_retry,
            "{behaviour}"
        );
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn only_safe_headers_of_a_plugin_pass() {
    let world = World::new().await;
    let mut client = world.client().await;
    let reply = client.ask("GET /do/headers", &[], "").await;
    let mut names: Vec<_> = reply
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "content-length",
            "content-security-policy",
            "content-type",
            "date",
            "etag",
            "x-content-type-options",
            "x-request-id"
        ]
    );
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_ne!(reply.header("x-request-id"), Some("forged-by-plugin"));
    assert_eq!(reply.header("content-security-policy"), Some("sandbox"));
    assert_eq!(reply.body, "<p>hi");
    let reply = client.ask("GET /do/redirect", &[], "").await;
    assert_eq!(
        (reply.status, reply.header("location")),
        (303, Some("/elsewhere"))
    );
    let reply = client.ask("GET /do/nothing", &[], "").await;
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
    assert_eq!(client.ask("GET /items/1", &[], "").await.status, 200);
}

#[tokio::test]
async fn callers_are_told_apart() {
    let world = World::new().await;
    for (path, token, status) in [
        ("/items/1", "", 200),
        ("/mine", "", 401),
        ("/mine", USER, 200),
        ("/mine", ADMIN, 200),
        ("/mine", "authorization: Basic YTpi", 401),
        ("/mine", "authorization: Bearer pf_nobody", 401),
        ("/items/1", "authorization: Bearer pf_nobody", 401),
        ("/items/1", "authorization: Bearer pf_broken", 503),
        ("/admin", "", 401),
        ("/admin", USER, 403),
        ("/admin", ADMIN, 200),
    ] {
        let headers: &[&str] = if token.is_empty() { &[] } else { &[token] };
        let reply = world.ask(&format!("GET {path}"), headers, "").await;
        assert_eq!(reply.status, status, "{path} {token}: {reply:?}");
        let challenge = reply.header("www-authenticate").unwrap_or_default();
        assert_eq!(
            challenge.starts_with("Bearer realm="),
            status == 401,
            "{path} {token}"
        );
        assert!(!reply.body.contains("secret"), "{reply:?}");
    }
}

#[tokio::test]
async fn refused_request_never_reaches_the_plugin() {
    let mut world = World::new().await;
    assert_eq!(world.get("/mine").await.status, 401);
    assert_eq!(world.ask("GET /admin", &[USER], "").await.status, 403);
    assert_eq!(world.get("/items/1").await.status, 200);
    assert_eq!(world.events.try_recv(), Ok(Event::Called));
    assert!(world.events.try_recv().is_err());
}

#[tokio::test]
async fn decisions_are_in_the_audit_with_pattern_and_actor() {
    let world = World::new().await;
    world.ask("GET /items/private-name", &[USER], "").await;
    world.ask("GET /admin", &[USER], "").await;
    world.get("/mine").await;
    world
        .ask("GET /items/1", &["authorization: Bearer pf_nobody"], "")
        .await;
    world.get("/nothing").await;
    world.get("/healthz").await;
    let records = world.audit.0.lock().unwrap();
    let seen: Vec<_> = records
        .iter()
        .map(|record| {
            let user = match &record.actor {
                Actor::User(user) => user.id.as_str(),
                _ => "-",
            };
            (
                user,
                record.route.as_ref().map(RoutePattern::as_str),
                record.decision,
            )
        })
        .collect();
    let deny = |code| Decision::Deny { code };
    assert_eq!(
        seen,
        [
            ("ann", Some("/items/{id}"), Decision::Allow),
            ("ann", Some("/admin"), deny("gateway.admin_required")),
            ("-", Some("/mine"), deny("gateway.login_required")),
            ("-", None, deny("gateway.token_refused")),
        ]
    );
    assert_eq!(records[0].plugin, Some((id("hello"), Generation(7))));
    assert_eq!(records[0].method, "GET");
    assert_eq!(records[0].request_id.len(), 36);
}

#[tokio::test]
async fn health_and_readiness_follow_the_daemon() {
    use pinfold_gateway::admin::dto::DaemonState;
    let world = World::new().await;
    assert_eq!(world.get("/healthz").await.body, r#"{"status":"alive"}"#);
    assert_eq!(world.get("/readyz").await.body, r#"{"status":"ready"}"#);
    *world.daemon.state.lock().unwrap() = DaemonState::Starting;
    assert_eq!(world.get("/readyz").await.status, 503);
    assert_eq!(world.get("/healthz").await.status, 200);
    assert_eq!(world.ask("POST /healthz", &[], "").await.status, 405);
    assert_eq!(world.get("/healthz/x").await.status, 404);
}

#[tokio::test]
async fn swapped_table_is_served_from_the_next_request_on() {
    let world = World::new().await;
    assert_eq!(world.get("/items/1").await.status, 200);
    world
        .table
        .store(pinfold_gateway::Table::build(vec![]).0.into());
    assert_eq!(world.get("/items/1").await.status, 404);
}

#[tokio::test]
async fn a_plugins_answers_are_held_to_what_the_operator_says() {
    let of = async |all: &str, hello: Option<&str>| {
        let mut security = ContentSecurity::new(all).unwrap();
        if let Some(text) = hello {
            security.set(id("hello"), text).unwrap();
        }
        let world = World::with(|config| config.content_security = security, |_| {}).await;
        let reply = world.get("/do/headers").await;
        let own = world.get("/healthz").await;
        assert_eq!(own.header("content-security-policy"), None);
        reply.header("content-security-policy").map(str::to_owned)
    };
    assert_eq!(of("", None).await, None);
    assert_eq!(of("sandbox", Some("")).await, None);
    let scripts = "sandbox allow-scripts";
    assert_eq!(of("sandbox", Some(scripts)).await.as_deref(), Some(scripts));
}
