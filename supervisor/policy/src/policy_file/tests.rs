use super::*;

const SAMPLE: &str = r#"
schema = 1
dialect = "goatflow"
entry = "hello"
args = []
[trust]
unsigned = true
[permissions]
db = [{ database = "main", tables = ["items"], access = "read" }]
cache = "readwrite"
http = [{ hosts = ["api.example.com"], methods = ["GET"] }]
[limits]
memory = "256MiB"
cpu = "100%"
processes = 64
[timeouts]
call = "30s"
[controls]
memory = "required"
[env]
"#;

fn with(from: &str, to: &str) -> Result<PolicyFile, PolicyError> {
    assert!(SAMPLE.contains(from));
    PolicyFile::parse(SAMPLE.replace(from, to).as_bytes())
}

#[test]
fn processors_are_written_as_the_kernel_writes_them() {
    // Of /proc/PID/status, Cpus_allowed_list, on machines with as many.
    for (numbers, text) in [
        (vec![], "all"),
        (vec![2], "2"),
        (vec![3, 0, 1], "0-1,3"),
        (vec![0, 1, 2, 3, 8, 1023], "0-3,8,1023"),
    ] {
        let limits = Limits {
            cpu_affinity: numbers,
            ..Limits::default()
        };
        assert_eq!(limits.processors(), text);
    }
}

#[test]
fn a_list_of_no_processors_is_refused_with_what_is_meant_by_none() {
    let error = with("processes = 64", "cpu-affinity = []").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("line 15"), "{text}");
    assert!(
        text.contains("name at least one, or take the key away"),
        "{text}"
    );
}

#[test]
fn making_code_is_forbidden_by_default_but_to_node() {
    let wanted = |more: &str| {
        let text = format!(
            "schema = 1\ndialect = 'goatflow'\nentry = 'x'\n{more}\n[trust]\nunsigned = true\n"
        );
        let policy = PolicyFile::parse(text.as_bytes()).unwrap();
        policy.wanted(Control::WriteXorExecute)
    };
    assert_eq!(wanted(""), Wanted::Preferred);
    assert_eq!(wanted("profile = 'node'"), Wanted::Off);
}

#[test]
fn the_documented_example_is_read_and_written_back_the_same() {
    let policy = PolicyFile::parse(SAMPLE.as_bytes()).unwrap();
    assert_eq!(policy.limits.processes, 64);
    assert_eq!(policy.timeouts.init, Span::seconds(10));
    assert_eq!(policy.wanted(Control::Seccomp), Wanted::Required);
    assert_eq!(PolicyFile::parse(policy.to_toml().as_bytes()), Ok(policy));
}

#[test]
fn faults_are_refused_with_their_place() {
    for (from, to, text) in [
        (
            "schema = 1",
            "schema = 2",
            "schema is 2, this version reads 1",
        ),
        (
            "memory = \"256MiB\"",
            "memroy = \"1GiB\"",
            r#"line 13: unknown key "limits.memroy", did you mean "memory"?"#,
        ),
        (
            "unsigned = true",
            "",
            "[trust] needs exactly one of digest, unsigned = true and signed-by, has 0",
        ),
        (
            "\"hello\"",
            "\"../hello\"",
            r#"entry "../hello" is no path below the plugin's directory"#,
        ),
        (
            "\"hello\"",
            "\"/bin/sh\"",
            r#"entry "/bin/sh" is no path below the plugin's directory"#,
        ),
        (
            "\"hello\"",
            "\"hello.sig\"",
            r#"entry "hello.sig" is a signature, and those are in no stage"#,
        ),
        (
            "processes = 64",
            "processes = 1",
            "limits.processes is 1: write 4 to 32768",
        ),
        (
            "memory = \"required\"",
            "secomp = \"required\"",
            r#"[controls] has no "secomp", did you mean "seccomp"?"#,
        ),
        (
            "memory = \"required\"",
            "seccomp = \"off\"",
            "[controls] seccomp cannot be off: only limits can be lowered",
        ),
        (
            "memory = \"required\"",
            "memory = \"off\"",
            "[controls] memory cannot be off without i-accept-the-risk = \"reason\"",
        ),
        (
            "[env]",
            "[env]\nLD_PRELOAD = \"x\"",
            r#"[env] may not set "LD_PRELOAD": it changes what code is loaded"#,
        ),
        (
            "[env]",
            "[env]\nPLUGIN_CLIENT_CERT = \"x\"",
            r#"[env] may not set "PLUGIN_CLIENT_CERT": the handshake's variables are the host's"#,
        ),
    ] {
        assert_eq!(with(from, to).unwrap_err().to_string(), text);
    }
}

#[test]
fn what_would_be_written_as_other_lines_or_look_like_another_word_is_refused() {
    for (from, to, path, said) in [
        (
            "\"hello\"",
            r#""he\nllo""#,
            "entry",
            r#"entry is "he\nllo": "#,
        ),
        (
            "\"main\"",
            r#""ma\u0007in""#,
            "permissions.db[0].database",
            r#"permissions.db.database is "ma\u{7}in": "#,
        ),
        (
            "\"items\"",
            r#""items", "b\n[trust]\nunsigned = true""#,
            "permissions.db[0].tables[1]",
            r#"permissions.db.tables is "b\n[trust]\nunsigned = true": "#,
        ),
        (
            "cache = \"readwrite\"",
            r#"config = ["app.*", "x\u202ey"]"#,
            "permissions.config[1]",
            r#"permissions.config is "x\u{202e}y": "#,
        ),
        (
            "cache = \"readwrite\"",
            r#"email = ["@a\u2028b"]"#,
            "permissions.email[0]",
            r#"permissions.email is "@a\u{2028}b": "#,
        ),
        (
            "cache = \"readwrite\"",
            r#"plugin-call = ["stats\u001b"]"#,
            "permissions.plugin-call[0]",
            r#"permissions.plugin-call is "stats\u{1b}": "#,
        ),
        (
            "api.example.com",
            r"a\u001b.test",
            "permissions.http[0]",
            r"permissions.http is a\u{1b}.test: ",
        ),
    ] {
        assert!(SAMPLE.contains(from));
        let faults = PolicyFile::faults_of(SAMPLE.replace(from, to).as_bytes());
        let [fault] = faults.as_slice() else {
            panic!("{to}: {faults:?}");
        };
        let error = fault.error.to_string();
        assert_eq!(fault.path, path, "{error}");
        assert!(error.starts_with(said), "{error}");
    }
    // Others of the world's scripts are shown.
    let shown = with("\"items\"", "\"büro\", \"таблица\", \"表_*\"").unwrap();
    assert_eq!(shown.permissions.db[0].tables.len(), 3);
}

#[test]
fn reads_and_writes_are_limited_where_the_policy_says_how_much() {
    let none = with("[env]", "").unwrap();
    assert_eq!(none.wanted(Control::Io), Wanted::Off);
    assert_eq!(none.limits.io.to_string(), "unlimited");
    let some = with(
        "processes = 64",
        "processes = 64\nio = { write = \"1MiB\", read-ops = 50 }",
    )
    .unwrap();
    assert_eq!(some.wanted(Control::Io), Wanted::Preferred);
    assert_eq!(some.limits.io.to_string(), "write 1MiB/s, 50 reads/s");
    assert_eq!(PolicyFile::parse(some.to_toml().as_bytes()), Ok(some));
    for (from, to, text) in [
        (
            "processes = 64",
            "io = { write = \"1KiB\" }",
            "limits.io.write is 1KiB: write at least 64KiB, a second",
        ),
        (
            "processes = 64",
            "io = { read-ops = 0 }",
            "limits.io.read-ops is 0: write at least 10, a second",
        ),
        (
            "memory = \"required\"",
            "io = \"required\"",
            "limits.io is absent: [controls] requires io: say how much",
        ),
    ] {
        assert_eq!(with(from, to).unwrap_err().to_string(), text);
    }
}

#[test]
fn a_limit_can_be_lowered_with_a_reason() {
    let policy = with(
        "memory = \"required\"",
        "memory = { wanted = \"preferred\", i-accept-the-risk = \"no delegation\" }",
    )
    .unwrap();
    assert_eq!(policy.wanted(Control::Memory), Wanted::Preferred);
    assert!(policy.to_toml().contains("no delegation"));
}

#[test]
fn every_key_is_in_the_reference_and_its_example_is_read() {
    let reference = include_str!("../../../../docs/policy.md");
    for (table, keys) in KEYS {
        for key in *keys {
            let named = [
                format!("`{table}.{key}`"),
                format!("`{key}`"),
                format!("{key} = "),
                format!("[{key}]"),
                format!("`{key}."),
            ];
            assert!(
                named.iter().any(|form| reference.contains(form)),
                "{table}.{key} is not named"
            );
        }
    }
    let example = reference
        .split("```toml")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let digest = "0123456789abcdef".repeat(4);
    let example = example
        .unwrap()
        .replace("sha256:…", &format!("sha256:{digest}"));
    assert_eq!(
        PolicyFile::parse(example.as_bytes()).map(|policy| policy.entry),
        Ok("hello".into())
    );
}
