//! A fixed number of a plugin's host calls, for counting the instructions that each takes:
//! net/rpc over a pipe, the dialect, the dispatcher, its services and the audit trail as in the
//! daemon, on one thread beside the database's own.

use std::collections::BTreeMap;
use std::path::Path;

use pinfold_gateway::{GatewayConfig, Shared};
use pinfold_gob::gob_struct;
use pinfold_hostapi::{
    Cache, DatabaseConfig, Databases, HttpClient, HttpConfig, LogLevel, LogSink, Roots,
    Services as HostServices,
};
use pinfold_policy::{Effective, Generation, Permissions, Rates};
use pinfold_rpc::netrpc::{Client, ClientConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _};

use super::*;
use crate::meters::Meters;
use crate::plugin_calls::TableCalls;
use crate::recorder::Recorder;
use crate::store::{Store, audit};

/// As a plugin of generation 4 sends it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Asked {
    pub(super) method: String,
    #[serde(with = "serde_bytes")]
    pub(super) args: Vec<u8>,
    pub(super) call_token: String,
}

gob_struct!(Asked as "HostAPIRequest" {
    "Method": String,
    "Args": Vec<u8>,
    "CallToken": String,
});

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Answered {
    #[serde(with = "serde_bytes")]
    result: Vec<u8>,
    pub(super) error: String,
}

pub(super) struct NoLogs;

impl LogSink for NoLogs {
    fn record(&self, _: &Caller, _: LogLevel, _: &str, _: &Map<String, Value>) {}
}

async fn host(directory: &Path) -> HostApi {
    let file = directory.join("main.db");
    let mut seed = SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
        .connect()
        .await
        .unwrap();
    let rows = "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT, owner INT);
                CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
                INSERT INTO items VALUES (1, 'one', 1), (2, 'two', 1), (3, 'three', 2);
                INSERT INTO users VALUES (1, 'ann'), (2, 'bob')";
    seed.execute(sqlx::raw_sql(rows)).await.unwrap();
    sqlx::Connection::close(seed).await.unwrap();
    let own = directory.join("pinfold.db");
    let store = Store::open(&own).await.unwrap();
    let main = DatabaseConfig::new(format!("sqlite://{}", file.display()));
    let configured = BTreeMap::from([("main".to_owned(), main)]);
    let http = HttpConfig {
        roots: Roots::None,
        ..HttpConfig::default()
    };
    let services = HostServices {
        databases: Databases::open(&configured, &own).await.unwrap(),
        cache: Cache::new(),
        config: BTreeMap::new(),
        logs: Arc::new(NoLogs),
        http: HttpClient::new(&http).unwrap(),
        plugins: TableCalls::new(Shared::default()),
    };
    let (trail, _writer) = audit::trail(&store);
    let meters = Arc::new(Meters::new(&GatewayConfig::default()));
    meters.of(&"counted".parse().unwrap());
    HostApi::new(services, Arc::new(Recorder { trail, meters }))
}

fn arguments(call: &str) -> (&'static str, Value) {
    match call {
        "cache_get" => ("cache_get", json!({"key": "greeting"})),
        "db_query" => (
            "db_query",
            json!({
                "query": "SELECT id, name FROM items WHERE owner = ? ORDER BY id",
                "args": [1]
            }),
        ),
        "db_star" => (
            "db_query",
            json!({"query": "SELECT * FROM items WHERE id = ?", "args": [2]}),
        ),
        "db_join" => (
            "db_query",
            json!({
                "query": "SELECT i.id, i.name AS item, u.name AS owner FROM items i \
                          JOIN users u ON u.id = i.owner WHERE i.id > ? AND u.name LIKE ? \
                          ORDER BY i.id DESC LIMIT 10",
                "args": [0, "a%"]
            }),
        ),
        "db_exec" => (
            "db_exec",
            json!({"query": "UPDATE items SET owner = ? WHERE id = ?", "args": [1, 77]}),
        ),
        // What net/rpc and its client take.
        _ => ("nothing", json!({"key": "greeting"})),
    }
}

/// `PINFOLD_COUNTED` is `CALL,CALLS,CALLERS`: `cache_get,1000,1`. What a call takes is the
/// difference between two runs of different numbers, divided by the difference of these.
#[test]
#[ignore = "counts for valgrind, which starts it"]
fn a_fixed_number_of_host_calls() {
    let wanted = std::env::var("PINFOLD_COUNTED").unwrap_or_else(|_| "cache_get,100,1".into());
    let mut parts = wanted.split(',');
    let (method, arguments) = arguments(parts.next().unwrap());
    let mut number = || {
        parts
            .next()
            .map_or(1, |text| text.parse::<usize>().unwrap())
    };
    let (calls, callers) = (number(), number());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(method, arguments, calls, callers));
}

async fn run(method: &str, arguments: Value, calls: usize, callers: usize) {
    let directory = tempfile::tempdir().unwrap();
    let host = Arc::new(host(directory.path()).await);
    let granted: Permissions = serde_json::from_value(json!({
        "cache": "readwrite",
        "db": [{ "tables": ["items", "users"], "access": "readwrite" }]
    }))
    .unwrap();
    let rates = Rates {
        host_calls_per_second: Some(u32::MAX),
        ..Rates::default()
    };
    let caller = host.caller(
        "counted".parse().unwrap(),
        Generation(1),
        Arc::new(Effective::new(granted.clone(), vec![granted])),
        &rates,
    );
    let tokens = Arc::new(CallTokens::default());
    let open = tokens.open(CallContext {
        request_id: "01890a5d-ac96-774b-bcce-b302099a8057".into(),
        deadline: Instant::now() + Duration::from_secs(3600),
        ..own_context(1)
    });
    let served = Arc::new(services(Arc::clone(&host), Arc::new(caller), tokens));
    let (here, there) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(netrpc::serve(there, served, ServerConfig::default()));
    let client = Client::start(here, ClientConfig::default());
    let ask = async |method: &str, arguments: &Value| {
        let asked = Asked {
            method: method.into(),
            args: serde_json::to_vec(arguments).unwrap(),
            call_token: open.token.clone(),
        };
        let limit = tokio::time::Instant::now() + Duration::from_secs(600);
        let answered: Answered = client.call("Plugin.Call", &asked, limit).await.unwrap();
        answered
    };
    let value = json!({"key": "greeting", "value": "aGVsbG8sIHdvcmxk"});
    assert_eq!(ask("cache_set", &value).await.error, "");
    let expected = ask(method, &arguments).await;
    let each = async || {
        for _ in 0..calls / callers {
            let answered = ask(method, &arguments).await;
            assert_eq!(
                (answered.result, answered.error),
                (expected.result.clone(), expected.error.clone())
            );
        }
    };
    futures_util::future::join_all((0..callers).map(|_| each())).await;
    eprintln!(
        "{}{}",
        String::from_utf8_lossy(&expected.result),
        expected.error
    );
    drop(client);
    serving.await.unwrap();
    host.close().await;
}
