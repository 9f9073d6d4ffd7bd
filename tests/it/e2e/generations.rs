//! Plugins of every generation of the contract become ready, serve, and call their host.

use std::sync::atomic::{AtomicBool, Ordering};

use pinfold_tests::wait_for;
use serde_json::{Value, json};

use super::audit;
use super::daemon::Daemon;
use super::setup::Setup;

/// What the subjects' own registrations ask for, and a key more.
const GRANTS: &str = "[permissions]
db = [{ tables = ['items'], access = 'readwrite' }]
cache = 'readwrite'
config = ['app.*']
";

fn all_generations() -> Daemon {
    ["g1", "g2", "g3", "g4"]
        .into_iter()
        .fold(Setup::new(), |setup, name| {
            setup
                .plugin(name, &format!("goatflow-{name}"))
                .policy(name, GRANTS)
        })
        .environment("GOATFLOW_PLUGIN_G4_LLM_URL", "http://llm.test")
        .environment("GOATFLOW_PLUGIN_G3_SECRET", "of g3 alone")
        .environment("SECRET", "of the host alone")
        .start()
}

#[test]
fn every_generation_becomes_ready_and_serves() {
    if !super::can_run() {
        return;
    }
    let daemon = all_generations();
    for name in ["g1", "g2", "g3", "g4"] {
        let plugin = daemon.ready(name);
        assert_eq!(plugin["version"], "1.2.3", "as registered: {name}");
        assert_eq!(plugin["dialect"], "goatflow");

        let path = format!("/api/plugins/{name}/public");
        let echoed = daemon.http().get(&format!("{path}?n=1")).send().ok();
        assert_eq!(echoed, json!({"n": "1", "_method": "GET", "_path": path}));
        let path = format!("/api/plugins/{name}/default-method");
        assert_eq!(daemon.http().get(&path).send().status, 200, "{name}");

        let sent = json!({"n": [1, null, "ü"]});
        assert_eq!(daemon.result(name, "echo", &sent), sent, "{name}");
        let unknown = daemon.call(name, "no-such-thing", &json!({}));
        assert!(
            unknown.text().contains("unknown function: no-such-thing"),
            "{name}: {}",
            unknown.text()
        );
    }
}

#[test]
fn init_is_given_the_contracts_keys_and_the_plugins_own_variables() {
    if !super::can_run() {
        return;
    }
    let daemon = all_generations();
    for (name, own) in [
        ("g1", None),
        ("g2", None),
        ("g3", Some(("secret", "of g3 alone"))),
        ("g4", Some(("llm_url", "http://llm.test"))),
    ] {
        let mut expected = json!({
            "host_version": "0.10.0",
            "plugin_name": name,
            "plugin_dir": format!("config/plugins/{name}"),
            "work_dir": format!("data/plugins/{name}"),
        });
        if let Some((key, value)) = own {
            expected[key] = value.into();
        }
        assert_eq!(daemon.result(name, "config", &json!({})), expected);
    }
}

#[test]
fn host_methods_answer_in_the_contracts_forms() {
    if !super::can_run() {
        return;
    }
    let daemon = all_generations();
    for name in ["g3", "g4"] {
        let value = |method: &str, arguments: Value| {
            let answer = daemon.host(name, method, &arguments);
            assert_eq!(
                (&answer["error"], &answer["header_error"]),
                (&json!(""), &json!("")),
                "{name} {method} {arguments}"
            );
            answer["result"].clone()
        };
        let query = |sql: &str, args: Value| value("db_query", json!({"query": sql, "args": args}));
        assert_eq!(
            query("SELECT id, name, price FROM items ORDER BY id", Value::Null)[1],
            json!({"id": 2, "name": "bucket", "price": 7.25})
        );
        let named = query("@main: SELECT name FROM items WHERE id = ?", json!([3]));
        assert_eq!(named, json!([{"name": "candle"}]));
        // Both decode to an empty list in Go.
        let none = query("SELECT id FROM items WHERE id = 0", json!([]));
        assert!(none == json!([]) || none.is_null(), "{none}");
        let update =
            json!({"query": "UPDATE items SET price = price + 0 WHERE id < ?", "args": [3]});
        assert_eq!(value("db_exec", update), json!({"affected": 2}));

        let key = json!({"key": "greeting"});
        let miss = json!({"value": null, "found": false});
        assert_eq!(value("cache_get", key.clone()), miss);
        let set = json!({"key": "greeting", "value": "aGk=", "ttl": 60});
        assert_eq!(value("cache_set", set), json!({"ok": true}));
        let hit = json!({"value": "aGk=", "found": true});
        assert_eq!(value("cache_get", key.clone()), hit);
        assert_eq!(value("cache_delete", key.clone()), json!({"ok": true}));
        assert_eq!(value("cache_get", key), miss);

        let line = json!({"level": "warn", "message": "from inside", "fields": {"n": 1}});
        assert_eq!(value("log", line), json!({"ok": true}));
        let logs = daemon.logs(name);
        let kept = logs
            .iter()
            .find(|record| record["message"] == "from inside");
        let kept = kept.unwrap_or_else(|| panic!("{logs:?}"));
        assert_eq!(
            (&kept["stream"], &kept["level"], &kept["fields"]["n"]),
            (&json!("log"), &json!("warn"), &json!(1))
        );
    }
    // Before call tokens, clients read a bare string; since then an object.
    let key = json!({"key": "app.name"});
    let bare = daemon.host("g3", "config_get", &key);
    assert_eq!(bare["result"], json!("Pinfold"));
    let object = daemon.host("g4", "config_get", &key);
    assert_eq!(object["result"], json!({"value": "Pinfold"}));
    for name in ["g3", "g4"] {
        assert_eq!(daemon.result(name, "app_name", &json!({})), "Pinfold");
    }
}

#[test]
fn host_methods_that_are_not_served_say_so() {
    if !super::can_run() {
        return;
    }
    let granted = format!("{GRANTS}email = ['*']\n");
    let asks = "resources:
  permissions:
    - type: email
";
    let daemon = Setup::new()
        .plugin("plain", "goatflow-g4")
        .policy("plain", GRANTS)
        .plugin_asking("granted", "goatflow-g4", asks)
        .policy("granted", &granted)
        .start();
    let mail = json!({"to": "a@b.test"});
    assert_eq!(
        daemon.refusal("plain", "send_email", &mail),
        "plugin \"plain\": email access not granted"
    );
    assert_eq!(
        daemon.refusal("granted", "send_email", &mail),
        "send_email is not supported by this host"
    );
    let base = daemon.base();
    for (plugin, decision, missing) in [
        ("plain", "deny", json!("email:send")),
        ("granted", "error", Value::Null),
    ] {
        let wanted = ["--action", "hostapi.email.send", "--plugin", plugin];
        let record = wait_for("mail to be in the trail", || {
            audit::records(&base, &wanted).pop()
        });
        assert_eq!(
            (&record["decision"], &record["permission"]),
            (&json!(decision), &missing)
        );
    }
    for method in ["translate", "publish_event", "change_ticket_status", ""] {
        assert_eq!(
            daemon.refusal("plain", method, &json!({})),
            format!("unknown host API method: {method}")
        );
    }
    let wanted = ["--action", "hostapi.other.unknown", "--plugin", "plain"];
    wait_for("unknown methods to be in the trail", || {
        let records = audit::records(&base, &wanted);
        let count = |record: &Value| record["count"].as_i64();
        (records.iter().filter_map(count).sum::<i64>() == 4).then_some(())
    });
    daemon.ready("plain");
}

#[test]
fn no_call_arrives_before_init_has_answered() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .policy("g4", GRANTS)
        .start();
    let asked_enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Asks all the while that one instance takes the place of another.
        let asking = scope.spawn(|| {
            let mut statuses = Vec::new();
            while !asked_enough.load(Ordering::Relaxed) {
                let answer = daemon.http().get("/api/plugins/g4/public").send();
                statuses.push(answer.status);
            }
            statuses
        });
        for _ in 0..5 {
            assert_eq!(daemon.rescan(Some("g4")).status, 200);
            // It asks its host while it is initialised, and so is answered before it serves.
            assert_eq!(
                daemon.result("g4", "init_state", &json!({})),
                json!({"app_name": "Pinfold", "inits": 1, "calls_before_init": 0})
            );
        }
        asked_enough.store(true, Ordering::Relaxed);
        let statuses = asking.join().unwrap();
        assert!(!statuses.is_empty());
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    });
}
