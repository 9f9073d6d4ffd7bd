//! What becomes of a plugin's reply, and of a request that there is no good one to.

use std::io::{Read, Write};

use pinfold_tests::deadline;
use serde_json::{Value, json};

use super::setup::Setup;

const BASE: &str = "/api/plugins/g4";

#[test]
fn a_reply_becomes_the_response_that_it_asks_for() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .policy("g4", "")
        .start();
    let path = format!("{BASE}/reply");
    let reply = |reply: &Value| {
        daemon
            .http()
            .post(&path)
            .json(&json!({ "reply": reply }))
            .send()
    };
    let json_type = "application/json";
    for (given, status, content_type, location, body) in [
        (
            json!({"a": [1]}),
            200,
            Some(json_type),
            None,
            r#"{"a":[1]}"#,
        ),
        (json!([1, 2]), 200, Some(json_type), None, "[1,2]"),
        (json!(null), 200, Some(json_type), None, "null"),
        (
            json!({"error": "gone", "status": 410}),
            410,
            Some(json_type),
            None,
            r#"{"error":"gone","status":410}"#,
        ),
        (
            json!({"error": "odd", "status": 200}),
            500,
            Some(json_type),
            None,
            r#"{"error":"odd","status":200}"#,
        ),
        (json!({"redirect": "/there"}), 303, None, Some("/there"), ""),
        (
            json!({"redirect": "/x", "status": 307}),
            307,
            None,
            Some("/x"),
            "",
        ),
        (
            json!({"_binary": true, "content_type": "image/png", "data": "iVBORw=="}),
            200,
            Some("image/png"),
            None,
            "\u{fffd}PNG",
        ),
        (
            json!({"html": "<p>hi</p>"}),
            200,
            Some("text/html; charset=utf-8"),
            None,
            "<p>hi</p>",
        ),
    ] {
        let answer = reply(&given);
        assert_eq!(
            (
                answer.status,
                answer.header("location"),
                answer.text().as_str()
            ),
            (status, location, body),
            "{given}"
        );
        if let Some(content_type) = content_type {
            assert_eq!(answer.header("content-type"), Some(content_type), "{given}");
        }
    }
    for unusable in [
        json!({"redirect": "/a\r\nset-cookie: a=b"}),
        json!({"_binary": true, "data": "not base64"}),
    ] {
        let answer = reply(&unusable);
        assert_eq!(
            answer.error(),
            (502, "plugin gave an unusable answer".into())
        );
        assert!(answer.header("set-cookie").is_none());
    }
    let own = daemon.http().get(&format!("{BASE}/error")).send();
    assert_eq!(own.error(), (500, "as asked".into()));
    let big = json!({"text": "x".repeat(1 << 20)});
    assert_eq!(reply(&big).ok(), big);
}

#[test]
fn what_cannot_be_served_is_answered_with_its_status() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .file(
            "etc/pinfold.toml",
            &format!(
                "[gateway]\nbody-limit = '64KiB'\nrequest-timeout = '{}'\nplugin-list = 'object'\n",
                deadline(2)
            ),
        )
        .plugin("g4", "goatflow-g4")
        .policy("g4", &format!("[timeouts]\ncall = '{}'\n", deadline(1)))
        .start();
    let admin = daemon.token("root", &["admin"]);
    let http = daemon.http();
    let status = |method: &str, path: &str| http.request(method, path).send().status;
    for path in [
        "/",
        "/nothing",
        "/api/plugins/g4",
        "/api/plugins/other/public",
        "/api/v1/plugins/g4",
    ] {
        assert_eq!(status("GET", path), 404, "{path}");
    }
    for path in [
        "/api/plugins/g4/a/../public",
        "/api/plugins/g4/%2e%2e/g4/public",
        "/%00",
    ] {
        assert!([400, 404].contains(&status("GET", path)), "{path}");
    }
    let answer = http.request("PUT", &format!("{BASE}/public")).send();
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("GET, HEAD"))
    );
    let answer = http.request("HEAD", &format!("{BASE}/public")).try_send();
    // An answer to HEAD has a length and no body, which this client takes for a cut one.
    assert!(answer.is_err());

    let large = json!({"text": "x".repeat(100 << 10)});
    let post = || http.post(&format!("{BASE}/reply"));
    assert_eq!(post().json(&large).send().status, 413);
    assert_eq!(post().json(&large).chunked().send().status, 413);
    let fits = json!({"reply": "x".repeat(60 << 10)});
    assert_eq!(post().json(&fits).chunked().send().status, 200);

    let call = |function: &str| http.post(&format!("/api/v1/plugins/g4/call/{function}"));
    let hang = call("hang").token(&admin).send();
    assert_eq!(hang.status, 504, "{}", hang.text());
    assert_eq!(
        call("echo")
            .token(&admin)
            .body("text/plain", "{")
            .send()
            .status,
        400
    );
    let own = call("error")
        .token(&admin)
        .json(&json!({"text": "no room"}))
        .send();
    assert_eq!(own.error(), (400, "no room".into()));
    let unknown = http
        .post("/api/v1/plugins/other/call/echo")
        .token(&admin)
        .send();
    assert_eq!(unknown.status, 404);

    // A client that does not send what it promised is not waited for.
    let mut stream = http.connect().unwrap();
    let head = format!("POST {BASE}/reply HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nab");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 408"),
        "{}",
        String::from_utf8_lossy(&answer)
    );

    let list = http.get("/api/v1/plugins").token(&admin).send().ok();
    assert_eq!(list["plugins"][0]["name"], "g4");
}

#[test]
fn the_reference_plugin_answers_as_the_readme_says() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().hello().start();
    let admin = daemon.token("developer", &["admin"]);
    let http = daemon.http();
    let greeting = http.get("/api/plugins/hello/greeting?name=Ada").send().ok();
    assert_eq!(greeting, json!({"greeting": "Hello, Ada!"}));
    let items = http
        .get("/api/plugins/hello/items")
        .token(&admin)
        .send()
        .ok();
    let first = json!({"id": 1, "name": "anvil", "price": 49.5});
    assert_eq!(items["items"][0], first, "{items}");
    for count in 1..3 {
        let counter = http.post("/api/plugins/hello/counter").token(&admin).send();
        assert_eq!(counter.ok(), json!({ "count": count }));
    }
    let list = http.get("/api/v1/plugins").token(&admin).send().ok();
    assert_eq!(list[0]["Name"], "hello");
    let call = http.post("/api/v1/plugins/hello/call/echo").token(&admin);
    // As curl sends it.
    let form = "application/x-www-form-urlencoded";
    assert_eq!(
        call.body(form, r#"{"say":"hi"}"#).send().ok(),
        json!({"say": "hi"})
    );
    // What it asked for in its manifest is what it has.
    assert_eq!(daemon.ready("hello")["differences"], json!([]));
}
