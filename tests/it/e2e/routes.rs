//! Plugins' routes over HTTP: who may call them, what they are given, and what becomes of replies.

use std::fs;

use pinfold_tests::wait_for;
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::http::{Answer, Request};
use super::setup::Setup;

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
    let token = fs::read_to_string(&path).unwrap();
    let metadata = fs::metadata(&path).unwrap();
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
    let store = fs::read(daemon.base().join("state/pinfold.db")).unwrap();
    let log = fs::read(daemon.base().join("state/pinfold.db-wal")).unwrap_or_default();
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
fn the_elder_keeps_its_route_over_a_restart_in_which_it_does_not_come_to_serve() {
    if !super::can_run() {
        return;
    }
    const SAME: &str = "/api/plugins/same/open";
    let daemon = Setup::new().plugin("same-elder", "crowd").start();
    daemon.ready("same-elder");
    // By its name it would be the first.
    daemon.add_plugin("same-a-younger", "crowd");
    assert_eq!(daemon.rescan(Some("same-a-younger")).status, 200);
    let is_refused = |daemon: &Daemon| {
        let refused = daemon.ready("same-a-younger")["refused"].to_string();
        assert!(refused.contains("is there already"), "{refused}");
    };
    is_refused(&daemon);
    assert_eq!(daemon.http().get(SAME).send().status, 200);

    let elder = daemon.base().join("plugins/same-elder");
    let setup = daemon.stop();
    fs::write(elder.join("same-elder"), "no program any more").unwrap();
    let daemon = setup.start();
    is_refused(&daemon);
    let answer = daemon.http().get(SAME).send();
    assert_eq!(answer.status, 503, "{}", answer.text());

    // Removed, it has no route to keep.
    fs::remove_dir_all(&elder).unwrap();
    wait_for("the younger to have the route", || {
        (daemon.http().get(SAME).send().status == 200).then_some(())
    });
}
