//! Plugins' routes over HTTP: who may call them, what they are given, and what becomes of replies.

use serde_json::{Value, json};

use super::daemon::{Daemon, Setup};
use super::http::{Answer, Request};

fn g4() -> Daemon {
    Setup::new()
        .plugin("g4", "goatflow-g4")
        .policy("g4", "")
        .start()
}

const BASE: &str = "/api/plugins/g4";

/// What was passed to the handler, which gives it back.
fn arguments(request: Request<'_>) -> Value {
    request.send().ok()
}

#[test]
fn middleware_decides_who_may_call() {
    if !super::can_run() {
        return;
    }
    let daemon = g4();
    let user = daemon.token("ann", &["agent"]);
    let admin = daemon.token("root", &["admin"]);
    let item = format!("{BASE}/items/7");
    let ask = |method: &str, token: Option<&str>| -> Answer {
        let request = daemon.http().request(method, &item);
        match token {
            Some(token) => request.token(token).send(),
            None => request.send(),
        }
    };
    let forged = format!("{}x", &user[..user.len() - 1]);
    for (method, token, status) in [
        ("GET", None, 401),
        ("GET", Some("pf_nobodys"), 401),
        ("GET", Some(forged.as_str()), 401),
        ("GET", Some(user.as_str()), 200),
        ("GET", Some(admin.as_str()), 200),
        ("DELETE", None, 401),
        ("DELETE", Some(user.as_str()), 403),
        ("DELETE", Some(admin.as_str()), 200),
    ] {
        let answer = ask(method, token);
        assert_eq!(
            answer.status,
            status,
            "{method} {token:?}: {}",
            answer.text()
        );
        if status != 200 {
            assert!(!answer.error().1.is_empty());
        }
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert!(answer.header("x-request-id").is_some());
    }
    // A bad token is refused on a public route too, and none is fine there.
    let public = format!("{BASE}/public");
    let bad = daemon.http().get(&public).token("pf_nobodys").send();
    assert_eq!(bad.status, 401);
    assert_eq!(daemon.http().get(&public).send().status, 200);

    let seen = ask("GET", Some(&user)).json();
    assert_eq!(
        seen,
        json!({
            "id": "7", "_method": "GET", "_path": item, "_user_id": "ann", "_user_login": "ann",
            "_user_role": "User", "_is_admin": false,
        })
    );
    let seen = ask("DELETE", Some(&admin)).json();
    assert_eq!(
        (&seen["_user_role"], &seen["_is_admin"]),
        (&json!("Admin"), &json!(true))
    );

    // The plugins' list is a user's, calls are an administrator's.
    let list = "/api/v1/plugins";
    assert_eq!(daemon.http().get(list).send().status, 401);
    assert_eq!(daemon.http().get(list).token(&user).send().status, 200);
    let call = "/api/v1/plugins/g4/call/echo";
    assert_eq!(daemon.http().post(call).send().status, 401);
    assert_eq!(daemon.http().post(call).token(&user).send().status, 403);
    assert_eq!(
        daemon.http().post(call).token(&admin).send().ok(),
        json!({})
    );

    // A revoked token is refused at once.
    let tokens = daemon.admin().get("/api/pinfold/v1/tokens").send().ok();
    let anns = tokens
        .as_array()
        .unwrap()
        .iter()
        .find(|token| token["user"] == "ann");
    let id = anns.unwrap()["id"].as_str().unwrap();
    let path = format!("/api/pinfold/v1/tokens/{id}");
    assert_eq!(daemon.admin().request("DELETE", &path).send().status, 204);
    assert_eq!(ask("GET", Some(&user)).status, 401);
}

#[test]
fn the_developers_token_is_an_administrators_and_only_the_daemons_to_read() {
    if !super::can_run() {
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let daemon = g4();
    let path = daemon.base().join("state/development-token");
    let token = std::fs::read_to_string(&path).unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o600);
    assert_eq!(Some(metadata.uid()), super::process::uid(daemon.pid()));
    let list = daemon
        .http()
        .get("/api/v1/plugins")
        .token(token.trim())
        .send()
        .ok();
    assert_eq!(list[0]["Name"], "g4");
    assert_eq!(list[0]["name"], "g4");
    // At rest there is its hash alone.
    let store = std::fs::read(daemon.base().join("state/pinfold.db")).unwrap();
    let log = std::fs::read(daemon.base().join("state/pinfold.db-wal")).unwrap_or_default();
    for bytes in [store, log] {
        let found = bytes
            .windows(token.len())
            .any(|window| window == token.as_bytes());
        assert!(!found, "the token's text is in the database");
    }
}

#[test]
fn a_clients_envelope_members_are_left_out() {
    if !super::can_run() {
        return;
    }
    let daemon = g4();
    let user = daemon.token("ann", &[]);
    let forged = "_user_id=1&_is_admin=true&org_id=9&_anything=x&_method=PUT&n=1";
    let object = json!({
        "_user_id": 1, "_is_admin": true, "org_id": 9, "_anything": "x", "_path": "/", "n": 1
    });
    let public = format!("{BASE}/public?{forged}");
    let seen = arguments(daemon.http().get(&public));
    let path = format!("{BASE}/public");
    assert_eq!(seen, json!({"n": "1", "_method": "GET", "_path": path}));

    let items = format!("{BASE}/items");
    let post = || daemon.http().post(&items).token(&user);
    let envelope = json!({
        "_method": "POST", "_path": items, "_user_id": "ann", "_user_login": "ann",
        "_user_role": "User", "_is_admin": false,
    });
    let mut expected = envelope.clone();
    expected["n"] = json!(1);
    assert_eq!(arguments(post().json(&object)), expected);
    expected["n"] = json!("1");
    let form = "application/x-www-form-urlencoded";
    assert_eq!(arguments(post().body(form, forged)), expected);
    assert_eq!(arguments(post().json(&json!({}))), envelope);
}

#[test]
fn path_query_and_body_become_one_flat_object() {
    if !super::can_run() {
        return;
    }
    let daemon = g4();
    let user = daemon.token("ann", &[]);
    let without_envelope = |mut seen: Value| {
        let members = seen.as_object_mut().unwrap();
        members.retain(|name, _| {
            ![
                "_method",
                "_path",
                "_user_id",
                "_user_login",
                "_user_role",
                "_is_admin",
            ]
            .contains(&name.as_str())
        });
        seen
    };
    let get = |path: &str| {
        let path = format!("{BASE}{path}");
        without_envelope(arguments(daemon.http().get(&path).token(&user)))
    };
    assert_eq!(
        get("/items/a%20b?id=8&tag=x&tag=y"),
        json!({"id": "8", "tag": ["x", "y"]})
    );
    assert_eq!(get("/items/%C3%BC"), json!({"id": "ü"}));
    assert_eq!(get("/items/a%2Fb"), json!({"id": "a/b"}));
    // With its slash, as GoatFlow's router gives it.
    assert_eq!(get("/files/a/b/c.txt"), json!({"rest": "/a/b/c.txt"}));
    assert_eq!(get("/public?q=%2B+%26"), json!({"q": "+ &"}));

    let items = format!("{BASE}/items?n=0&q=1");
    let post = || daemon.http().post(&items).token(&user);
    let seen = |request: Request<'_>| without_envelope(arguments(request));
    let object = json!({"n": [1, {"m": null}], "text": "ü"});
    let mut expected = object.clone();
    expected["q"] = json!("1");
    assert_eq!(seen(post().json(&object)), expected);
    assert_eq!(
        seen(post().json(&object).chunked()),
        expected,
        "without a length"
    );
    let form = "application/x-www-form-urlencoded";
    assert_eq!(
        seen(post().body(form, "n=2&n=3&text=a+b")),
        json!({"n": ["2", "3"], "q": "1", "text": "a b"})
    );
    assert_eq!(
        seen(post().body("text/plain", "just text")),
        json!({"n": "0", "q": "1", "_body": "just text", "_content_type": "text/plain"})
    );
    assert_eq!(
        seen(post().body("application/json", "[1,2]")),
        json!({"n": "0", "q": "1", "_body": "[1,2]", "_content_type": "application/json"})
    );
}

#[test]
fn a_reply_becomes_the_response_that_it_asks_for() {
    if !super::can_run() {
        return;
    }
    let daemon = g4();
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
            "[gateway]\nbody-limit = '64KiB'\nrequest-timeout = '2s'\nplugin-list = 'object'\n",
        )
        .plugin("g4", "goatflow-g4")
        .policy("g4", "[timeouts]\ncall = '500ms'\n")
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
fn a_route_that_cannot_be_kept_as_declared_is_refused_and_listed() {
    if !super::can_run() {
        return;
    }
    let daemon = g4();
    let path = format!("{BASE}/unknown-middleware");
    assert_eq!(
        daemon.http().get(&path).send().status,
        404,
        "closed, not open"
    );
    let plugin = daemon.ready("g4");
    let refused = plugin["refused"].to_string();
    assert!(
        refused.contains("unknown-middleware") && refused.contains("moon-phase"),
        "{refused}"
    );
    for what in ["widgets", "jobs", "menu items"] {
        assert!(refused.contains(what), "{what}: {refused}");
    }
    let routes = plugin["routes"].as_array().unwrap();
    assert_eq!(routes.len(), 9, "{routes:?}");
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
