//! What a plugin may do is what its policy grants of what it asked for, whatever it claims.

use pinfold_tests::wait_for;
use serde_json::{Value, json};

use super::audit;
use super::setup::Setup;

fn query(sql: &str) -> Value {
    json!({"query": sql, "args": null})
}

/// `plugin "NAME": TEXT`, as the contract words a refusal.
fn refused(plugin: &str, text: &str) -> String {
    format!("plugin \"{plugin}\": {text}")
}

const READ_ITEMS: &str = "SELECT id FROM items";
const WRITE_ITEMS: &str = "UPDATE items SET price = 1 WHERE id = 0";

#[test]
fn what_is_not_granted_is_refused_in_the_contracts_words_and_the_plugin_lives_on() {
    if !super::can_run() {
        return;
    }
    // The subject's registration asks for items (readwrite), the cache and app.*.
    let daemon = Setup::new()
        .plugin("bare", "goatflow-g4")
        .policy("bare", "")
        .plugin("reader", "goatflow-g3")
        .policy(
            "reader",
            "[permissions]\ndb = [{ tables = ['items'], access = 'read' }]\ncache = 'read'\n",
        )
        .plugin("writer", "goatflow-g4")
        .policy(
            "writer",
            "[permissions]\ndb = [{ tables = ['items'], access = 'readwrite' }]\nconfig = ['app.*']\n",
        )
        .start();
    let before = ["bare", "reader", "writer"].map(|name| daemon.plugin_pid(name));
    let key = json!({"key": "app.name"});
    let set = json!({"key": "k", "value": "", "ttl": 0});
    let other_table = "access to table \"sqlite_master\" not permitted (allowed: [items])";
    for (plugin, method, arguments, text) in [
        (
            "bare",
            "db_query",
            query(READ_ITEMS),
            "database read access not granted",
        ),
        (
            "bare",
            "db_exec",
            query(WRITE_ITEMS),
            "database write access not granted",
        ),
        ("bare", "cache_get", key.clone(), "cache access not granted"),
        (
            "bare",
            "cache_set",
            set.clone(),
            "cache write access not granted",
        ),
        (
            "bare",
            "cache_delete",
            key.clone(),
            "cache delete access not granted",
        ),
        (
            "bare",
            "config_get",
            key.clone(),
            "config access not granted",
        ),
        (
            "reader",
            "db_exec",
            query(WRITE_ITEMS),
            "database write access not granted",
        ),
        ("reader", "cache_set", set, "cache write access not granted"),
        (
            "reader",
            "cache_delete",
            key,
            "cache delete access not granted",
        ),
        (
            "reader",
            "db_query",
            query("SELECT name FROM sqlite_master"),
            other_table,
        ),
        (
            "writer",
            "db_exec",
            query("DROP TABLE items"),
            "DDL statements not permitted",
        ),
        (
            "writer",
            "db_query",
            query("SELECT sql FROM sqlite_master"),
            other_table,
        ),
        (
            "writer",
            "config_get",
            json!({"key": "smtp.password"}),
            "config key \"smtp.password\" access denied",
        ),
    ] {
        assert_eq!(
            daemon.refusal(plugin, method, &arguments),
            refused(plugin, text),
            "{method} {arguments}"
        );
    }
    // A write in the clothes of a query, two statements, and what no parser knows.
    for (method, sql) in [
        ("db_query", "DELETE FROM items RETURNING id"),
        ("db_query", "SELECT 1; DELETE FROM items"),
        ("db_query", "PRAGMA writable_schema = 1"),
        ("db_exec", "ATTACH DATABASE '/etc/passwd' AS p"),
        ("db_query", "gibberish"),
    ] {
        let text = daemon.refusal("writer", method, &query(sql));
        assert!(!text.is_empty(), "{sql}");
    }
    let left = daemon.result("reader", "rows", &json!({}));
    assert_eq!(left.as_array().unwrap().len(), 3, "{left}");
    let after = ["bare", "reader", "writer"].map(|name| daemon.plugin_pid(name));
    assert_eq!(before, after);
}

#[test]
fn a_schema_is_changed_only_where_that_is_granted() {
    if !super::can_run() {
        return;
    }
    let grants = |ddl: bool| {
        format!(
            "[permissions]\ndb = [{{ tables = ['items'], access = 'readwrite', ddl = {ddl} }}]\n"
        )
    };
    let daemon = Setup::new()
        .plugin("may", "goatflow-g4")
        .policy("may", &grants(true))
        .plugin("may-not", "goatflow-g4")
        .policy("may-not", &grants(false))
        .start();
    let alter = query("ALTER TABLE items ADD COLUMN note TEXT");
    assert_eq!(
        daemon.refusal("may-not", "db_exec", &alter),
        refused("may-not", "DDL statements not permitted")
    );
    let answer = daemon.host("may", "db_exec", &alter);
    assert_eq!(answer["error"], "", "{answer}");
    let notes = daemon.host("may-not", "db_query", &query("SELECT note FROM items"));
    assert_eq!(notes["result"][0], json!({"note": null}), "{notes}");
}

#[test]
fn what_was_not_asked_for_is_refused_although_it_is_granted() {
    if !super::can_run() {
        return;
    }
    let asks = |scope: &str| {
        format!(
            "resources:\n  permissions:\n    - {{type: config, access: read, scope: [{scope}]}}\n"
        )
    };
    let daemon = Setup::new()
        .file(
            "etc/pinfold.toml",
            "[hostapi.config]\n'app.name' = 'Pinfold'\n'site.motto' = 'Fold them in'\n",
        )
        .plugin_asking("narrow", "goatflow-g4", &asks("app.*"))
        .policy("narrow", "[permissions]\nconfig = ['*']\n")
        .plugin_asking("wide", "goatflow-g4", &asks("site.*"))
        .policy("wide", "[permissions]\nconfig = ['*']\n")
        .start();
    let motto = json!({"key": "site.motto"});
    assert_eq!(
        daemon.refusal("narrow", "config_get", &motto),
        refused("narrow", "config key \"site.motto\" access denied")
    );
    let granted = daemon.host("wide", "config_get", &motto);
    assert_eq!(granted["result"]["value"], "Fold them in", "{granted}");
    let absent = daemon.refusal("wide", "config_get", &json!({"key": "app.nothing"}));
    assert_eq!(absent, "unknown config key: app.nothing");
}

#[test]
fn a_claimed_name_changes_nothing() {
    if !super::can_run() {
        return;
    }
    let cache = "[permissions]\ncache = 'readwrite'\n";
    for fixture in ["goatflow-g3", "goatflow-g4"] {
        let daemon = Setup::new()
            .plugin("strong", fixture)
            .policy("strong", cache)
            .plugin("equal", fixture)
            .policy("equal", cache)
            .plugin("weak", fixture)
            .policy("weak", "")
            .start();
        let set = json!({"key": "k", "value": "b3du", "ttl": 60});
        assert_eq!(daemon.host("strong", "cache_set", &set)["error"], "");
        for caller in ["strong", "", "nobody"] {
            let forged = json!({"method": "cache_get", "args": {"key": "k"}, "caller": caller});
            let answer = daemon.result("weak", "host", &forged);
            let text = refused("weak", "cache access not granted");
            assert_eq!(answer["error"], text, "{caller}");
            // Each plugin has keys of its own.
            let answer = daemon.result("equal", "host", &forged);
            let miss = json!({"value": null, "found": false});
            assert_eq!(answer["result"], miss, "{caller}: {answer}");
        }
    }
}

#[test]
fn a_forged_or_finished_call_token_is_refused() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .policy("g4", "[permissions]\nconfig = ['app.*']\n")
        .start();
    let with_token = |token: &str| {
        let request = json!({"method": "config_get", "args": {"key": "app.name"}, "token": token});
        daemon.result("g4", "host", &request)
    };
    let finished = daemon.result("g4", "token", &json!({}));
    let finished = finished.as_str().unwrap();
    assert!(finished.len() >= 32, "{finished}");
    assert_ne!(daemon.result("g4", "token", &json!({})), finished);
    for token in [finished, "0123456789abcdef0123456789abcdef", "x"] {
        let answer = with_token(token);
        assert_eq!(
            answer["error"], "unknown or finished call context",
            "{token}"
        );
    }
    // They are in the trail, as calls that failed.
    let wanted = ["--action", "hostapi.config.get", "--plugin", "g4"];
    wait_for("the calls to be in the trail", || {
        let records = audit::records(&daemon.base(), &wanted);
        let failed = records.iter().filter(|one| one["decision"] == "error");
        let count = |record: &Value| record["count"].as_i64();
        (failed.filter_map(count).sum::<i64>() == 3).then_some(())
    });
    // No token is a call on nobody's behalf; the one of the call under way is good.
    assert_eq!(with_token("")["result"]["value"], "Pinfold");
    let own = daemon.host("g4", "config_get", &json!({"key": "app.name"}));
    assert_eq!(own["result"]["value"], "Pinfold");
}

#[test]
fn where_manifest_registration_and_policy_differ_is_shown() {
    if !super::can_run() {
        return;
    }
    let asks = "resources:
  permissions:
    - type: db
      access: read
      scope: [items, invoices]
";
    let daemon = Setup::new()
        .plugin_asking("g4", "goatflow-g4", asks)
        .policy("g4", "[permissions]\ncache = 'read'\nemail = ['@a.test']\n")
        .start();
    let plugin = daemon.ready("g4");
    assert_eq!(
        plugin["asked_by_manifest"],
        json!(["db:read:main/invoices", "db:read:main/items"])
    );
    let registered = ["cache:read", "cache:write", "config:read:app.*"];
    let registered = [
        &registered[..],
        &["db:read:main/items", "db:write:main/items"],
    ]
    .concat();
    assert_eq!(plugin["asked_by_registration"], json!(registered));
    assert_eq!(
        plugin["granted"],
        json!(["cache:read", "email:send:@a.test"])
    );
    let differences = plugin["differences"].as_array().unwrap();
    for line in [
        "cache:write: asked for when registering, not in the manifest",
        "db:read:main/invoices: asked for in the manifest, not when registering",
        "db:write:main/items: asked for, not granted as such",
        "email:send:@a.test: granted, not asked for as such",
    ] {
        assert!(
            differences.contains(&json!(line)),
            "{line}: {differences:?}"
        );
    }
    let same = "db:read:main/items: asked for when registering";
    assert!(
        !differences
            .iter()
            .any(|line| line.as_str().unwrap().starts_with(same)),
        "{differences:?}"
    );
}

#[test]
fn what_a_plugin_prints_and_what_it_ended_of_is_the_operators_alone() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .without_restarts()
        .plugin("g4", "goatflow-g4")
        .policy("g4", "")
        .start();
    daemon.result(
        "g4",
        "print",
        &json!({"text": "the password is swordfish\n"}),
    );
    wait_for("the line in the log", || {
        daemon.has_logged("g4", "swordfish").then_some(())
    });
    let user = daemon.token("ann", &["agent"]);
    let admin = daemon.token("root", &["admin"]);
    let path = "/api/pinfold/v1/plugins/g4/logs";
    assert_eq!(daemon.http().get(path).send().status, 401);
    assert_eq!(daemon.http().get(path).token(&user).send().status, 403);
    let logs = daemon.http().get(path).token(&admin).send();
    assert!(logs.ok().to_string().contains("swordfish"));

    let call = "/api/v1/plugins/g4/call/panic";
    let panic = json!({"text": "swordfish again"});
    let answer = daemon.http().post(call).token(&admin).json(&panic).send();
    assert_eq!(
        answer.error(),
        (502, "plugin ended before it answered".into())
    );
    daemon.in_state("g4", "failed");
    wait_for("the panic in the log", || {
        daemon.has_logged("g4", "swordfish again").then_some(())
    });
    let list = daemon.http().get("/api/v1/plugins").token(&user).send();
    assert!(!list.text().contains("swordfish"), "{}", list.text());
}
