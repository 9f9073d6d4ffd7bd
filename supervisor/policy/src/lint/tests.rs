use proptest::prelude::*;

use super::*;

const CLEAN: &str = r#"schema = 1
dialect = "goatflow"
entry = "hello"
[trust]
digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
[permissions]
db = [{ tables = ["items"], access = "read" }]
http = [{ hosts = ["api.example.com"], methods = ["GET"] }]
[limits]
memory = "256MiB"
[controls]
landlock = "required"
"#;

/// Rule, severity and text at the place of each finding, with a part of the file changed.
fn found(from: &str, to: &str) -> Vec<(&'static str, Severity, String)> {
    assert!(CLEAN.contains(from), "{from}");
    let linted = lint(CLEAN.replace(from, to).as_bytes());
    let is_error = |finding: &Finding| finding.severity == Severity::Error;
    assert_eq!(
        linted.policy.is_none(),
        linted.findings.iter().any(is_error)
    );
    let told = linted.findings.iter().map(|finding| {
        let place = finding.place.unwrap();
        let line = linted.places.line(place.line).chars();
        let text = line.skip(place.column - 1).take(place.length).collect();
        (finding.rule.id(), finding.severity, text)
    });
    told.collect()
}

#[test]
fn a_narrow_policy_has_no_findings() {
    assert_eq!(found("schema = 1", "schema = 1"), []);
}

#[test]
fn what_is_refused_is_an_error_at_its_place() {
    for (from, to, rule, text) in [
        ("schema = 1", "schema = ", "syntax", ""),
        ("schema = 1", "schema = '1'", "syntax", "'1'"),
        ("schema = 1", "schema = 7", "value", "7"),
        ("memory = \"256MiB\"", "memroy = 1", "unknown-key", "memroy"),
        ("memory = \"256MiB\"", "processes = 1", "value", "1"),
        ("memory = \"256MiB\"", "tmp = \"1GiB\"", "value", "\"1GiB\""),
        ("\"hello\"", "\"/bin/sh\"", "value", "\"/bin/sh\""),
        (
            "[permissions]",
            "unsigned = true\n[permissions]",
            "trust-kinds",
            "[trust]",
        ),
        ("landlock", "landlok", "control-unknown", "\"required\""),
        (
            "landlock = \"required\"",
            "seccomp = \"off\"",
            "control-refused",
            "\"off\"",
        ),
        (
            "landlock = \"required\"",
            "memory = \"off\"",
            "control-refused",
            "\"off\"",
        ),
        (
            "api.example.com",
            "http://a.test",
            "value",
            "{ hosts = [\"http://a.test\"], methods = [\"GET\"] }",
        ),
    ] {
        let expected = (rule, Severity::Error, text.to_owned());
        assert_eq!(found(from, to), [expected], "{to}");
    }
}

#[test]
fn every_fault_of_a_file_is_told_at_once() {
    let text = CLEAN
        .replace("schema = 1", "schema = 2")
        .replace("\"256MiB\"", "\"1MiB\"");
    let rules: Vec<usize> = lint(text.as_bytes())
        .findings
        .iter()
        .filter_map(|finding| Some(finding.place?.line))
        .collect();
    // The default of limits.tmp is more than a quarter of what is left: at the table.
    assert_eq!(rules, [1, 9, 10]);
}

#[test]
fn what_is_wide_or_weak_is_told_at_its_place() {
    use Severity::{Note, Warning};
    let pinned = CLEAN.lines().nth(4).unwrap();
    let landlock = "landlock = \"required\"";
    for (from, to, rule, severity, text) in [
        (
            "entry = \"hello\"",
            "entry = \"hello\"\nproc = \"full\"",
            "proc-full",
            Warning,
            "\"full\"",
        ),
        (
            "[limits]",
            "[[mounts]]\nsource = \"/srv/a\"\ntarget = \"/a\"\n[limits]",
            "mount-of-host",
            Note,
            "[[mounts]]",
        ),
        (
            "[limits]",
            "[[mounts]]\nsource = \"/srv/a\"\ntarget = \"/a\"\nrw = true\n[limits]",
            "mount-writable",
            Warning,
            "[[mounts]]",
        ),
        ("\"items\"", "\"*\"", "tables-all", Warning, "\"*\""),
        (
            "[\"items\"], access = \"read\"",
            "[\"a\", \"**\"], access = \"write\"",
            "write-all",
            Warning,
            "\"**\"",
        ),
        (
            "\"read\" }",
            "\"read\", ddl = true }",
            "schema-changes",
            Warning,
            "true",
        ),
        (
            "\"items\"",
            "",
            "grant-empty",
            Note,
            "{ tables = [], access = \"read\" }",
        ),
        ("api.example.com", "*", "hosts-all", Warning, "\"*\""),
        (
            "api.example.com",
            "*.com",
            "hosts-all",
            Warning,
            "\"*.com\"",
        ),
        (
            "api.example.com",
            "a.test:*",
            "ports-all",
            Warning,
            "\"a.test:*\"",
        ),
        (
            ", methods = [\"GET\"]",
            "",
            "methods-all",
            Note,
            "{ hosts = [\"api.example.com\"] }",
        ),
        (
            "[\"GET\"]",
            "[\"GET\"], addresses = [\"10.0.0.0/8\"]",
            "addresses-private",
            Warning,
            "\"10.0.0.0/8\"",
        ),
        (
            "[limits]",
            "config = [\"*\"]\n[limits]",
            "config-all",
            Warning,
            "\"*\"",
        ),
        (
            "[limits]",
            "config = [\"smtp.*\"]\n[limits]",
            "config-sensitive",
            Warning,
            "\"smtp.*\"",
        ),
        (
            "[limits]",
            "plugin-call = [\"*/x\"]\n[limits]",
            "calls-all",
            Warning,
            "\"*/x\"",
        ),
        (
            "[limits]",
            "email = [\"@a.test\"]\n[limits]",
            "email-not-served",
            Note,
            "[\"@a.test\"]",
        ),
        (
            "memory = \"256MiB\"",
            "processes = 23",
            "processes-few",
            Warning,
            "23",
        ),
        ("\"required\"", "\"off\"", "control-off", Warning, "\"off\""),
        (
            landlock,
            "memory = { wanted = \"preferred\", i-accept-the-risk = \"why\" }",
            "control-lowered",
            Warning,
            "{ wanted = \"preferred\", i-accept-the-risk = \"why\" }",
        ),
        (
            landlock,
            "memory = { wanted = \"required\", i-accept-the-risk = \"why\" }",
            "risk-without-need",
            Note,
            "{ wanted = \"required\", i-accept-the-risk = \"why\" }",
        ),
        (
            "[\"GET\"]",
            "[\"GET\"], tunnel = true",
            "tunnel-hides-methods",
            Warning,
            "true",
        ),
        (pinned, "unsigned = true", "unsigned", Warning, "true"),
        (
            "[limits]",
            "[runtime]\ninterpreter = \"/usr/bin/python3\"\n[limits]",
            "runtime-of-host",
            Note,
            "[runtime]",
        ),
    ] {
        let expected = (rule, severity, text.to_owned());
        assert_eq!(found(from, to), [expected], "{to}");
    }
}

/// What is said of a pattern is what is enforced, whichever keys it matches.
#[test]
fn who_reads_sensitive_keys_is_told_and_nobody_else() {
    let keys = ["smtp.host", "app.secret", "session", "a.b.token"];
    for (pattern, rule) in [
        ("*", Some("config-all")),
        ("***", Some("config-all")),
        ("*.*", None),
        ("*a*", None),
        ("s*", None),
        ("app.*", None),
        ("*sec*ret*", None),
        ("app.name", None),
        ("smtp.*", Some("config-sensitive")),
        ("*SECRET*", Some("config-sensitive")),
        ("session", Some("config-sensitive")),
    ] {
        let text = format!("config = [\"{pattern}\"]\n[limits]");
        let rules: Vec<&str> = found("[limits]", &text).iter().map(|told| told.0).collect();
        assert_eq!(rules, Vec::from_iter(rule), "{pattern}");
        let text = format!("config = [\"{pattern}\"]");
        let granted: crate::Permissions = toml::from_str(&text).unwrap();
        let reader = crate::Effective::new(granted.clone(), vec![granted]);
        let reads = keys.iter().any(|key| reader.config(key).is_ok());
        assert_eq!(reads, rule == Some("config-sensitive"), "{pattern}");
    }
}

#[test]
fn a_tunnel_beside_methods_or_paths_is_told_for_what_it_hides() {
    let methods = ("tunnel-hides-methods", Severity::Warning, "true".to_owned());
    let paths = ("tunnel-hides-paths", Severity::Warning, "true".to_owned());
    let limited = "[\"GET\"], paths = [\"/v1/**\"]";
    assert_eq!(found("[\"GET\"]", limited), []);
    let both = format!("{limited}, tunnel = true");
    assert_eq!(found("[\"GET\"]", &both), [methods, paths.clone()]);
    let path = "paths = [\"/v1\", \"/v2\"], tunnel = true";
    assert!(found("methods = [\"GET\"]", path).contains(&paths));
    let text = CLEAN.replace("methods = [\"GET\"]", path);
    let findings = lint(text.as_bytes()).findings;
    let said = |text: &str| {
        findings
            .iter()
            .any(|finding| finding.message.contains(text))
    };
    assert!(said("/v1 and /v2 alone may be asked for"), "{findings:?}");
}

#[test]
fn addresses_that_give_more_than_they_seem_to_are_named() {
    for (network, said) in [
        ("0.0.0.0/0", "every address"),
        ("169.254.0.0/16", "credentials"),
        ("127.0.0.0/8", "this very host"),
        ("::1", "this very host"),
    ] {
        let text = CLEAN.replace(
            "[\"GET\"]",
            &format!("[\"GET\"], addresses = [{network:?}]"),
        );
        let findings = lint(text.as_bytes()).findings;
        assert!(findings[0].message.contains(said), "{findings:?}");
    }
}

#[test]
fn what_is_no_text_or_too_long_is_an_error_without_a_panic() {
    for bytes in [&b"schema = 1\n\xff"[..], &vec![b' '; 300 * 1024][..]] {
        let linted = lint(bytes);
        assert_eq!(linted.findings[0].rule, Rule::Syntax);
        assert!(linted.policy.is_none());
    }
}

proptest! {
    /// Files of others are looked at: whatever is in them, an answer comes, and its places are there.
    #[test]
    fn any_text_is_looked_at(at in 0..CLEAN.len(), cut in 0..40_usize, put in "[\\x00-\\x7fé\\[\\]={}\"'\n*]{0,12}") {
        let bytes = CLEAN.as_bytes();
        let after = bytes.get((at + cut).min(bytes.len())..).unwrap();
        let text = [&bytes[..at], put.as_bytes(), after].concat();
        let linted = lint(&text);
        for finding in &linted.findings {
            if let Some(place) = finding.place {
                let line = linted.places.line(place.line).chars().count();
                prop_assert!(place.column <= line + 1, "{finding:?}");
                prop_assert!(place.column + place.length <= line + 2, "{finding:?}");
            }
        }
        let is_refused = linted.findings.iter().any(|f| f.severity == Severity::Error);
        prop_assert_eq!(linted.policy.is_none(), is_refused);
    }
}

#[test]
fn a_flood_of_unknown_keys_is_cut() {
    let keys: Vec<String> = (0..20_000).map(|number| format!("k{number}=1")).collect();
    let text = format!("x = {{{}}}", keys.join(","));
    assert!(lint(text.as_bytes()).findings.len() <= 100);
    let text = keys.join("\n");
    assert_eq!(lint(text.as_bytes()).findings.len(), 100);
}

#[test]
fn rules_are_told_apart_by_their_ids_and_are_documented() {
    let reference = include_str!("../../../../docs/policy.md");
    let mut ids: Vec<&str> = Rule::ALL.iter().map(|rule| rule.id()).collect();
    for rule in Rule::ALL {
        let row = format!(
            "| `{}` | {} | {} |",
            rule.id(),
            rule.severity(),
            rule.about()
        );
        assert!(reference.contains(&row), "docs/policy.md lacks {row}");
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), Rule::ALL.len());
}
