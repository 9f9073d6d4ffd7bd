//! Grants that are limited to paths: what is compared is what is sent, and nothing else is reached, by no
//! way of writing it.

use std::sync::atomic::Ordering;

use pinfold_hostapi::{Caller, Decision};

use super::proxy::Proxy;
use super::server::{Names, Server, redirect, text};
use super::{config, get, granted};
use crate::world::{World, caller};

/// A plugin that may reach these paths of `host`, on any port.
fn limited(host: &str, paths: &str) -> Caller {
    caller(
        "p",
        &format!(
            r#"{{ "http": [{{ "hosts": ["{host}:*"], "paths": [{paths}], "addresses": ["127.0.0.0/8"] }}] }}"#
        ),
    )
}

#[tokio::test]
async fn paths_that_are_not_granted_or_are_unclear_are_refused_and_named() {
    let server = Server::start("127.0.0.2", |head| text(head.uri.path().to_owned())).await;
    let names = Names::new(&["api.test=127.0.0.2"]);
    let world = World::with_http(&config(), names.clone());
    let plugin = limited("api.test", r#""/v1/**", "/v2/*/notes", "/health""#);
    let place = format!("api.test:{}", server.port());
    let at = |path: &str| format!("http://{place}{path}");
    // As it is asked for, and as it is sent.
    for (path, sent) in [
        ("/health", "/health"),
        ("/health?/../admin", "/health"),
        ("/v1/", "/v1/"),
        ("/v1/a/b%20c", "/v1/a/b%20c"),
        ("/v1/\u{e4}", "/v1/%C3%A4"),
        ("/v2/7/notes", "/v2/7/notes"),
        // What is compared is what is sent.
        ("/admin/../v1/a", "/v1/a"),
        ("/admin/%2e%2E/v1/a", "/v1/a"),
        ("\\v1\\a", "/v1/a"),
    ] {
        let answer = get(&world, &plugin, &at(path)).await.unwrap();
        assert_eq!(answer.body, sent, "{path}");
        assert_eq!(world.last_record().subject, format!("GET http://{place}"));
    }
    let reached = server.connections.load(Ordering::SeqCst);
    let looked_up = names.lookups.load(Ordering::SeqCst);
    for (path, named, part) in [
        ("", "/", None),
        ("/", "/", None),
        ("/v1", "/v1", None),
        ("/V1/a", "/V1/a", None),
        ("/health/", "/health/", None),
        ("/v2/notes", "/v2/notes", None),
        ("/v2/7/8/notes", "/v2/7/8/notes", None),
        ("/v1/../admin", "/admin", None),
        ("/v1/%2e%2e/admin", "/admin", None),
        ("/v1/.%2E\\admin", "/admin", None),
        ("/?/v1/a", "/", None),
        ("/#/v1/a", "/", None),
        ("/v1/..%2fadmin", "/v1/..%2fadmin", Some("%2f")),
        ("/v1/..%5Cadmin", "/v1/..%5Cadmin", Some("%5C")),
        ("/v1/..;/admin", "/v1/..;/admin", Some(";")),
        ("/v1//admin", "/v1//admin", Some("//")),
        ("/v1/%252e%252e/admin", "/v1/%252e%252e/admin", Some("%25")),
        ("/v1/a%00", "/v1/a%00", Some("%00")),
        ("/v1/a%EF%BC%9F", "/v1/a%EF%BC%9F", Some("a%EF%BC%9F")),
        ("/v1/a%C2%A5b", "/v1/a%C2%A5b", Some("a%C2%A5b")),
        (
            "/v1/%c0%ae%c0%ae/admin",
            "/v1/%c0%ae%c0%ae/admin",
            Some("%c0%ae%c0%ae"),
        ),
        (
            "/v2/..%2f..%2fx/notes",
            "/v2/..%2f..%2fx/notes",
            Some("%2f"),
        ),
    ] {
        let refused = get(&world, &plugin, &at(path)).await.unwrap_err();
        assert_eq!(refused.code(), "hostapi.refused", "{path}");
        let said = refused.to_string();
        let why = match part {
            None => "(allowed: [/v1/** /v2/*/notes /health])".to_owned(),
            Some(part) => format!("(it has {part:?}: "),
        };
        let expected = format!("HTTP access to the path {named} at {place:?} not permitted {why}");
        assert!(said.starts_with(&expected), "{path}: {said}");
        let record = world.last_record();
        assert_eq!(record.decision, Decision::Deny);
        let missing = format!("http:GET:{place}{named}");
        assert_eq!(record.permission.as_deref(), Some(&*missing));
    }
    let long = get(&world, &plugin, &at(&format!("/{}", "a".repeat(7_000)))).await;
    assert!(long.unwrap_err().to_string().len() < 400);
    assert!(world.last_record().permission.unwrap().len() < 300);
    assert_eq!(server.connections.load(Ordering::SeqCst), reached);
    assert_eq!(names.lookups.load(Ordering::SeqCst), looked_up);
    // Without paths in the grant a path is the plugin's and the server's matter.
    let open = granted(r#""api.test:*""#, r#""127.0.0.2""#);
    let answer = get(&world, &open, &at("/v1/..%2fadmin;x//")).await.unwrap();
    assert_eq!(answer.body, "/v1/..%2fadmin;x//");
}

#[tokio::test]
async fn a_redirect_leads_to_no_path_that_is_not_granted() {
    let server = Server::start("127.0.0.2", |head| match head.uri.path() {
        "/v1/on" => redirect(307, "/v1/there"),
        "/v1/up" => redirect(307, "../admin"),
        "/v1/hidden" => redirect(302, "/v1/..%2fadmin"),
        "/v1/elsewhere" => redirect(302, "//b.test/v1/there"),
        path => text(path.to_owned()),
    })
    .await;
    let world = World::with_http(&config(), Names::new(&["a.test=127.0.0.2"]));
    let plugin = limited("a.test", r#""/v1/*""#);
    let place = format!("a.test:{}", server.port());
    let at = |path: &str| format!("http://{place}/v1/{path}");
    let answer = get(&world, &plugin, &at("on")).await.unwrap();
    assert_eq!(answer.body, "/v1/there");
    for (path, missing) in [
        ("up", format!("http:GET:{place}/admin")),
        ("hidden", format!("http:GET:{place}/v1/..%2fadmin")),
        ("elsewhere", "http:GET:b.test:80".to_owned()),
    ] {
        let refused = get(&world, &plugin, &at(path)).await.unwrap_err();
        assert_eq!(refused.code(), "hostapi.refused", "{path}");
        let record = world.last_record();
        assert_eq!(record.permission.as_deref(), Some(&*missing), "{path}");
        let seen = server.seen.lock().unwrap().pop().unwrap();
        assert_eq!(seen.0.uri.path(), format!("/v1/{path}"));
    }
}

#[tokio::test]
async fn a_path_that_is_not_granted_is_refused_with_what_would_permit_it() {
    let server = Server::start("127.0.0.2", |head| text(head.uri.path().to_owned())).await;
    let world = World::with_http(&config(), Names::new(&["api.test=127.0.0.2"]));
    let proxy = Proxy::start(&world, limited("api.test", r#""/v1/*""#)).await;
    let place = format!("api.test:{}", server.port());
    let at = |path: &str| format!("http://{place}{path}");
    for (path, sent) in [("/v1/a?x", "/v1/a"), ("/x/../v1/a", "/v1/a")] {
        let answer = proxy.ask("GET", &at(path), "").await;
        assert_eq!((answer.status(), answer.body()), (200, sent), "{path}");
    }
    let reached = server.connections.load(Ordering::SeqCst);
    let without = format!("permissions.http: a grant of {place} without paths");
    for (path, named, grant) in [
        (
            "/v2/a",
            "/v2/a",
            "paths = [\"/v2/a\"] in the grant of api.test",
        ),
        ("/v1/../admin", "/admin", "paths = [\"/admin\"]"),
        ("/**", "/**", "paths, with this one,"),
        ("/v1/..%2fadmin", "/v1/..%2fadmin", &without),
        ("/v1/..;", "/v1/..;", &without),
        ("/v1//", "/v1//", &without),
    ] {
        let refused = proxy.ask("GET", &at(path), "").await;
        assert_eq!(refused.status(), 403, "{refused:?}");
        let problem = refused.problem();
        assert_eq!(problem["code"], "hostapi.refused");
        assert_eq!(problem["permission"], format!("http:GET:{place}{named}"));
        let said = problem["grant"].as_str().unwrap();
        assert!(said.contains(grant), "{said}");
        let record = world.last_record();
        let missing = format!("http:GET:{place}{named}");
        assert_eq!(record.permission.as_deref(), Some(&*missing));
    }
    let long = format!("/{}", "a".repeat(4_000));
    let problem = proxy.ask("GET", &at(&long), "").await.problem();
    let permission = problem["permission"].as_str().unwrap();
    assert!(
        permission.len() < 300 && permission.ends_with('…'),
        "{problem}"
    );
    // What a Host line or another one says of the path does not count.
    let lines = "X-Original-URL: /v1/a\r\n";
    assert_eq!(proxy.ask("GET", &at("/admin"), lines).await.status(), 403);
    assert_eq!(server.connections.load(Ordering::SeqCst), reached);
}
