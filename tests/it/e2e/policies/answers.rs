//! `pinfold policy show`, `diff`, `explain` and `schema`.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::{Installation, MANIFEST, POLICY};

/// Value, file and line of each row, by section and key.
fn rows(shown: &Value) -> BTreeMap<(String, String), (String, String, Option<u64>)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let sections = shown["sections"].as_array().unwrap();
    let all = sections.iter().flat_map(|section| {
        let rows = section["rows"].as_array().unwrap();
        rows.iter().map(|row| {
            let origin = &row["origin"];
            let from = match &origin["file"] {
                Value::String(file) => file.rsplit('/').next().unwrap().to_owned(),
                _ => text(&origin["kind"]),
            };
            (
                (text(&section["title"]), text(&row["key"])),
                (text(&row["value"]), from, origin["line"].as_u64()),
            )
        })
    });
    all.collect()
}

#[test]
fn every_value_is_shown_with_its_line() {
    let installation = Installation::new();
    let (status, shown) = installation.json(&["show", "hello"]);
    assert_eq!(status, 0);
    let rows = rows(&shown);
    for (section, key, value, from, line) in [
        ("program", "entry", "hello", "hello.toml", Some(3)),
        ("program", "profile", "default", "default", None),
        ("trust", "trust.unsigned", "true", "hello.toml", Some(5)),
        ("trust", "require-signatures", "false", "default", None),
        (
            "permissions",
            "db:read:main/notes",
            "granted",
            "hello.toml",
            Some(8),
        ),
        (
            "permissions",
            "http:GET:api.example.com",
            "granted",
            "hello.toml",
            Some(11),
        ),
        ("limits", "limits.memory", "64MiB", "hello.toml", Some(14)),
        ("limits", "limits.processes", "64", "default", None),
        ("times", "timeouts.call", "30s", "default", None),
        (
            "rates",
            "rates.host-calls-per-second",
            "1000",
            "default",
            None,
        ),
        (
            "rates",
            "rates.calls-per-second",
            "unlimited",
            "default",
            None,
        ),
        (
            "controls",
            "controls.landlock",
            "required",
            "hello.toml",
            Some(16),
        ),
        ("controls", "controls.seccomp", "required", "default", None),
        ("environment", "COLOUR", "blue", "hello.toml", Some(18)),
        (
            "environment",
            "HTTP_PROXY",
            "http://127.0.0.1:3128",
            "template",
            Some(38),
        ),
        ("syscall profile", "name", "default", "profile", Some(12)),
    ] {
        let expected = (value.to_owned(), from.to_owned(), line);
        let key = (section.to_owned(), key.to_owned());
        assert_eq!(rows.get(&key), Some(&expected), "{key:?}");
    }
    let (_, from, line) = &rows[&("jail".into(), "tmp-directory".into())];
    assert!(from == "template" && line.is_some(), "{shown}");
    let (status, text) = installation.people(&["show", "hello"]);
    assert_eq!(status, 0);
    assert!(text.contains("hello.toml:14"), "{text}");
    assert_eq!(installation.people(&["show", "nobody"]).0, 66);
}

#[test]
fn asked_is_compared_with_granted() {
    let installation = Installation::new();
    let (status, difference) = installation.json(&["diff", "hello"]);
    assert_eq!(status, 1);
    let permissions = &difference["sections"][0];
    assert_eq!(permissions["title"], "permissions");
    assert_eq!(
        permissions["removed"],
        json!(["cache:write", "http:*:api.example.com"])
    );
    assert_eq!(
        permissions["added"],
        json!([
            "db:read:main/notes",
            "http:GET:api.example.com",
            "plugin:call:stats/sum"
        ])
    );
    assert_eq!(
        permissions["same"],
        json!(["cache:read", "db:read:main/items"])
    );
    let same = "schema = 1\ndialect = \"goatflow\"\nentry = \"hello\"\n[trust]\nunsigned = true\n\
                [permissions]\ncache = \"readwrite\"\nhttp = [{ hosts = [\"api.example.com\"] }]\n\
                db = [{ tables = [\"items\"], access = \"read\" }]\n[limits]\nmemory = \"64MiB\"\n";
    installation.policy(same);
    let (status, text) = installation.people(&["diff", "hello"]);
    assert_eq!(status, 0, "{text}");
    assert_eq!(installation.people(&["diff", "nobody"]).0, 2);
}

#[test]
fn paths_are_shown_compared_and_explained() {
    let installation = Installation::new();
    let limited = "methods = [\"GET\"], paths = [\"/v1/**\", \"/x\"]";
    let policy = POLICY.replace("methods = [\"GET\"]", limited);
    installation.policy(&policy);
    let (status, shown) = installation.json(&["show", "hello"]);
    assert_eq!(status, 0);
    let rows = rows(&shown);
    for path in ["/v1/**", "/x"] {
        let key = format!("http:GET:api.example.com{path}");
        let (_, from, line) = &rows[&("permissions".into(), key)];
        assert_eq!((from.as_str(), *line), ("hello.toml", Some(11)), "{path}");
    }
    let (status, difference) = installation.json(&["diff", "hello"]);
    assert_eq!(status, 1);
    let added = difference["sections"][0]["added"].to_string();
    assert!(added.contains("http:GET:api.example.com/v1/**"), "{added}");
    let old = installation.write("old.toml", &policy);
    let new = installation.write("new.toml", &policy.replace("/x", "/y"));
    let (_, text) = installation.people(&["diff", old.to_str().unwrap(), new.to_str().unwrap()]);
    let lines = "  - http:GET:api.example.com/x\n  + http:GET:api.example.com/y\n";
    assert!(text.contains(lines), "{text}");

    for (url, is_allowed, said) in [
        ("https://api.example.com/v1/a?b", true, "granted"),
        ("https://api.example.com/v2/../v1/a", true, "granted"),
        ("https://api.example.com/v2/a", false, "the path /v2/a"),
        ("https://api.example.com/v1/..%2fa", false, "it has \"%2f\""),
    ] {
        let asked = format!("http:GET:{url}");
        let (status, answer) = installation.json(&["explain", "hello", &asked]);
        assert_eq!(status, i32::from(!is_allowed), "{url}: {answer}");
        let why = answer["why"].as_str().unwrap();
        assert!(why.contains(said), "{url}: {answer}");
    }
    let tunnel = ["explain", "hello", "http:CONNECT:api.example.com:443"];
    let (_, text) = installation.people(&tunnel);
    assert!(text.contains("limited to methods and paths"), "{text}");
    installation.policy(&policy.replace(limited, &format!("{limited}, tunnel = true")));
    assert_eq!(installation.people(&tunnel).0, 0);
    let (_, found) = installation.json(&["check", "hello"]);
    let found = found.to_string();
    for rule in ["tunnel-hides-methods", "tunnel-hides-paths"] {
        assert!(found.contains(rule), "{rule}: {found}");
    }
}

#[test]
fn two_versions_are_compared() {
    let installation = Installation::new();
    let old = installation.write("old.toml", POLICY);
    let changed = POLICY
        .replace("\"blue\"", "\"red\"")
        .replace("cache = \"read\"", "cache = \"write\"");
    let new = installation.write("new.toml", &changed);
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    let (status, text) = installation.people(&["diff", old, new]);
    assert_eq!(status, 1);
    for line in [
        "  - cache:read\n  + cache:write\n",
        "  - COLOUR=\"blue\"\n  + COLOUR=\"red\"\n",
        "  = db:read:main/items\n",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    assert_eq!(installation.people(&["diff", old, old]).0, 0);

    // The same hosts, methods and networks, and one method more in the grant that has the networks.
    let grants = |near: &str| {
        let near = format!("methods = [{near}], addresses = [\"10.0.0.0/8\"]");
        let other = r#"{ hosts = ["api.example.com"], methods = ["POST"] }"#;
        POLICY
            .replace("methods = [\"GET\"]", &near)
            .replace("http = [", &format!("http = [{other}, "))
    };
    let one = installation.write("one.toml", &grants("\"GET\""));
    let both = installation.write("both.toml", &grants("\"GET\", \"POST\""));
    let (status, text) =
        installation.people(&["diff", one.to_str().unwrap(), both.to_str().unwrap()]);
    assert_eq!(status, 1, "{text}");
    let line = "  + http:address:10.0.0.0/8:POST:api.example.com\n";
    assert!(text.contains(line), "{text}");

    assert_eq!(installation.people(&["diff", old, "absent.toml"]).0, 2);
    assert_eq!(installation.people(&["diff", old, "plugins/hello"]).0, 2);

    installation.write("v2/hello", "#!/bin/sh\n");
    installation.write(
        "v2/plugin.yaml",
        &MANIFEST
            .replace("1.0.0", "2.0.0")
            .replace("[items]", "[items, users]"),
    );
    let (status, difference) = installation.json(&["diff", "plugins/hello", "v2"]);
    assert_eq!(status, 1);
    assert_eq!(
        difference["sections"][0]["added"],
        json!(["db:read:main/users"])
    );
    assert_eq!(
        difference["sections"][1]["removed"],
        json!(["version 1.0.0"])
    );
    let files = difference["sections"][3]["added"].to_string();
    assert!(
        files.contains("plugin.yaml") && files.contains("hello (10 bytes"),
        "{files}"
    );
}

#[test]
fn a_permission_is_explained_by_the_line_that_decides() {
    let installation = Installation::new();
    // Permission, whether it is allowed, and the line of the policy that it rests on.
    for (permission, is_allowed, line) in [
        ("db:read:items", true, Some(8)),
        ("db:read:main/items", true, Some(8)),
        ("db:read:items@other", false, None),
        ("db:write:items", false, None),
        ("db:read:notes", false, Some(8)),
        ("db:ddl:items", false, None),
        ("sql:SELECT * FROM items WHERE id = 1", true, Some(8)),
        ("sql:SELECT * FROM items, users", false, None),
        ("sql:PRAGMA user_version", false, None),
        ("cache:read", true, Some(10)),
        ("cache:write", false, None),
        ("config:app.name", false, None),
        ("http:GET:https://api.example.com/x?y=1", true, Some(11)),
        ("http:CONNECT:api.example.com:443", false, None),
        ("http:POST:https://api.example.com/", false, None),
        ("http:GET:https://api.example.com:8443/", false, None),
        ("http:GET:http://169.254.169.254/", false, None),
        ("http:GET:file:///etc/passwd", false, None),
        ("call:stats.sum", false, Some(12)),
        ("call:stats.all", false, None),
        ("log", true, None),
        ("email:send:a@example.com", false, None),
        ("syscall:read", true, None),
        ("syscall:io_uring_setup", false, None),
        ("syscall:mount", false, None),
        ("syscall:socket(AF_INET, SOCK_STREAM, 0)", true, None),
        ("syscall:socket(AF_NETLINK, SOCK_DGRAM, 0)", false, None),
        ("syscall:socket", true, None),
        ("syscall:clone(CLONE_NEWUSER)", false, None),
        ("file:write:/state/x", true, None),
        ("file:write:/app/data/plugins/hello/x", true, None),
        ("file:execute:/plugin/hello", true, None),
        ("file:execute:/tmp/x", false, None),
        ("file:write:/plugin/hello", false, None),
        ("file:read:/root/.ssh/id_rsa", false, None),
        ("control:landlock", false, Some(16)),
        ("control:seccomp", false, None),
        ("control:cpu", true, None),
    ] {
        let (status, answer) = installation.json(&["explain", "hello", permission]);
        assert_eq!(status, i32::from(!is_allowed), "{permission}: {answer}");
        let decision = if is_allowed { "allowed" } else { "refused" };
        assert_eq!(answer["decision"], decision, "{permission}: {answer}");
        let by = answer["by"].as_array().unwrap();
        let of_policy: Vec<u64> = by
            .iter()
            .filter(|origin| origin["kind"] == "policy")
            .filter_map(|origin| origin["line"].as_u64())
            .collect();
        assert_eq!(
            of_policy,
            line.into_iter().collect::<Vec<_>>(),
            "{permission}: {answer}"
        );
        assert!(!by.is_empty(), "{permission}: {answer}");
    }
    // What the kernel executes for a script is in its first line.
    let asked = ["explain", "hello", "file:execute:/plugin/lib/run"];
    assert_eq!(installation.people(&asked).0, 1);
    installation.write("plugins/hello/lib/run", "");
    installation.write("plugins/hello/hello", "#!/plugin/lib/run\n");
    assert_eq!(installation.people(&asked).0, 0);
    let (_, text) = installation.people(&["explain", "hello", "db:read:notes"]);
    assert!(text.contains("not asked for by the manifest"), "{text}");
    let (_, text) = installation.people(&["explain", "hello", "db:write:items"]);
    assert!(
        text.contains("hello.toml:8: { tables = [\"items\", \"notes\"]"),
        "{text}"
    );
    let (_, text) = installation.people(&["explain", "hello", "syscall:io_uring_setup"]);
    assert!(text.contains("@probe") && text.contains("ENOSYS"), "{text}");
    for arguments in [
        ["explain", "hello", "nothing"],
        ["explain", "hello", "syscall:reed"],
        ["explain", "hello", "file:read:../x"],
        ["explain", "hello", "control:landlok"],
        ["explain", "nobody", "cache:read"],
    ] {
        let (status, text) = installation.people(&arguments);
        assert_eq!(status, 2, "{arguments:?}: {text}");
    }
}

#[test]
fn the_schema_that_is_printed_is_the_one_that_is_documented() {
    let installation = Installation::new();
    let output = installation.pinfold(&["policy", "schema"]);
    let documented = pinfold_tests::repository().join("docs/policy.schema.json");
    assert!(output.status.success());
    assert_eq!(output.stdout, fs::read(documented).unwrap());
}
