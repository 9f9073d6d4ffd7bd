//! GoatFlow's management paths.

use pinfold_gateway::ListForm;
use serde_json::json;

use crate::neighbours::{ADMIN, USER, World};

#[tokio::test]
async fn list_is_an_array_with_both_spellings() {
    let world = World::new().await;
    let reply = world.ask("GET /api/v1/plugins", &[USER], "").await;
    assert_eq!(reply.status, 200);
    let list = reply.json();
    assert_eq!(
        list[0],
        json!({
            "Name": "hello", "Version": "1.2.0", "Description": "Says hello", "Author": "Ann",
            "License": "MIT",
            "name": "hello", "version": "1.2.0", "description": "Says hello", "author": "Ann",
            "license": "MIT",
            "routes": [{"method": "GET", "path": "/hello", "handler": "echo", "middleware": []}],
            "widgets": [], "jobs": [], "menuItems": [], "enabled": true, "loaded": true,
        })
    );
    assert_eq!(
        (&list[1]["enabled"], &list[1]["loaded"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(list.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn list_is_an_object_by_option() {
    let world = World::with(|config| config.list_form = ListForm::Object, |_| {}).await;
    let reply = world.ask("GET /api/v1/plugins", &[USER], "").await;
    assert_eq!(reply.json()["plugins"][0]["name"], "hello");
}

#[tokio::test]
async fn list_is_for_users_and_calls_are_for_administrators() {
    let world = World::new().await;
    let call = "POST /api/v1/plugins/hello/call/echo";
    assert_eq!(world.get("/api/v1/plugins").await.status, 401);
    assert_eq!(world.ask(call, &[], "{}").await.status, 401);
    let reply = world.ask(call, &[USER], "{}").await;
    assert_eq!(
        (reply.status, reply.error().as_str()),
        (403, "admin access required")
    );
    assert!(world.daemon.acts.lock().unwrap().is_empty());
    let reply = world
        .ask(call, &[ADMIN, "x-request-id: my-request"], r#"{"a": [1]}"#)
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(
        reply.body,
        r#"{"arguments":{"a": [1]},"request_id":"my-request"}"#
    );
    let reply = world.ask(call, &[ADMIN], "").await;
    assert_eq!(reply.json()["arguments"], json!({}));
}

#[tokio::test]
async fn failed_calls_have_the_contracts_texts() {
    let world = World::new().await;
    let long = format!("hello/call/{}", "f".repeat(300));
    for (path, body, status, text) in [
        ("hello/call/nope", "{}", 400, "unknown function: nope"),
        (
            "hello/call/late",
            "{}",
            504,
            r#"plugin "hello" call "late": context deadline exceeded"#,
        ),
        ("off/call/echo", "{}", 403, r#"plugin "off" is disabled"#),
        (
            "missing/call/echo",
            "{}",
            404,
            r#"plugin "missing" not found"#,
        ),
        ("..x/call/echo", "{}", 404, r#"plugin "..x" not found"#),
        (
            "hello/call/echo",
            "{oops",
            400,
            "request body is not JSON: key must be a string at line 1 column 2",
        ),
        (
            &long,
            "{}",
            400,
            "name of the function has more than 256 bytes",
        ),
    ] {
        let reply = world
            .ask(&format!("POST /api/v1/plugins/{path}"), &[ADMIN], body)
            .await;
        assert_eq!(
            (reply.status, reply.error().as_str()),
            (status, text),
            "{path}"
        );
    }
}

#[tokio::test]
async fn other_management_paths_are_not_there() {
    let world = World::new().await;
    for line in [
        "POST /api/v1/plugins/hello/enable",
        "GET /api/v1/plugins/logs",
        "GET /api/v1/plugins/",
    ] {
        assert_eq!(world.ask(line, &[ADMIN], "").await.status, 404, "{line}");
    }
    let reply = world.ask("DELETE /api/v1/plugins", &[ADMIN], "").await;
    assert_eq!(
        (reply.status, reply.header("allow")),
        (405, Some("GET, HEAD"))
    );
}
