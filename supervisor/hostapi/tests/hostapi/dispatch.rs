//! One way for every call: refusals, rates, records, and the services that are no database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pinfold_hostapi::{
    Caller, Databases, Decision, Fault, HostCall, HostError, HostReply, LogLevel, Retry,
};
use pinfold_policy::{Generation, Rates};
use serde_json::{Map, json};

use crate::world::{ITEMS_READ, Recorded, SECRET, World, caller, caller_with, context};

fn get(key: &str) -> HostCall {
    HostCall::CacheGet { key: key.into() }
}

fn set(key: &str, value: &'static str) -> HostCall {
    HostCall::CacheSet {
        key: key.into(),
        value: Bytes::from_static(value.as_bytes()),
        ttl: None,
    }
}

fn config(key: &str) -> HostCall {
    HostCall::ConfigGet { key: key.into() }
}

fn query(database: &str, sql: &str) -> HostCall {
    HostCall::DbQuery {
        database: Some(database.into()),
        sql: sql.into(),
        parameters: Vec::new(),
    }
}

#[tokio::test]
async fn what_is_not_granted_is_refused_in_the_contracts_words() {
    let world = World::new().await;
    let nobody = caller("p", "{}");
    let exec = HostCall::DbExec {
        database: None,
        sql: "x".into(),
        parameters: Vec::new(),
    };
    for (call, text, permission) in [
        (
            query("main", "SELECT 1"),
            "database read access not granted",
            "db:read:main",
        ),
        (
            query("other", "SELECT 1"),
            "database read access not granted",
            "db:read:other",
        ),
        (exec, "database write access not granted", "db:write:main"),
        (get("k"), "cache access not granted", "cache:read"),
        (
            set("k", ""),
            "cache write access not granted",
            "cache:write",
        ),
        (
            HostCall::CacheDelete { key: "k".into() },
            "cache delete access not granted",
            "cache:write",
        ),
        (
            config("app.name"),
            "config access not granted",
            "config:read",
        ),
        (
            HostCall::SendEmail,
            "email access not granted",
            "email:send",
        ),
    ] {
        let (service, method) = (call.service(), call.method());
        let error = world
            .api
            .call(&nobody, call, &context(1_000))
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(
            (error.code(), error.fault(), error.retry()),
            ("hostapi.refused", Fault::Plugin, Retry::Never)
        );
        let record = world.last_record();
        assert_eq!((record.service, record.method), (service, method));
        assert_eq!(record.decision, Decision::Deny);
        assert_eq!(record.permission.as_deref(), Some(permission));
        assert_eq!(record.code, Some("hostapi.refused"));
    }
}

#[tokio::test]
async fn each_call_leaves_one_record_and_no_data_in_it() {
    let world = World::new().await;
    let plugin = caller(
        "p",
        r#"{ "db": [{ "tables": ["items", "users"], "access": "read" }], "cache": "readwrite" }"#,
    );
    world
        .query_with(
            &plugin,
            "SELECT name FROM items, users WHERE ? = 'hunter2' AND 'hunter2' = 1",
            vec![json!(SECRET)],
        )
        .await
        .unwrap_err();
    world
        .query_with(
            &plugin,
            "SELECT 1 FROM items, users WHERE ? = 'hunter2'",
            vec![json!(SECRET)],
        )
        .await
        .unwrap();
    world
        .api
        .call(&plugin, set("k\n", SECRET), &context(1_000))
        .await
        .unwrap();
    world
        .api
        .call(
            &plugin,
            HostCall::Log {
                level: LogLevel::Info,
                message: SECRET.into(),
                fields: Map::new(),
                left_out: 0,
            },
            &context(1_000),
        )
        .await
        .unwrap();
    let records = world.records.audit.lock().unwrap().clone();
    assert_eq!(records.len(), 4);
    let [rejected, query, set, log] = &records[..] else {
        panic!()
    };
    assert_eq!(rejected.decision, Decision::Error);
    assert_eq!(query.subject, "main/items:r main/users:r");
    assert_eq!(
        (&query.plugin, query.generation),
        (&plugin.plugin, plugin.generation)
    );
    assert_eq!(
        (query.decision, query.code, query.request_id.as_str()),
        (Decision::Allow, None, "r-1")
    );
    assert_eq!(set.subject, "k\u{fffd}");
    assert_eq!((log.service, log.decision), ("log", Decision::Allow));
    assert!(!format!("{records:?}").contains(SECRET));
}

/// What is known of a statement that came before says nothing about who may run it.
#[tokio::test]
async fn a_known_statement_is_authorised_at_each_call() {
    let world = World::new().await;
    let asks = async |who: &Caller| {
        let sql = "SELECT name FROM items WHERE id = 1";
        world
            .query(who, sql)
            .await
            .map_err(|error| error.to_string())
    };
    let found = Ok(json!([{ "name": "one" }]));
    let granted = caller("granted", ITEMS_READ);
    let other = caller(
        "other",
        r#"{ "db": [{ "tables": ["users"], "access": "read" }] }"#,
    );
    let refused = Err("access to table \"items\" not permitted (allowed: [users])".to_owned());
    for _ in 0..3 {
        assert_eq!(asks(&granted).await, found);
        assert_eq!(asks(&other).await, refused);
    }
    // A plugin whose grants change keeps its allowance, and with it what is known.
    let again = |permissions: &Caller| {
        let id = granted.plugin.clone();
        let permissions = Arc::clone(&permissions.permissions);
        world
            .api
            .caller(id, Generation(2), permissions, &Rates::default())
    };
    assert_eq!(asks(&again(&granted)).await, found);
    assert_eq!(asks(&again(&other)).await, refused);
}

#[tokio::test]
async fn a_call_takes_little_room_while_it_waits() {
    let world = World::new().await;
    let plugin = caller("p", r#"{ "cache": "read" }"#);
    let context = context(1_000);
    let call = world.api.call(&plugin, get("k"), &context);
    assert!(size_of_val(&call) <= 4096, "{}", size_of_val(&call));
    call.await.unwrap();
}

#[tokio::test]
async fn over_the_rate_even_refusals_stop() {
    let world = World::new().await;
    let rates = Rates {
        host_calls_per_second: Some(5),
        ..Rates::default()
    };
    let plugin = caller_with("p", ITEMS_READ, &rates);
    let mut decisions = BTreeMap::new();
    for _ in 0..20 {
        assert!(
            world
                .api
                .call(&plugin, get("k"), &context(1_000))
                .await
                .is_err()
        );
        *decisions
            .entry(world.last_record().decision.as_str())
            .or_insert(0) += 1;
    }
    assert!(
        decisions["deny"] >= 5 && decisions["limit"] >= 10,
        "{decisions:?}"
    );
    let per_minute = Rates {
        queries_per_minute: Some(1),
        ..Rates::default()
    };
    let plugin = caller_with("q", ITEMS_READ, &per_minute);
    world.query(&plugin, "SELECT 1").await.unwrap();
    let error = world.query(&plugin, "SELECT 1").await.unwrap_err();
    assert_eq!(error.to_string(), "DB query rate limit exceeded");
    let Retry::After(after) = error.retry() else {
        panic!("{error:?}")
    };
    assert!(after <= Duration::from_secs(60));
    // A plugin's bucket is its own.
    assert!(
        world
            .query(&caller("r", ITEMS_READ), "SELECT 1")
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn mail_that_is_granted_is_not_served_and_said_so() {
    let world = World::new().await;
    let plugin = caller("p", r#"{ "email": ["@a.test"] }"#);
    let context = context(1_000);
    let sent = world.api.call(&plugin, HostCall::SendEmail, &context);
    let error = sent.await.unwrap_err();
    assert_eq!(
        (error.code(), error.fault(), error.retry()),
        ("hostapi.not-served", Fault::Host, Retry::Never)
    );
    let record = world.last_record();
    assert_eq!((record.service, record.method), ("email", "send"));
    assert_eq!(record.decision, Decision::Error);
}

#[tokio::test]
async fn what_cannot_be_read_is_metered_and_over_the_rate_nothing_is_read() {
    let world = World::new().await;
    let rates = Rates {
        host_calls_per_second: Some(5),
        ..Rates::default()
    };
    let plugin = caller_with("p", r#"{ "cache": "read" }"#, &rates);
    // However long the calls take, there is no time for more of them.
    tokio::time::pause();
    for named in [("cache", "get"), ("other", "unknown")] {
        let (mut read, mut limited) = (0, 0);
        for _ in 0..20 {
            let reads = || {
                read += 1;
                Err("no arguments".to_owned())
            };
            let context = context(1_000);
            let call = world.api.call_unread(&plugin, named, reads, &context);
            match call.await.unwrap_err() {
                HostError::Unread { text } => assert_eq!(text, "no arguments"),
                HostError::RateLimited { service, .. } => {
                    assert_eq!(service, named.0);
                    limited += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((read, limited), (5, 15), "{named:?}");
        let records = world.records.audit.lock().unwrap();
        let of = |decision: Decision| {
            let wanted = |record: &&Recorded| {
                (record.service, record.method) == named && record.decision == decision
            };
            records.iter().filter(wanted).count()
        };
        assert_eq!((of(Decision::Error), of(Decision::Limit)), (read, limited));
    }
}

#[tokio::test]
async fn databases_are_found_by_name() {
    let world = World::new().await;
    let plugin = caller(
        "p",
        r#"{ "db": [{ "tables": ["*"], "access": "read" }, { "database": "x", "tables": ["*"], "access": "read" }] }"#,
    );
    let call = world
        .api
        .call(&plugin, query("x", "SELECT 1"), &context(1_000))
        .await;
    assert_eq!(call.unwrap_err().to_string(), "database \"x\" not found");
    let HostReply::Rows(rows) = world
        .api
        .call(&plugin, query("main", "SELECT 1 AS n"), &context(1_000))
        .await
        .unwrap()
    else {
        panic!()
    };
    assert_eq!(rows, r#"[{"n":1}]"#);
    let empty = World::over(tempfile::tempdir().unwrap(), Databases::default());
    assert_eq!(
        empty
            .query(&plugin, "SELECT 1")
            .await
            .unwrap_err()
            .to_string(),
        "no databases configured"
    );
}

#[tokio::test]
async fn a_plugins_instances_share_a_cache_that_goes_with_the_plugin() {
    let world = World::new().await;
    let permissions = r#"{ "cache": "readwrite" }"#;
    let (a, again, b) = (
        caller("a", permissions),
        caller("a", permissions),
        caller("b", permissions),
    );
    world
        .api
        .call(&a, set("k", "v"), &context(1_000))
        .await
        .unwrap();
    let found = Ok(Some(Bytes::from_static(b"v")));
    let cached = async |who| match world.api.call(who, get("k"), &context(1_000)).await {
        Ok(HostReply::Cached(value)) => Ok(value),
        other => Err(format!("{other:?}")),
    };
    assert_eq!(cached(&again).await, found);
    assert_eq!(cached(&b).await, Ok(None));
    world.api.forget(&a.plugin).await;
    assert_eq!(cached(&again).await, Ok(None));
}

#[tokio::test]
async fn configuration_is_read_key_by_key() {
    let world = World::new().await;
    let plugin = caller("p", r#"{ "config": ["*"] }"#);
    let call = world
        .api
        .call(&plugin, config("app.name"), &context(1_000))
        .await;
    assert_eq!(call.unwrap(), HostReply::Text("Shop".into()));
    let error = world
        .api
        .call(&plugin, config("app.colour"), &context(1_000))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "unknown config key: app.colour");
    let error = world
        .api
        .call(&plugin, config("smtp.password"), &context(1_000))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "config key \"smtp.password\" access denied"
    );
    let long = "k".repeat(10_000);
    let error = world
        .api
        .call(&plugin, config(&long), &context(1_000))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "config key is larger than 256 bytes");
    let cached = world
        .api
        .call(&caller("q", "{}"), get(&long), &context(1_000))
        .await
        .unwrap_err();
    assert_eq!(cached.to_string(), "cache key is larger than 512 bytes");
    assert!(world.last_record().subject.len() < 300);
}

#[tokio::test]
async fn log_lines_reach_the_sink_bounded() {
    let world = World::new().await;
    let plugin = caller("p", "{}");
    let mut fields = Map::new();
    fields.insert("n".into(), json!(1));
    fields.insert("z".into(), json!("x".repeat(100_000)));
    let call = HostCall::Log {
        level: LogLevel::parse("WARNING"),
        message: "m".repeat(100_000),
        fields,
        left_out: 2,
    };
    assert_eq!(
        world
            .api
            .call(&plugin, call, &context(1_000))
            .await
            .unwrap(),
        HostReply::Done
    );
    let lines = world.records.lines.lock().unwrap();
    let (who, level, message, fields) = &lines[0];
    assert_eq!(
        (who.as_str(), *level, message.len()),
        ("p", LogLevel::Warn, 8192)
    );
    assert_eq!(fields.get("pinfold.dropped_fields"), Some(&json!(3)));
}

#[tokio::test]
async fn a_call_past_its_deadline_is_not_begun() {
    let world = World::new().await;
    let plugin = caller("p", r#"{ "cache": "readwrite" }"#);
    let error = world
        .api
        .call(&plugin, set("k", "v"), &context(0))
        .await
        .unwrap_err();
    assert!(matches!(error, HostError::Deadline));
    let reply = world
        .api
        .call(&plugin, get("k"), &context(1_000))
        .await
        .unwrap();
    assert_eq!(reply, HostReply::Cached(None));
}

#[test]
fn every_code_is_documented() {
    let page = include_str!("../../../../docs/hostapi.md");
    for code in HostError::CODES.iter().chain(&["hostapi.cancelled"]) {
        assert!(page.contains(&format!("`{code}`")), "{code}");
    }
}

#[test]
fn an_error_is_small_enough_to_pass_around() {
    assert!(size_of::<HostError>() <= 128, "{}", size_of::<HostError>());
}

#[tokio::test]
async fn a_plugin_that_is_started_again_has_no_fresh_allowance() {
    let world = World::new().await;
    let plugin = caller("p", r#"{ "cache": "read" }"#);
    let again = |generation, calls| {
        let rates = Rates {
            host_calls_per_second: Some(calls),
            ..Rates::default()
        };
        let permissions = plugin.permissions.clone();
        let id = plugin.plugin.clone();
        world
            .api
            .caller(id, Generation(generation), permissions, &rates)
    };
    let passes = async |caller: &Caller| {
        let answer = world.api.call(caller, get("k"), &context(1_000)).await;
        answer.is_ok()
    };
    let first = again(1, 1);
    assert!(passes(&first).await);
    // Whatever time the calls take, a second is not over after a few of them.
    let mut refused = 0;
    for generation in 2..12 {
        refused += u32::from(!passes(&again(generation, 1)).await);
    }
    assert!(refused >= 8, "{refused}");
    // Other rates, or another plugin of the name, begin anew.
    assert!(passes(&again(12, 2)).await);
    world.api.forget(&plugin.plugin).await;
    assert!(passes(&again(13, 2)).await && passes(&again(14, 2)).await);
}
