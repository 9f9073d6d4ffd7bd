//! The one place that says yes.

use pinfold_policy::{Access, Effective, Pattern, Refusal};

use crate::HostCall;
use crate::db::{Classified, DEFAULT_DATABASE, StatementKind};

/// May the service be used in this way at all? Decided before a statement is parsed, so that a
/// plugin without any database grant cannot even make the host parse.
pub(crate) fn service(permissions: &Effective, call: &HostCall) -> Result<(), Refusal> {
    match call {
        HostCall::DbQuery { database, .. } => {
            permissions.database(database_name(database.as_deref()), Access::Read, [])
        }
        HostCall::DbExec { database, .. } => {
            permissions.database(database_name(database.as_deref()), Access::Write, [])
        }
        HostCall::CacheGet { .. } => permissions.cache("get"),
        HostCall::CacheSet { .. } => permissions.cache("set"),
        HostCall::CacheDelete { .. } => permissions.cache("delete"),
        HostCall::Log { .. } => Ok(()),
        HostCall::ConfigGet { key } => permissions.config(key),
        // Where to is decided when the URL is parsed, and again at each redirect.
        HostCall::HttpRequest(_) => permissions.http(),
        HostCall::PluginCall {
            plugin, function, ..
        } => permissions.plugin_call(plugin, function),
        HostCall::SendEmail => permissions.email(),
    }
}

/// May this statement be run? Each table that it reads needs read access, each that it writes, or
/// whose writes it makes reach further, needs write access, each whose schema it changes needs a
/// grant with `ddl`.
pub(crate) fn statement(
    permissions: &Effective,
    database: &str,
    statement: &Classified,
) -> Result<(), Refusal> {
    let names = |set: &'static str| match set {
        "reads" => statement.reads.iter().map(String::as_str),
        "writes" => statement.writes.iter().map(String::as_str),
        "followed" => statement.followed.iter().map(String::as_str),
        _ => statement.schema.iter().map(String::as_str),
    };
    if statement.kind == StatementKind::Schema {
        permissions.ddl(database, names("schema"))?;
    }
    if statement.kind != StatementKind::Query || !statement.writes.is_empty() {
        permissions.database(database, Access::Write, names("writes"))?;
        permissions.database(database, Access::Write, names("followed"))?;
    }
    if statement.kind == StatementKind::Query || !statement.reads.is_empty() {
        permissions.database(database, Access::Read, names("reads"))?;
    }
    statement
        .reads
        .iter()
        .try_for_each(|table| catalogue(permissions, database, table))
}

/// The database that a call means.
pub(crate) fn database_name(given: Option<&str>) -> &str {
    given.unwrap_or(DEFAULT_DATABASE)
}

/// The database's own catalogue shows every table's name and columns: only a grant that names it
/// reaches it, a wildcard never does.
fn catalogue(permissions: &Effective, database: &str, table: &str) -> Result<(), Refusal> {
    if !table.starts_with("sqlite_") {
        return Ok(());
    }
    let grants = permissions
        .granted()
        .db
        .iter()
        .filter(|grant| grant.database == database && grant.access.covers(Access::Read));
    let patterns: Vec<&Pattern> = grants.flat_map(|grant| &grant.tables).collect();
    if patterns
        .iter()
        .any(|pattern| pattern.as_str().eq_ignore_ascii_case(table))
    {
        return Ok(());
    }
    Err(Refusal::Table {
        database: database.into(),
        access: Access::Read,
        table: table.into(),
        allowed: patterns.into_iter().map(Pattern::to_string).collect(),
    })
}
