use super::*;

fn permissions(text: &str) -> Permissions {
    toml::from_str(text).unwrap()
}

fn effective(granted: &str, asked: &[&str]) -> Effective {
    Effective::new(
        permissions(granted),
        asked.iter().map(|text| permissions(text)).collect(),
    )
}

const ITEMS: &str = r#"db = [{ tables = ["items"], access = "read" }]"#;

#[test]
fn a_table_needs_both_the_grant_and_the_asking() {
    let both = effective(ITEMS, &[ITEMS]);
    assert_eq!(both.database("main", Access::Read, ["items"]), Ok(()));
    let refusal = both
        .database("main", Access::Read, ["items", "users"])
        .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        r#"access to table "users" not permitted (allowed: [items])"#
    );
    assert_eq!(refusal.permission(), "db:read:main/users");
    assert_eq!(
        both.database("main", Access::Write, ["items"])
            .unwrap_err()
            .to_string(),
        "database write access not granted"
    );
    assert!(both.database("other", Access::Read, ["items"]).is_err());
    assert!(
        effective(ITEMS, &[])
            .database("main", Access::Read, ["items"])
            .is_err()
    );
    assert!(
        effective("", &[ITEMS])
            .database("main", Access::Read, ["items"])
            .is_err()
    );
}

#[test]
fn either_place_of_asking_counts() {
    let wide = r#"db = [{ tables = ["*"], access = "readwrite" }]"#;
    let late = effective(
        wide,
        &[ITEMS, r#"db = [{ tables = ["notes"], access = "write" }]"#],
    );
    assert_eq!(late.database("main", Access::Read, ["items"]), Ok(()));
    assert_eq!(late.database("main", Access::Write, ["notes"]), Ok(()));
    assert!(late.database("main", Access::Write, ["items"]).is_err());
}

#[test]
fn schema_changes_need_a_grant_that_says_so() {
    let write = r#"db = [{ tables = ["*"], access = "readwrite" }]"#;
    let ddl = r#"db = [{ tables = ["gk_*"], access = "readwrite", ddl = true }]"#;
    assert_eq!(
        effective(write, &[write])
            .ddl("main", ["gk_a"])
            .unwrap_err()
            .to_string(),
        "DDL statements not permitted"
    );
    assert_eq!(effective(ddl, &[write]).ddl("main", ["gk_a"]), Ok(()));
    assert!(effective(ddl, &[write]).ddl("main", ["items"]).is_err());
}

#[test]
fn a_sensitive_key_needs_a_pattern_that_looks_sensitive() {
    let star = effective("config = ['*']", &["config = ['*']"]);
    assert_eq!(star.config("app.name"), Ok(()));
    assert!(star.config("smtp.host").is_err());
    assert!(star.config("API_TOKEN").is_err());
    let named = effective("config = ['smtp.*']", &["config = ['smtp.host']"]);
    assert_eq!(named.config("smtp.host"), Ok(()));
    assert!(named.config("smtp.password").is_err());
    for wide in [
        "*",
        "**",
        "*.*",
        "*a*",
        "s*",
        "smtp*",
        "*host",
        "smt*p.*",
        "*pass*word*",
        "app.*",
    ] {
        let granted = format!("config = ['{wide}']");
        let wide = effective(&granted, &["config = ['*secret*', '*.*', 'smtp.*']"]);
        for key in ["smtp.host", "smtp.password", "app.secret", "a.API_TOKEN"] {
            assert!(wide.config(key).is_err(), "{granted} {key}");
        }
    }
    for (named, key) in [
        ("smtp.host", "SMTP.Host"),
        ("SMTP.*", "smtp.password"),
        ("*secret*", "app.secret"),
        ("app.*_key", "app.api_key"),
    ] {
        let granted = format!("config = ['app.na*', '{named}']");
        let named = effective(&granted, &[granted.as_str()]);
        assert_eq!(named.config(key), Ok(()), "{granted} {key}");
        assert_eq!(named.config("app.name"), Ok(()));
    }
    // What asks is held to the same.
    let asked = effective("config = ['app.secret']", &["config = ['app.*']"]);
    assert!(asked.config("app.secret").is_err());
}

#[test]
fn a_host_needs_both_the_grant_and_the_asking_and_networks_the_grant() {
    let granted = r#"http = [{ hosts = ["api.test", "in.test:8443"], addresses = ["10.0.0.0/8"] },
        { hosts = ["*.test"], methods = ["GET"] }]"#;
    let asked = r#"http = [{ hosts = ["api.test"] }, { hosts = ["in.test"] }]"#;
    let both = effective(granted, &[asked]);
    let target = |method, host, port| HttpTarget {
        method,
        host,
        port,
        default_port: port == 443,
        path: "/",
        url: "u",
    };
    let ten: Vec<Network> = vec!["10.0.0.0/8".parse().unwrap()];
    assert_eq!(
        both.http_target(&target("POST", "api.test", 443)),
        Ok(ten.clone())
    );
    assert_eq!(both.http_target(&target("GET", "in.test", 8443)), Ok(ten));
    assert_eq!(both.http_target(&target("GET", "in.test", 443)), Ok(vec![]));
    for (method, host, port) in [
        ("POST", "in.test", 443),
        ("GET", "api.test", 8443),
        ("GET", "other.test", 443),
    ] {
        let refusal = both.http_target(&target(method, host, port)).unwrap_err();
        assert_eq!(refusal.permission(), format!("http:{method}:{host}:{port}"));
    }
    let refusal = both
        .http_target(&target("GET", "x.example", 443))
        .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        r#"HTTP access to "u" not permitted (allowed: [api.test in.test:8443 *.test])"#
    );
    let refusal = effective("", &[asked]).http_target(&target("GET", "api.test", 443));
    assert_eq!(refusal, Err(Refusal::Http));
}

#[test]
fn a_tunnel_that_is_refused_says_what_its_grant_lacks() {
    let granted = "http = [{ hosts = ['a.test'], methods = ['GET'] }]";
    let both = effective(granted, &["http = [{ hosts = ['*'] }]"]);
    let tunnel = |host| HttpTarget {
        method: TUNNEL,
        host,
        port: 443,
        default_port: true,
        path: "/",
        url: host,
    };
    let limited = both.http_target(&tunnel("a.test")).unwrap_err();
    assert_eq!(
        limited.to_string(),
        r#"a tunnel to "a.test:443" is not permitted (its grant is limited to methods)"#
    );
    assert_eq!(limited.permission(), "http:CONNECT:a.test:443");
    let other = both.http_target(&tunnel("b.test")).unwrap_err();
    assert!(matches!(other, Refusal::HttpTarget { .. }), "{other}");
    let tunnelled = granted.replace("['GET']", "['GET'], tunnel = true");
    let both = effective(&tunnelled, &["http = [{ hosts = ['*'] }]"]);
    assert_eq!(both.http_target(&tunnel("a.test")), Ok(vec![]));
    let lines: Vec<String> = toml::from_str::<Permissions>(&tunnelled)
        .unwrap()
        .lines()
        .into_iter()
        .collect();
    assert_eq!(lines, ["http:CONNECT:a.test", "http:GET:a.test"]);
    for (limits, said) in [
        ("paths = ['/a']", "paths"),
        ("methods = ['GET'], paths = ['/a']", "methods and paths"),
    ] {
        let granted = granted.replace("methods = ['GET']", limits);
        let limited = effective(&granted, &["http = [{ hosts = ['*'] }]"]);
        let refused = limited.http_target(&tunnel("a.test")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                r#"a tunnel to "a.test:443" is not permitted (its grant is limited to {said})"#
            )
        );
    }
}

#[test]
fn a_path_that_is_refused_is_named_and_cut() {
    let granted = "http = [{ hosts = ['a.test'], methods = ['GET'], paths = ['/v1/**', '/x'] }]";
    let both = effective(granted, &["http = [{ hosts = ['*'] }]"]);
    let at = |method: &str, path: &str| {
        let target = HttpTarget {
            method,
            host: "a.test",
            port: 443,
            default_port: true,
            path,
            url: "u",
        };
        both.http_target(&target)
    };
    assert_eq!(at("GET", "/v1/a"), Ok(vec![]));
    let refused = at("GET", "/v2").unwrap_err();
    assert_eq!(
        refused.to_string(),
        r#"HTTP access to the path /v2 at "a.test:443" not permitted (allowed: [/v1/** /x])"#
    );
    assert_eq!(refused.permission(), "http:GET:a.test:443/v2");
    let refused = at("GET", "/v1/%2E%2e%2Fv2").unwrap_err();
    assert_eq!(
        refused.to_string(),
        r#"HTTP access to the path /v1/%2E%2e%2Fv2 at "a.test:443" not permitted (it has "%2E": it is a dot to every server, and its grant is limited to paths)"#
    );
    assert_eq!(refused.permission(), "http:GET:a.test:443/v1/%2E%2e%2Fv2");
    let long = format!("/{}", "a".repeat(8_000));
    let long = at("GET", &long).unwrap_err();
    assert!(long.permission().len() < 250 && long.permission().ends_with('…'));
    assert!(long.to_string().len() < 350);
    // Another method is not a matter of the path.
    let post = at("POST", "/v1/a").unwrap_err();
    assert!(matches!(post, Refusal::HttpTarget { .. }), "{post}");
    // What is asked for may be limited too.
    let asked = "http = [{ hosts = ['a.test'], paths = ['/x'] }]";
    let both = effective("http = [{ hosts = ['a.test'] }]", &[asked]);
    let target = HttpTarget {
        method: "GET",
        host: "a.test",
        port: 443,
        default_port: true,
        path: "/y",
        url: "u",
    };
    let refused = both.http_target(&target).unwrap_err();
    assert_eq!(refused.permission(), "http:GET:a.test:443/y");
}

#[test]
fn cache_directions_are_told_apart() {
    let read = effective("cache = 'read'", &["cache = 'readwrite'"]);
    assert_eq!(read.cache("get"), Ok(()));
    assert_eq!(
        read.cache("set").unwrap_err().to_string(),
        "cache write access not granted"
    );
    assert_eq!(
        effective("", &[]).cache("get").unwrap_err().to_string(),
        "cache access not granted"
    );
}

#[test]
fn a_refusal_repeats_the_first_patterns_and_says_how_many_more_there_are() {
    let tables: Vec<String> = (0..1_000).map(|n| format!("'table_{n:03}'")).collect();
    let asked = format!(
        "db = [{{ tables = [{}], access = 'read' }}]",
        tables.join(",")
    );
    let wide = "db = [{ tables = ['*'], access = 'read' }]";
    let refused = effective(wide, &[&asked])
        .database("main", Access::Read, ["table_007", "users"])
        .unwrap_err()
        .to_string();
    let head = r#"access to table "users" not permitted (allowed: [table_000 table_001 "#;
    assert!(refused.starts_with(head), "{refused}");
    // Ten bytes each.
    assert!(refused.ends_with(" table_101 and 898 more])"), "{refused}");

    let hosts = asked.replace("tables", "hosts").replace("db", "http");
    let hosts = hosts.replace(", access = 'read'", "");
    let both = effective("http = [{ hosts = ['*'] }]", &[&hosts]);
    let target = HttpTarget {
        method: "GET",
        host: "a.test",
        port: 443,
        default_port: true,
        path: "/",
        url: "u",
    };
    let refused = both.http_target(&target).unwrap_err().to_string();
    assert!(refused.ends_with(" and 898 more])"), "{refused}");

    let calls: Vec<String> = tables.iter().map(|name| name.replace('_', "/")).collect();
    let calls = format!("plugin-call = [{}]", calls.join(","));
    let both = effective("plugin-call = ['*']", &[&calls]);
    let refused = both.plugin_call("other", "f").unwrap_err().to_string();
    assert!(refused.ends_with(" and 898 more])"), "{refused}");
}

/// What a plugin asks for is its own to write, and so is what it compares it with.
#[test]
fn what_is_asked_for_is_compared_at_once_whatever_it_is() {
    let asked: Vec<String> = (0..139)
        .map(|n| format!("'*{}b{n}*'", "a".repeat(30_000)))
        .collect();
    let asked = format!(
        "db = [{{ tables = [{}], access = 'read' }}]",
        asked.join(",")
    );
    let granted = "db = [{ tables = ['gk_*'], access = 'read' }]";
    let table = format!("gk_{}", "a".repeat(60_000));
    let refused = effective(granted, &[&asked])
        .database("main", Access::Read, [table.as_str()])
        .unwrap_err();
    let Refusal::Table { allowed, .. } = refused else {
        panic!("another refusal");
    };
    assert_eq!(allowed, ["and 139 more"]);
}
