//! Load of one plugin, and clients that give up: what they hold, and what they cost others.

use std::io::Write as _;

use pinfold_tests::wait_for;
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::http::Stream;
use super::setup::Setup;

/// What a plugin uses, as the administration sees it.
fn usage(daemon: &Daemon, plugin: &str) -> Value {
    let usage = daemon.admin().get("/api/pinfold/v1/usage").send().ok();
    let plugins = usage["plugins"].as_array().unwrap();
    let found = plugins.iter().find(|usage| usage["id"] == plugin);
    found.unwrap_or_else(|| panic!("{usage}")).clone()
}

fn wait_in_flight(daemon: &Daemon, plugin: &str, wanted: u64) {
    wait_for(&format!("{wanted} requests under way to {plugin}"), || {
        (usage(daemon, plugin)["in_flight"] == wanted).then_some(())
    });
}

/// A call of `sleep` that nobody has read the answer of. Dropping it is a client that gives up.
fn sleeping(daemon: &Daemon, token: &str, plugin: &str, millis: u64) -> Box<dyn Stream> {
    let mut stream = daemon.http().connect().unwrap();
    let body = json!({ "ms": millis }).to_string();
    let request = format!(
        "POST /api/v1/plugins/{plugin}/call/sleep HTTP/1.1\r\nhost: x\r\n\
         authorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Far longer than any test waits.
const FOR_EVER_MS: u64 = 600_000;

#[test]
fn a_client_that_gives_up_frees_its_place_while_the_plugin_still_works() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .file(
            "etc/pinfold.toml",
            "[gateway]\nin-flight-per-plugin = 1\nrequest-timeout = '20m'\n",
        )
        .policy("g4", "[timeouts]\ncall = '15m'\n")
        .start();
    daemon.ready("g4");
    let admin = daemon.token("root", &["admin"]);
    let asleep = sleeping(&daemon, &admin, "g4", FOR_EVER_MS);
    wait_in_flight(&daemon, "g4", 1);
    // The one place is taken, for administrators too.
    let refused = daemon.http().get("/api/plugins/g4/public").send();
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1")),
        "{}",
        refused.text()
    );
    let refused = daemon.call("g4", "echo", &json!({}));
    assert_eq!(
        (
            refused.status,
            refused.header("retry-after"),
            &refused.json()["code"]
        ),
        (503, Some("1"), &json!("call.overloaded"))
    );
    drop(asleep);
    wait_in_flight(&daemon, "g4", 0);
    let answer = daemon.http().get("/api/plugins/g4/public").send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let usage = usage(&daemon, "g4");
    assert_eq!(
        (&usage["calls"], &usage["failures"], &usage["refused"]),
        (&json!(2), &json!(0), &json!(2)),
        "{usage}"
    );
}

#[test]
fn a_plugin_with_all_its_places_taken_holds_none_of_its_neighbours() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .plugin("busy", "goatflow-g4")
        .plugin("idle", "goatflow-g4")
        .file(
            "etc/pinfold.toml",
            "[gateway]\nin-flight-per-plugin = 8\nin-flight = 9\n",
        )
        .start();
    let admin = daemon.token("root", &["admin"]);
    let asleep: Vec<_> = (0..8)
        .map(|_| sleeping(&daemon, &admin, "busy", FOR_EVER_MS))
        .collect();
    wait_in_flight(&daemon, "busy", 8);
    for _ in 0..20 {
        let refused = daemon.http().get("/api/plugins/busy/public").send();
        assert_eq!(refused.status, 503, "{}", refused.text());
        let served = daemon.http().get("/api/plugins/idle/public").send();
        assert_eq!(served.status, 200, "{}", served.text());
    }
    // One more place there is in all: with it taken, plugins have none, and the daemon still answers.
    let last = sleeping(&daemon, &admin, "idle", FOR_EVER_MS);
    wait_in_flight(&daemon, "idle", 1);
    let refused = daemon.http().get("/api/plugins/idle/public").send();
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(daemon.http().get("/readyz").send().status, 200);
    let status = daemon.http().get("/api/pinfold/v1/status");
    assert_eq!(status.token(&admin).send().status, 200);
    drop((asleep, last));
    wait_in_flight(&daemon, "busy", 0);
    let answer = daemon.http().get("/api/plugins/idle/public").send();
    assert_eq!(answer.status, 200);
}
