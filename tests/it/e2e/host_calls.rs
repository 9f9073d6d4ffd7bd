//! Host calls that are too many or too long cost whoever makes them, and nobody else.

use serde_json::json;

use super::setup::Setup;

fn query(sql: &str) -> serde_json::Value {
    json!({"query": sql, "args": null})
}

#[test]
fn a_query_without_end_is_interrupted_with_its_call_and_others_are_answered() {
    if !super::can_run() {
        return;
    }
    let grants = "[permissions]\ndb = [{ tables = ['items'], access = 'read' }]\n";
    let daemon = Setup::new()
        .plugin("endless", "goatflow-g4")
        .policy(
            "endless",
            &format!(
                "{grants}[timeouts]\ncall = '{}'\n",
                pinfold_tests::deadline(2)
            ),
        )
        .plugin("other", "goatflow-g4")
        .policy("other", grants)
        .start();
    let endless =
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";
    let asked = json!({"method": "db_query", "args": query(endless)});
    std::thread::scope(|scope| {
        let hanging: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| daemon.call("endless", "host", &asked)))
            .collect();
        for _ in 0..20 {
            assert_eq!(
                daemon
                    .result("other", "rows", &json!({}))
                    .as_array()
                    .unwrap()
                    .len(),
                3
            );
        }
        for one in hanging {
            // Whichever is first: the call's own deadline or the answer that it is over.
            let answer = one.join().unwrap();
            let is_over = answer.status == 504
                || answer.ok()["error"]
                    .as_str()
                    .is_some_and(|text| text.contains("deadline"));
            assert!(is_over, "{}", answer.text());
        }
    });
    // The database is free again.
    let rows = daemon.result("endless", "rows", &json!({}));
    assert_eq!(rows.as_array().unwrap().len(), 3);
}

#[test]
fn thousands_of_host_calls_at_once_are_each_answered() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .policy(
            "g4",
            "[permissions]\ncache = 'read'\n[rates]\nhost-calls-per-second = 100000\n",
        )
        .start();
    for (method, args, good) in [
        ("cache_get", json!({"key": "k"}), 5000),
        ("no_such_method", json!({}), 0),
        ("config_get", json!({"key": "app.name"}), 0),
    ] {
        let request = json!({"method": method, "args": args, "n": 5000});
        let answered = daemon.result("g4", "host_parallel", &request);
        assert_eq!(
            (&answered["good"], &answered["refused"], &answered["failed"]),
            (&json!(good), &json!(5000 - good), &json!(0)),
            "{method}: {answered}"
        );
    }
    daemon.ready("g4");
}

#[test]
fn rates_hold_for_each_service_and_for_calls_through_the_gateway() {
    if !super::can_run() {
        return;
    }
    let grants = "[permissions]
db = [{ tables = ['items'], access = 'read' }]
cache = 'read'
";
    let daemon = Setup::new()
        .plugin("host", "goatflow-g4")
        .policy(
            "host",
            &format!("{grants}[rates]\nhost-calls-per-second = 5\n"),
        )
        .plugin("queries", "goatflow-g4")
        .policy(
            "queries",
            &format!("{grants}[rates]\nqueries-per-minute = 3\n"),
        )
        .plugin("calls", "goatflow-g4")
        .policy("calls", "[rates]\ncalls-per-second = 2\n")
        .start();
    let burst = |plugin: &str, method: &str, args: serde_json::Value| {
        let request = json!({"method": method, "args": args, "n": 100});
        daemon.result(plugin, "host_parallel", &request)
    };
    let cache = burst("host", "cache_get", json!({"key": "k"}));
    let good = cache["good"].as_u64().unwrap();
    assert!((5..=10).contains(&good), "{cache}");
    assert_eq!(cache["failed"], 0, "{cache}");
    let text = "plugin \"host\": cache rate limit exceeded";
    assert_eq!(cache["first_error"], text);

    let queries = burst("queries", "db_query", query("SELECT id FROM items"));
    assert_eq!(
        (&queries["good"], &queries["refused"]),
        (&json!(3), &json!(97))
    );
    let text = "plugin \"queries\": DB query rate limit exceeded";
    assert_eq!(queries["first_error"], text);
    // The others' rates are their own.
    assert_eq!(
        burst("queries", "cache_get", json!({"key": "k"}))["good"],
        100
    );

    let answers: Vec<_> = (0..20)
        .map(|_| daemon.http().get("/api/plugins/calls/public").send())
        .collect();
    let refused: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 429)
        .collect();
    assert!(!refused.is_empty(), "{answers:?}");
    assert!(answers.iter().any(|answer| answer.status == 200));
    assert!(
        refused
            .iter()
            .all(|answer| answer.header("retry-after").is_some())
    );
    // An administrator's call counts against none of this.
    for _ in 0..10 {
        daemon.result("calls", "echo", &json!({}));
    }
}
