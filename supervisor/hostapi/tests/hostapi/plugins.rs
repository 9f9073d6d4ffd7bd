//! Calls from plugin to plugin: scope, depth, deadline, what goes along, and how many.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use pinfold_hostapi::{
    Caller, Decision, FUNCTION_NAME_LIMIT_BYTES, HostCall, HostError, HostReply,
    PLUGIN_CALL_DEPTH_LIMIT, PLUGIN_CALL_LIMIT_BYTES, PLUGIN_CALLS_AT_ONCE, PluginCallError,
};
use pinfold_policy::{CallContext, Rates, User};

use crate::world::{World, caller, caller_with, context};

const OTHER: &str = r#"{ "plugin-call": ["other"] }"#;

fn call(plugin: &str, function: &str) -> HostCall {
    HostCall::PluginCall {
        plugin: plugin.into(),
        function: function.into(),
        arguments: Bytes::from_static(b"[1]"),
    }
}

async fn outcome(world: &World, caller: &Caller, call: HostCall) -> Result<HostReply, HostError> {
    world.api.call(caller, call, &context(5_000)).await
}

#[tokio::test]
async fn a_call_takes_user_request_and_deadline_along_and_counts_its_depth() {
    let world = World::new().await;
    let user = Arc::new(User {
        id: "u1".into(),
        login: "ann".into(),
        roles: Vec::new(),
    });
    let given = CallContext {
        user: Some(user.clone()),
        language: Some("de".into()),
        depth: 3,
        ..context(5_000)
    };
    let plugin = caller("p", OTHER);
    let reply = world.api.call(&plugin, call("other", "echo"), &given).await;
    assert_eq!(reply.unwrap(), HostReply::Json(Bytes::from_static(b"[1]")));
    let taken = world.records.calls.lock().unwrap().pop().unwrap();
    assert_eq!(
        (taken.user, taken.language, taken.request_id, taken.depth),
        (Some(user), given.language, given.request_id, 4)
    );
    assert!(taken.deadline <= given.deadline);
    let record = world.last_record();
    assert_eq!(
        (record.service, record.method, record.subject.as_str()),
        ("plugin", "call", "other/echo")
    );
}

#[tokio::test]
async fn what_is_not_granted_does_not_reach_the_other_plugin() {
    let world = World::new().await;
    for (permissions, target, function, text, missing) in [
        (
            "{}",
            "other",
            "echo",
            "plugin-to-plugin calls not granted",
            "plugin:call",
        ),
        (
            OTHER,
            "secret",
            "echo",
            r#"not permitted to call plugin "secret" (allowed: [other])"#,
            "plugin:call:secret/echo",
        ),
        (
            r#"{ "plugin-call": ["other/fail"] }"#,
            "other",
            "echo",
            r#"not permitted to call plugin "other" (allowed: [other/fail])"#,
            "plugin:call:other/echo",
        ),
    ] {
        let refused = outcome(&world, &caller("p", permissions), call(target, function)).await;
        assert_eq!(refused.unwrap_err().to_string(), text);
        let record = world.last_record();
        assert_eq!(record.decision, Decision::Deny);
        assert_eq!(record.permission.as_deref(), Some(missing));
    }
    let any = caller("p", r#"{ "plugin-call": ["*"] }"#);
    for (target, function) in [
        ("x".repeat(64), "f".to_owned()),
        ("x".into(), "f".repeat(FUNCTION_NAME_LIMIT_BYTES + 1)),
    ] {
        let refused = outcome(&world, &any, call(&target, &function)).await;
        assert_eq!(refused.unwrap_err().code(), "hostapi.too-large");
    }
    assert!(world.records.calls.lock().unwrap().is_empty());
    for target in ["absent", "No Plugin's Name"] {
        let refused = outcome(&world, &any, call(target, "f")).await.unwrap_err();
        let HostError::PluginCall { source, .. } = &refused else {
            panic!("{refused:?}")
        };
        assert_eq!(*source, PluginCallError::NotFound);
    }
}

#[tokio::test]
async fn a_chain_ends_at_the_depth_limit() {
    let world = World::new().await;
    let plugin = caller("p", OTHER);
    for (depth, passes) in [
        (PLUGIN_CALL_DEPTH_LIMIT - 1, true),
        (PLUGIN_CALL_DEPTH_LIMIT, false),
    ] {
        let given = CallContext {
            depth,
            ..context(5_000)
        };
        let outcome = world.api.call(&plugin, call("other", "echo"), &given).await;
        assert_eq!(outcome.is_ok(), passes, "{outcome:?}");
        if let Err(error) = outcome {
            assert_eq!(
                error.to_string(),
                "plugin call depth exceeded (max 10): p -> other"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_with_its_deadline_and_one_too_many_at_once() {
    let world = World::new().await;
    let plugin = caller("p", OTHER);
    let given = CallContext {
        deadline: Instant::now() + Duration::from_secs(1),
        ..context(0)
    };
    let hanging =
        (0..PLUGIN_CALLS_AT_ONCE).map(|_| world.api.call(&plugin, call("other", "hang"), &given));
    let one_more = async {
        tokio::task::yield_now().await;
        let refused = outcome(&world, &plugin, call("other", "echo"))
            .await
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "more than 64 plugin calls are under way"
        );
        assert_eq!(world.last_record().decision, Decision::Limit);
        // Another's calls are its own.
        let others = caller("q", OTHER);
        assert!(
            outcome(&world, &others, call("other", "echo"))
                .await
                .is_ok()
        );
    };
    let (ended, ()) = tokio::join!(join_all(hanging), one_more);
    for one in ended {
        assert_eq!(one.unwrap_err().code(), "hostapi.plugin.deadline");
    }
    assert!(
        outcome(&world, &plugin, call("other", "echo"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn sizes_errors_and_rates_of_calls() {
    let world = World::new().await;
    let plugin = caller("p", OTHER);
    let failed = outcome(&world, &plugin, call("other", "fail"))
        .await
        .unwrap_err();
    assert_eq!(
        (failed.code(), failed.chain().ends_with(": no")),
        ("hostapi.plugin.failed", true)
    );
    let large = outcome(&world, &plugin, call("other", "large"))
        .await
        .unwrap_err();
    assert_eq!(large.code(), "hostapi.too-large");
    let arguments = HostCall::PluginCall {
        plugin: "other".into(),
        function: "echo".into(),
        arguments: vec![b'1'; PLUGIN_CALL_LIMIT_BYTES + 1].into(),
    };
    let large = outcome(&world, &plugin, arguments).await.unwrap_err();
    assert_eq!(large.code(), "hostapi.too-large");
    let rates = Rates {
        host_calls_per_second: Some(1),
        ..Rates::default()
    };
    let slow = caller_with("p", OTHER, &rates);
    assert!(outcome(&world, &slow, call("other", "echo")).await.is_ok());
    let limited = outcome(&world, &slow, call("other", "echo"))
        .await
        .unwrap_err();
    assert_eq!(limited.to_string(), "plugin call rate limit exceeded");
}
