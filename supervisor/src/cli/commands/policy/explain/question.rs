//! What can be asked, from the text that says it.

use bytes::Bytes;
use pinfold_hostapi::{HostCall, HttpRequest};
use pinfold_policy::{Control, TUNNEL};
use pinfold_sandbox::jail::FileAccess;
use pinfold_sandbox::seccomp;

use crate::cli::exit::{Exit, Failure};

/// Something that a plugin may or may not do.
#[derive(Debug)]
pub(super) enum Question {
    Call(HostCall),
    /// Of a program in the jail, through its proxy: a host and a port.
    Tunnel(String),
    Log,
    Email,
    Syscall {
        name: String,
        arguments: Option<[u64; 6]>,
    },
    File {
        access: FileAccess,
        /// In the jail.
        path: String,
    },
    Control(Control),
}

/// A text that asks nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum QuestionError {
    #[error("{text:?} is no permission")]
    Unknown { text: String },
    #[error("{text:?}: {why}")]
    Part { text: String, why: String },
    #[error("{text:?}: there is no control {id:?}{}", .near.map_or(String::new(), |near| format!(", did you mean {near:?}?")))]
    Control {
        text: String,
        id: String,
        near: Option<&'static str>,
    },
}

impl From<QuestionError> for Failure {
    fn from(error: QuestionError) -> Self {
        let hint = match &error {
            QuestionError::Unknown { .. } => {
                "`pinfold policy explain --help` lists what can be asked"
            }
            QuestionError::Control { .. } => "`pinfold posture` lists the controls",
            QuestionError::Part { .. } => return Self::new(Exit::Usage, error),
        };
        Self::new(Exit::Usage, error).hint(hint)
    }
}

impl Question {
    pub(super) fn parse(text: &str) -> Result<Self, QuestionError> {
        let part = |why: &str| QuestionError::Part {
            text: text.to_owned(),
            why: why.to_owned(),
        };
        let unknown = || QuestionError::Unknown {
            text: text.to_owned(),
        };
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "log" => Ok(Self::Log),
            "email" => Ok(Self::Email),
            "db" => {
                let (access, table) = rest
                    .split_once(':')
                    .ok_or_else(|| part("write db:read:TABLE"))?;
                database(access, table)
                    .ok_or_else(|| part("write db:read:, db:write: or db:ddl:, and a table"))
            }
            "sql" => Ok(Self::Call(statement(None, rest.to_owned()))),
            "cache" => cache(rest).ok_or_else(|| part("write cache:read or cache:write")),
            "config" => match rest.strip_prefix("read:").unwrap_or(rest) {
                "" => Err(part("write config:KEY")),
                key => Ok(Self::Call(HostCall::ConfigGet {
                    key: key.to_owned(),
                })),
            },
            "http" if tunnel(rest).is_some() => match tunnel(rest).unwrap_or_default() {
                "" => Err(part("write http:CONNECT:host:443")),
                authority => Ok(Self::Tunnel(authority.to_owned())),
            },
            "http" => {
                let (method, url) = rest
                    .split_once(':')
                    .filter(|(method, url)| {
                        url.contains("://")
                            && !method.is_empty()
                            && method.bytes().all(|c| c.is_ascii_alphabetic())
                    })
                    .ok_or_else(|| {
                        part("write http:GET:https://host/path, or http:CONNECT:host:443")
                    })?;
                Ok(Self::Call(HostCall::HttpRequest(HttpRequest {
                    method: method.to_ascii_uppercase(),
                    url: url.to_owned(),
                    headers: Vec::new(),
                    body: Bytes::new(),
                })))
            }
            "call" => call(rest, '.').ok_or_else(|| part("write call:PLUGIN.FUNCTION")),
            "plugin" => rest
                .strip_prefix("call:")
                .and_then(|rest| call(rest, '/'))
                .ok_or_else(|| part("write plugin:call:PLUGIN/FUNCTION")),
            "syscall" => syscall(rest).map_err(|why| part(&why)),
            "file" => file(rest)
                .ok_or_else(|| part("write file:read:, file:write: or file:execute:, and a path")),
            "control" => {
                Control::from_id(rest)
                    .map(Self::Control)
                    .ok_or_else(|| QuestionError::Control {
                        text: text.to_owned(),
                        id: rest.to_owned(),
                        near: pinfold_policy::nearest(rest, Control::ALL.iter().map(|c| c.id())),
                    })
            }
            _ => match kind.strip_prefix("sql@") {
                Some(name) if !name.is_empty() => Ok(Self::Call(statement(
                    Some(name.to_owned()),
                    rest.to_owned(),
                ))),
                _ => Err(unknown()),
            },
        }
    }
}

/// What follows the method that asks a proxy for a tunnel, as `CONNECT host:443` or `CONNECT:host:443`.
/// A URL is a request's, whose method cannot be that one.
fn tunnel(rest: &str) -> Option<&str> {
    let (method, authority) = rest.split_once([':', ' ']).unwrap_or((rest, ""));
    let is_tunnel = method.eq_ignore_ascii_case(TUNNEL) && !authority.contains("://");
    is_tunnel.then_some(authority.trim())
}

/// One statement as a plugin would send it: what begins with a word that reads is a query.
fn statement(database: Option<String>, sql: String) -> HostCall {
    let first = sql.split_whitespace().next().unwrap_or_default();
    let reads = ["SELECT", "WITH", "VALUES"]
        .iter()
        .any(|word| first.eq_ignore_ascii_case(word));
    let parameters = Vec::new();
    if reads {
        HostCall::DbQuery {
            database,
            sql,
            parameters,
        }
    } else {
        HostCall::DbExec {
            database,
            sql,
            parameters,
        }
    }
}

/// A table as a statement that touches it and nothing else: `TABLE`, `TABLE@DATABASE` or
/// `DATABASE/TABLE`.
fn database(access: &str, table: &str) -> Option<Question> {
    let (database, table) = match (table.rsplit_once('@'), table.split_once('/')) {
        (Some((table, database)), _) => (Some(database.to_owned()), table),
        (None, Some((database, table))) => (Some(database.to_owned()), table),
        (None, None) => (None, table),
    };
    if table.is_empty() || database.as_ref().is_some_and(String::is_empty) {
        return None;
    }
    let name = format!("\"{}\"", table.replace('"', "\"\""));
    let sql = match access {
        "read" => format!("SELECT 1 FROM {name}"),
        "write" => format!("INSERT INTO {name} DEFAULT VALUES"),
        "ddl" => format!("CREATE TABLE {name} (a INTEGER)"),
        _ => return None,
    };
    Some(Question::Call(statement(database, sql)))
}

fn cache(rest: &str) -> Option<Question> {
    let (access, key) = rest.split_once(':').unwrap_or((rest, "key"));
    let key = key.to_owned();
    Some(Question::Call(match access {
        "read" => HostCall::CacheGet { key },
        "write" => HostCall::CacheSet {
            key,
            value: Bytes::new(),
            ttl: None,
        },
        _ => return None,
    }))
}

fn call(rest: &str, between: char) -> Option<Question> {
    let (plugin, function) = rest.split_once(between)?;
    if plugin.is_empty() || function.is_empty() {
        return None;
    }
    Some(Question::Call(HostCall::PluginCall {
        plugin: plugin.to_owned(),
        function: function.to_owned(),
        arguments: Bytes::new(),
    }))
}

fn file(rest: &str) -> Option<Question> {
    let (access, path) = rest.split_once(':')?;
    let access = match access {
        "read" => FileAccess::Read,
        "write" => FileAccess::Write,
        "execute" => FileAccess::Execute,
        _ => return None,
    };
    let path = path.to_owned();
    Some(Question::File { access, path })
}

/// `name` or `name(argument, …)`: numbers, or constants of the kernel's, or several with `|`.
fn syscall(rest: &str) -> Result<Question, String> {
    let (name, arguments) = match rest.split_once('(') {
        None => (rest, None),
        Some((name, list)) => {
            let list = list
                .strip_suffix(')')
                .ok_or("the list of arguments has no end")?;
            (name, Some(list))
        }
    };
    if name.is_empty() {
        return Err("write syscall:NAME".into());
    }
    let arguments = arguments.map(|list| {
        let mut values = [0; 6];
        let given: Vec<&str> = list
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .collect();
        if given.len() > values.len() {
            return Err("a system call has at most 6 arguments".to_owned());
        }
        for (value, text) in values.iter_mut().zip(given) {
            *value = number(text)?;
        }
        Ok(values)
    });
    Ok(Question::Syscall {
        name: name.to_owned(),
        arguments: arguments.transpose()?,
    })
}

fn number(text: &str) -> Result<u64, String> {
    text.split('|').map(str::trim).try_fold(0, |bits, part| {
        let value = match part.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => part.parse().ok().or_else(|| seccomp::constant(part)),
        };
        value.map(|value| bits | value).ok_or_else(|| {
            format!("{part:?} is neither a number nor a constant that profiles know")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_the_calls_that_a_plugin_would_make() {
        let sql = |text: &str| match Question::parse(text).unwrap() {
            Question::Call(HostCall::DbQuery { database, sql, .. }) => (false, database, sql),
            Question::Call(HostCall::DbExec { database, sql, .. }) => (true, database, sql),
            other => panic!("{other:?}"),
        };
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(
            sql("db:read:items"),
            (false, None, "SELECT 1 FROM \"items\"".into())
        );
        assert_eq!(sql("db:read:items@main").1, named("main"));
        assert_eq!(sql("db:write:main/items").1, named("main"));
        assert_eq!(sql("sql@other:DELETE FROM a").1, named("other"));
        assert!(sql("sql:delete from a").0);
        assert!(!sql("sql:with x as (select 1) select 1").0);
        for text in ["http:CONNECT:a.test:443", "http:connect a.test:443"] {
            match Question::parse(text).unwrap() {
                Question::Tunnel(authority) => assert_eq!(authority, "a.test:443"),
                other => panic!("{other:?}"),
            }
        }
        let Question::Syscall { name, arguments } =
            Question::parse("syscall:socket(AF_INET, SOCK_STREAM | 0x800)").unwrap()
        else {
            panic!();
        };
        assert_eq!(
            (name.as_str(), arguments),
            ("socket", Some([2, 0x801, 0, 0, 0, 0]))
        );
        let Question::Call(HostCall::PluginCall {
            plugin, function, ..
        }) = Question::parse("call:stats.sum.all").unwrap()
        else {
            panic!();
        };
        assert_eq!((plugin.as_str(), function.as_str()), ("stats", "sum.all"));
    }

    #[test]
    fn what_asks_nothing_is_refused_with_what_to_write() {
        for (text, said) in [
            ("", "no permission"),
            ("files:x", "no permission"),
            ("db:items", "write db:read:TABLE"),
            ("db:drop:items", "db:ddl:"),
            ("db:read:", "a table"),
            ("cache:all", "cache:read"),
            ("file:open:/x", "file:read:"),
            ("config:", "config:KEY"),
            ("http:https://a.test/", "http:GET:"),
            ("http:CONNECT", "http:CONNECT:host:443"),
            ("call:stats", "call:PLUGIN.FUNCTION"),
            ("syscall:", "syscall:NAME"),
            ("syscall:x(1", "no end"),
            ("syscall:x(AF_NOTHING)", "AF_NOTHING"),
            ("syscall:x(1,2,3,4,5,6,7)", "at most 6"),
            ("control:landlok", "did you mean \"landlock\"?"),
        ] {
            let error = Question::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
