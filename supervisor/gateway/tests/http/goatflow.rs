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
async fn plugins_are_switched_on_and_off_by_administrators() {
    let world = World::new().await;
    for (act, word) in [("enable", "enabled"), ("disable", "disabled")] {
        let line = format!("POST /api/v1/plugins/hello/{act}");
        assert_eq!(world.ask(&line, &[], "").await.status, 401);
        let refused = world.ask(&line, &[USER], "").await;
        assert_eq!(
            (refused.status, refused.error().as_str()),
            (403, "admin access required")
        );
        let reply = world.ask(&line, &[ADMIN], "").await;
        assert_eq!(
            (reply.status, reply.json()),
            (200, json!({ "status": word }))
        );
        for name in ["missing", "..x"] {
            let line = format!("POST /api/v1/plugins/{name}/{act}");
            let reply = world.ask(&line, &[ADMIN], "").await;
            let text = format!("plugin {name:?} not found");
            assert_eq!((reply.status, reply.error()), (404, text));
        }
    }
    let acts = world.daemon.acts.lock().unwrap();
    let acts: Vec<_> = acts.iter().map(|(act, _)| act.as_str()).collect();
    assert_eq!(
        acts,
        [
            "enable hello",
            "enable missing",
            "disable hello",
            "disable missing"
        ]
    );
}

#[tokio::test]
async fn logs_have_the_contracts_keys_and_exact_levels() {
    let world = World::new().await;
    let logs = "GET /api/v1/plugins/logs";
    assert_eq!(world.ask(logs, &[], "").await.status, 401);
    assert_eq!(world.ask(logs, &[USER], "").await.status, 403);
    let ask = async |query: &str| {
        let reply = world.ask(&format!("{logs}?{query}"), &[ADMIN], "").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    };
    let entry = json!({
        "timestamp": "1970-01-01T00:00:00Z", "plugin": "hello", "level": "warn",
        "message": "Warn", "fields": {},
    });
    assert_eq!(
        ask("plugin=hello&level=warn").await,
        json!({ "logs": [entry], "count": 1, "total": 10 })
    );
    let both = ask("level=debug").await;
    assert_eq!(
        both["count"], 4,
        "debug and what is below it, of both plugins"
    );
    assert!(
        both["logs"]
            .as_array()
            .unwrap()
            .iter()
            .all(|e| e["level"] == "debug")
    );
    assert_eq!(ask("limit=3").await["count"], 3);
    for nothing in ["plugin=No%20name", "level=Warn", "level=loud"] {
        assert_eq!(ask(nothing).await["logs"], json!([]), "{nothing}");
    }
    let reply = world.ask(&format!("{logs}?limit=0"), &[ADMIN], "").await;
    assert_eq!(
        (reply.status, reply.error().as_str()),
        (400, "limit is not a number from 1")
    );
}

#[tokio::test]
async fn other_management_paths_are_not_there() {
    let world = World::new().await;
    for line in [
        "POST /api/v1/plugins/hello/reload",
        "GET /api/v1/plugins/widgets",
        "GET /api/v1/plugins/hello/widgets/w",
        "POST /api/v1/plugins/upload",
        "GET /api/v1/plugins/health",
        "DELETE /api/v1/plugins/hello",
        "GET /api/v1/plugins/",
    ] {
        assert_eq!(world.ask(line, &[ADMIN], "").await.status, 404, "{line}");
    }
    let reply = world.ask("DELETE /api/v1/plugins/logs", &[ADMIN], "").await;
    assert_eq!(reply.status, 405);
    let reply = world.ask("DELETE /api/v1/plugins", &[ADMIN], "").await;
    assert_eq!(
        (reply.status, reply.header("allow")),
        (405, Some("GET, HEAD"))
    );
}
