//! A directory with an application's database, Pinfold's own beside it, and a dispatcher.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pinfold_hostapi::{
    AuditEntry, AuditSink, Cache, Caller, DatabaseConfig, Databases, Decision, HostApi, HostCall,
    HostError, HostReply, HttpClient, HttpConfig, LogLevel, LogSink, PLUGIN_CALL_LIMIT_BYTES,
    PluginCallError, PluginCalls, Resolve, Roots, Services,
};
use pinfold_policy::{CallContext, Effective, Generation, Permissions, PluginId, Rates};
use serde_json::{Map, Value};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tempfile::TempDir;

/// What no plugin here may read.
pub(crate) const SECRET: &str = "hunter2";

pub(crate) const SCHEMA: &str = "
    CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT UNIQUE, owner INT);
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, password TEXT);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, item INT REFERENCES items (id), note TEXT);
    CREATE INDEX users_name ON users (name);
    CREATE VIEW everybody AS SELECT id, name, password FROM users;
    INSERT INTO items VALUES (1, 'one', 1), (2, 'two', 1), (3, 'three', 2);
    INSERT INTO users VALUES (1, 'ann', 'hunter2'), (2, 'bob', 'hunter2');
    INSERT INTO orders VALUES (1, 1, 'hunter2');
";

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) api: Arc<HostApi>,
    pub(crate) records: Arc<Records>,
}

#[derive(Default)]
pub(crate) struct Records {
    pub(crate) audit: Mutex<Vec<Recorded>>,
    pub(crate) lines: Mutex<Vec<Line>>,
    /// Contexts of the calls that reached another plugin.
    pub(crate) calls: Mutex<Vec<CallContext>>,
}

/// The other plugins: of one, `other`, with the functions `echo`, `fail`, `large` and `hang`.
struct Others(Arc<Records>);

impl PluginCalls for Others {
    fn call<'a>(
        &'a self,
        target: &'a PluginId,
        function: &'a str,
        arguments: Bytes,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Bytes, PluginCallError>> {
        self.0.calls.lock().unwrap().push(context);
        async move {
            match (target.as_str(), function) {
                ("other", "echo") => Ok(arguments),
                ("other", "fail") => Err(PluginCallError::Plugin { text: "no".into() }),
                ("other", "large") => Ok(vec![b'1'; PLUGIN_CALL_LIMIT_BYTES + 1].into()),
                ("other", _) => std::future::pending().await,
                _ => Err(PluginCallError::NotFound),
            }
        }
        .boxed()
    }
}

/// A plugin's log line: whose, level, message, fields.
pub(crate) type Line = (String, LogLevel, String, Map<String, Value>);

/// What is kept of an [`AuditEntry`].
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) plugin: PluginId,
    pub(crate) generation: Generation,
    pub(crate) service: &'static str,
    pub(crate) method: &'static str,
    pub(crate) decision: Decision,
    pub(crate) permission: Option<String>,
    pub(crate) subject: String,
    pub(crate) code: Option<&'static str>,
    pub(crate) request_id: String,
}

impl AuditSink for Records {
    fn of(self: Arc<Self>, _: &PluginId) -> Arc<dyn AuditSink> {
        self
    }

    fn record(&self, entry: AuditEntry<'_>) {
        self.audit.lock().unwrap().push(Recorded {
            plugin: entry.plugin.clone(),
            generation: entry.generation,
            service: entry.service,
            method: entry.method,
            decision: entry.decision,
            permission: entry.permission.map(String::from),
            subject: entry.subject.into(),
            code: entry.code,
            request_id: entry.request_id.into(),
        });
    }
}

impl LogSink for Records {
    fn record(&self, caller: &Caller, level: LogLevel, message: &str, fields: &Map<String, Value>) {
        let line = (
            caller.plugin.to_string(),
            level,
            message.to_owned(),
            fields.clone(),
        );
        self.lines.lock().unwrap().push(line);
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A world whose `main` database is configured further by `configure`.
    pub(crate) async fn with(configure: impl FnOnce(&mut DatabaseConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("pinfold.db");
        script(
            &mut raw(&own).await,
            "CREATE TABLE tokens (t TEXT); INSERT INTO tokens VALUES ('hunter2')",
        )
        .await;
        let main = dir.path().join("main.db");
        script(&mut raw(&main).await, SCHEMA).await;
        let mut config = DatabaseConfig::new(url(&main));
        configure(&mut config);
        let configured = BTreeMap::from([("main".to_owned(), config)]);
        let databases = Databases::open(&configured, &own).await.unwrap();
        Self::over(dir, databases)
    }

    /// A world without databases, whose plugins reach servers that `resolver` knows.
    pub(crate) fn with_http(config: &HttpConfig, resolver: Arc<dyn Resolve>) -> Self {
        let http = HttpClient::with_resolver(config, resolver).unwrap();
        Self::of(tempfile::tempdir().unwrap(), Databases::default(), http)
    }

    pub(crate) fn over(dir: TempDir, databases: Databases) -> Self {
        let nobody = HttpConfig {
            roots: Roots::None,
            ..HttpConfig::default()
        };
        Self::of(dir, databases, HttpClient::new(&nobody).unwrap())
    }

    fn of(dir: TempDir, databases: Databases, http: HttpClient) -> Self {
        let records = Arc::new(Records::default());
        let services = Services {
            databases,
            cache: Cache::new(),
            config: BTreeMap::from([
                ("app.name".to_owned(), "Shop".to_owned()),
                ("smtp.password".to_owned(), SECRET.to_owned()),
            ]),
            logs: Arc::clone(&records) as Arc<dyn LogSink>,
            http,
            plugins: Arc::new(Others(Arc::clone(&records))),
        };
        let audit = Arc::clone(&records) as Arc<dyn AuditSink>;
        Self {
            dir,
            api: Arc::new(HostApi::new(services, audit)),
            records,
        }
    }

    pub(crate) fn main(&self) -> PathBuf {
        self.dir.path().join("main.db")
    }

    pub(crate) async fn query(&self, caller: &Caller, sql: &str) -> Result<Value, HostError> {
        self.query_with(caller, sql, Vec::new()).await
    }

    pub(crate) async fn query_with(
        &self,
        caller: &Caller,
        sql: &str,
        parameters: Vec<Value>,
    ) -> Result<Value, HostError> {
        let call = HostCall::DbQuery {
            database: None,
            sql: sql.into(),
            parameters,
        };
        match self.api.call(caller, call, &context(30_000)).await? {
            HostReply::Rows(json) => Ok(serde_json::from_slice(&json).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn exec(&self, caller: &Caller, sql: &str) -> Result<u64, HostError> {
        self.exec_with(caller, sql, Vec::new()).await
    }

    pub(crate) async fn exec_with(
        &self,
        caller: &Caller,
        sql: &str,
        parameters: Vec<Value>,
    ) -> Result<u64, HostError> {
        let call = HostCall::DbExec {
            database: None,
            sql: sql.into(),
            parameters,
        };
        match self.api.call(caller, call, &context(30_000)).await? {
            HostReply::Affected(count) => Ok(count),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn last_record(&self) -> Recorded {
        self.records.audit.lock().unwrap().last().unwrap().clone()
    }
}

/// A caller that asked for just what it was granted.
pub(crate) fn caller(name: &str, permissions: &str) -> Caller {
    caller_with(name, permissions, &Rates::default())
}

pub(crate) fn caller_with(name: &str, permissions: &str, rates: &Rates) -> Caller {
    let granted: Permissions = permissions_of(permissions);
    let effective = Effective::new(granted.clone(), vec![granted]);
    Caller::new(
        PluginId::parse(name).unwrap(),
        Generation(1),
        Arc::new(effective),
        rates,
    )
}

/// Permissions from JSON, for this crate has no TOML.
fn permissions_of(json: &str) -> Permissions {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

pub(crate) const ITEMS_READ: &str = r#"{ "db": [{ "tables": ["items"], "access": "read" }] }"#;
pub(crate) const ITEMS: &str = r#"{ "db": [{ "tables": ["items"], "access": "readwrite" }] }"#;
pub(crate) const ALL: &str =
    r#"{ "db": [{ "tables": ["*"], "access": "readwrite", "ddl": true }] }"#;

pub(crate) fn context(deadline_ms: u64) -> CallContext {
    CallContext {
        request_id: "r-1".into(),
        user: None,
        language: None,
        deadline: Instant::now() + Duration::from_millis(deadline_ms),
        depth: 0,
    }
}

pub(crate) fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

/// A connection that passes no check of ours, as a host without a filter has.
pub(crate) async fn raw(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true);
    options
        .foreign_keys(false)
        .synchronous(SqliteSynchronous::Off)
        .busy_timeout(Duration::from_secs(5))
        .connect()
        .await
        .unwrap()
}

/// Runs statements; panics where one fails.
pub(crate) async fn script(connection: &mut SqliteConnection, sql: &str) {
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
        .await
        .unwrap();
}
