//! What a plugin has asked and not been told yet when it ends.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use pinfold_hostapi::{
    AuditEntry, AuditSink, Cache, Databases, HttpClient, HttpConfig, PluginCallError, PluginCalls,
    Roots, Services as HostServices,
};
use pinfold_policy::{Effective, Generation, Permissions, PluginId, Rates};
use pinfold_rpc::netrpc::{Client, ClientConfig};
use serde_json::json;
use tokio::sync::Notify;

use super::counted::{Answered, Asked, NoLogs};
use super::*;
use crate::logs::PluginLog;

/// Other plugins, none of which ever answers.
#[derive(Default)]
struct Unanswered {
    asked: Notify,
}

impl PluginCalls for Unanswered {
    fn call<'a>(
        &'a self,
        _: &'a PluginId,
        _: &'a str,
        _: Bytes,
        _: CallContext,
    ) -> BoxFuture<'a, Result<Bytes, PluginCallError>> {
        self.asked.notify_one();
        Box::pin(std::future::pending())
    }
}

/// The codes of what was recorded.
#[derive(Default)]
struct Recorded {
    codes: Mutex<Vec<Option<&'static str>>>,
}

impl AuditSink for Recorded {
    fn of(self: Arc<Self>, _: &PluginId) -> Arc<dyn AuditSink> {
        self
    }

    fn record(&self, entry: AuditEntry<'_>) {
        self.codes.lock().unwrap().push(entry.code);
    }
}

#[tokio::test]
async fn a_call_under_way_is_recorded_before_the_end_of_its_instance_may_be() {
    let (unanswered, recorded) = (Arc::<Unanswered>::default(), Arc::<Recorded>::default());
    let http = HttpConfig {
        roots: Roots::None,
        ..HttpConfig::default()
    };
    let services = HostServices {
        databases: Databases::default(),
        cache: Cache::new(),
        config: BTreeMap::new(),
        logs: Arc::new(NoLogs),
        http: HttpClient::new(&http).unwrap(),
        plugins: unanswered.clone(),
    };
    let host = Arc::new(HostApi::new(services, recorded.clone()));
    let granted: Permissions = serde_json::from_value(json!({ "plugin-call": ["other"] })).unwrap();
    let caller = Arc::new(host.caller(
        "ends".parse().unwrap(),
        Generation(1),
        Arc::new(Effective::new(granted.clone(), vec![granted])),
        &Rates::default(),
    ));
    let output = Arc::new(Drains::new(Arc::new(PluginLog::default()), Generation(1)));
    let (here, there) = tokio::io::duplex(64 * 1024);
    let noted = Arc::clone(&output);
    output.serve(move |stop| async move {
        let tokens = Arc::new(CallTokens::default());
        converse(there, (host, caller), tokens, &noted, &stop).await;
    });
    let client = Client::start(here, ClientConfig::default());
    let asked = Asked {
        method: "plugin_call".into(),
        args: br#"{"plugin": "other", "function": "f"}"#.to_vec(),
        call_token: String::new(),
    };
    let limit = tokio::time::Instant::now() + Duration::from_secs(600);
    tokio::select! {
        answered = client.call::<_, Answered>("Plugin.Call", &asked, limit) => {
            panic!("{:?}", answered.map(|answered| answered.error));
        }
        () = unanswered.asked.notified() => {}
    }
    // As when its process is gone.
    drop(client);
    output.finish().await;
    let codes = recorded.codes.lock().unwrap();
    assert_eq!(*codes, [Some("hostapi.cancelled")]);
}
