//! Whether a call would be permitted, without making it: the decisions that the dispatcher makes
//! before anything is run, by the same code.

use pinfold_policy::{Effective, Network};

use crate::authorize;
use crate::db::{StatementError, StatementKind, classify};
use crate::dispatch::check_key;
use crate::http::{permitted, permitted_tunnel};
use crate::{Dialect, HostCall, HostError};

/// What would still decide on a call that is permitted so far, and is only known when it is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permitted {
    /// Of an HTTP request: networks that are not public and that its host may be in all the same.
    pub networks: Vec<Network>,
    /// Of an HTTP request: whether the host is a name, whose addresses are vetted once it is looked
    /// up.
    pub by_name: bool,
    /// Of a statement: the tables that foreign keys carry its changes on to, or the table of an index
    /// that is dropped, are the database's to tell, and need a grant too.
    pub reaches_further: bool,
}

/// Whether `call` would be permitted to a plugin that effectively has `permissions`. Rates, what is
/// under way, and whether the host has such a database, key or plugin are not looked at.
///
/// # Errors
/// [`HostError`] as the plugin would see it: [`HostError::Refused`], [`HostError::Statement`], or what
/// is wrong with the call itself.
pub fn would_permit(permissions: &Effective, call: &HostCall) -> Result<Permitted, HostError> {
    check_key(call)?;
    authorize::service(permissions, call)?;
    match call {
        HostCall::DbQuery { database, sql, .. } => {
            statement(permissions, database.as_deref(), sql, false)
        }
        HostCall::DbExec { database, sql, .. } => {
            statement(permissions, database.as_deref(), sql, true)
        }
        HostCall::HttpRequest(request) => permitted(permissions, request.clone()),
        _ => Ok(Permitted::default()),
    }
}

/// Whether a tunnel to `authority`, a host and a port, would be permitted to a program in the jail that
/// asks its proxy for one (`CONNECT host:port`).
///
/// # Errors
/// [`HostError`] as the proxy would answer by it: [`HostError::Refused`], or what is wrong with the
/// authority.
pub fn would_permit_tunnel(
    permissions: &Effective,
    authority: &str,
) -> Result<Permitted, HostError> {
    permitted_tunnel(permissions, authority)
}

fn statement(
    permissions: &Effective,
    database: Option<&str>,
    sql: &str,
    writes: bool,
) -> Result<Permitted, HostError> {
    let name = authorize::database_name(database);
    let classified = classify(sql, Dialect::Sqlite)?;
    StatementError::of_kind(writes, classified.kind)?;
    if classified.dropped_index.is_some() {
        permissions.ddl(name, [])?;
    }
    authorize::statement(permissions, name, &classified)?;
    let changes = classified.changes;
    Ok(Permitted {
        reaches_further: classified.kind != StatementKind::Query
            && (changes.removed || changes.updated || classified.dropped_index.is_some()),
        ..Permitted::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HttpRequest;

    fn effective(text: &str) -> Effective {
        let granted: pinfold_policy::Permissions = toml::from_str(text).unwrap();
        Effective::new(granted.clone(), vec![granted])
    }

    const GRANTED: &str = r#"
db = [{ tables = ["items"], access = "read" }, { tables = ["log"], access = "readwrite" }]
cache = "read"
http = [{ hosts = ["api.test", "10.0.0.5"], addresses = ["10.0.0.5"], methods = ["GET"] }]
"#;

    fn sql(text: &str, writes: bool) -> HostCall {
        let (database, sql, parameters) = (None, text.to_owned(), Vec::new());
        if writes {
            HostCall::DbExec {
                database,
                sql,
                parameters,
            }
        } else {
            HostCall::DbQuery {
                database,
                sql,
                parameters,
            }
        }
    }

    fn http(method: &str, url: &str) -> HostCall {
        HostCall::HttpRequest(HttpRequest {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: bytes::Bytes::new(),
        })
    }

    #[test]
    fn statements_are_understood_before_they_are_permitted() {
        let permissions = effective(GRANTED);
        let would = |text, writes| would_permit(&permissions, &sql(text, writes));
        assert_eq!(
            would("SELECT 1 FROM items", false).unwrap(),
            Permitted::default()
        );
        assert!(would("DELETE FROM log", true).unwrap().reaches_further);
        for (text, writes, said) in [
            ("DELETE FROM items", true, r#"access to table "items""#),
            (
                "SELECT 1 FROM items, users",
                false,
                r#"access to table "users""#,
            ),
            ("DELETE FROM log", false, "a query may only read"),
            ("PRAGMA x", false, "PRAGMA is not permitted"),
            ("DROP TABLE log", true, "DDL statements not permitted"),
            ("DROP INDEX i", true, "DDL statements not permitted"),
        ] {
            let error = would(text, writes).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_request_is_parsed_before_it_is_permitted() {
        let permissions = effective(GRANTED);
        let would = |method, url| would_permit(&permissions, &http(method, url));
        assert!(would("GET", "https://API.test/x?y").unwrap().by_name);
        assert!(!would("GET", "http://10.0.0.5/").unwrap().by_name);
        for (method, url, said) in [
            ("POST", "https://api.test/", "not permitted"),
            ("GET", "https://api.test:8443/", "not permitted"),
            ("GET", "ftp://api.test/", "scheme"),
            ("GET", "https://user@api.test/", "user name"),
            ("TRACE", "https://api.test/", "not sent"),
        ] {
            let error = would(method, url).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let text = format!("{error}: {}", source.unwrap_or_default());
            assert!(text.contains(said), "{url}: {text}");
        }
        let open = effective("http = [{ hosts = ['*'] }]");
        let error = would_permit(&open, &http("GET", "http://169.254.169.254/")).unwrap_err();
        assert!(error.to_string().contains("not public"), "{error}");
    }

    #[test]
    fn a_path_is_decided_as_it_would_be_sent() {
        let permissions = effective("http = [{ hosts = ['api.test'], paths = ['/v1/*'] }]");
        let would = |url| would_permit(&permissions, &http("GET", url));
        for url in ["https://api.test/v1/a?x=/v2", "https://api.test/v2/../v1/a"] {
            assert!(would(url).is_ok(), "{url}");
        }
        for (url, said) in [
            ("https://api.test/v2/a", "the path /v2/a at"),
            ("https://api.test/v1/../v2", "the path /v2 at"),
            ("https://api.test/v1/%2Fa", "it has \"%2F\""),
        ] {
            let error = would(url).unwrap_err().to_string();
            assert!(error.contains(said), "{url}: {error}");
        }
        let tunnel = would_permit_tunnel(&permissions, "api.test:443").unwrap_err();
        assert!(tunnel.to_string().contains("limited to paths"), "{tunnel}");
    }

    #[test]
    fn a_tunnel_is_decided_as_the_proxy_does() {
        let said = |permissions: &Effective, authority| {
            let error = would_permit_tunnel(permissions, authority).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error}: {}", source.unwrap_or_default())
        };
        let limited = effective(GRANTED);
        let text = said(&limited, "api.test:443");
        assert!(text.contains("limited to methods"), "{text}");
        let open = effective(
            "http = [{ hosts = ['api.test', '*.b.test:8443', '10.0.0.5'], \
             addresses = ['10.0.0.0/8'] }, \
             { hosts = ['c.test'], methods = ['GET'], tunnel = true }]",
        );
        for (authority, by_name) in [
            ("API.test:443", true),
            ("x.b.test:8443", true),
            ("10.0.0.5:443", false),
            ("c.test:443", true),
        ] {
            let permitted = would_permit_tunnel(&open, authority).unwrap();
            assert_eq!(permitted.by_name, by_name, "{authority}");
        }
        for (authority, expected) in [
            ("api.test:80", "not permitted"),
            ("d.test:443", "not permitted"),
            ("api.test", "no port"),
            ("", "host:port"),
            ("user@api.test:443", "user name"),
        ] {
            let text = said(&open, authority);
            assert!(text.contains(expected), "{authority}: {text}");
        }
        let everywhere = effective("http = [{ hosts = ['*:*'] }]");
        let text = said(&everywhere, "169.254.169.254:80");
        assert!(text.contains("not public"), "{text}");
        let none = effective("cache = 'read'");
        assert!(said(&none, "api.test:443").contains("not granted"));
    }

    #[test]
    fn other_services_are_decided_as_calls_are() {
        let permissions = effective(GRANTED);
        let get = HostCall::CacheGet { key: "k".into() };
        assert!(would_permit(&permissions, &get).is_ok());
        let set = HostCall::CacheSet {
            key: "k".into(),
            value: bytes::Bytes::new(),
            ttl: None,
        };
        let refused = would_permit(&permissions, &set).unwrap_err().to_string();
        assert_eq!(refused, "cache write access not granted");
    }
}
