//! `pinfold policy check`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::{Installation, POLICY};

/// Rule, severity and line of each finding.
fn found(checked: &Value) -> Vec<(String, String, Option<u64>)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    checked["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| {
            (
                text(&finding["rule"]),
                text(&finding["severity"]),
                finding["line"].as_u64(),
            )
        })
        .collect()
}

fn is_found(checked: &Value, rule: &str, severity: &str, line: Option<u64>) -> bool {
    found(checked).contains(&(rule.to_owned(), severity.to_owned(), line))
}

#[test]
fn a_policy_is_looked_at_with_what_it_names() {
    let installation = Installation::new();
    let (status, checked) = installation.json(&["check"]);
    assert_eq!(status, 0, "{checked}");
    for (rule, severity, line) in [
        ("unsigned", "warning", 5),
        ("not-asked", "note", 8),
        ("not-asked", "note", 12),
        ("tmpfs-half", "warning", 14),
    ] {
        assert!(
            is_found(&checked, rule, severity, Some(line)),
            "{rule}: {checked}"
        );
    }
    assert_eq!(
        installation.json(&["check", "hello"]),
        (status, checked.clone())
    );
    let file = installation.path("etc/policy.d/hello.toml");
    assert_eq!(
        installation.json(&["check", file.to_str().unwrap()]),
        (status, checked)
    );
}

#[test]
fn the_exit_status_tells_findings_from_what_cannot_be_looked_at() {
    let installation = Installation::new();
    for (arguments, status) in [
        (&["check", "hello"][..], 0),
        (&["check", "hello", "--fail-on", "warning"], 1),
        (&["check", "hello", "--fail-on", "note"], 1),
        (&["check", "hello", "--fail-on", "never"], 0),
        (&["check", "hello", "--fail-on", "often"], 2),
        (&["check", "nobody"], 2),
        (&["check", "absent.toml"], 2),
        (&["check", "../x"], 2),
        (&["check", "hello", "absent.toml"], 2),
    ] {
        let (code, text) = installation.people(arguments);
        assert_eq!(code, status, "{arguments:?}: {text}");
    }
    installation.policy(&POLICY.replace("schema = 1", "schema = "));
    assert_eq!(installation.people(&["check"]).0, 1);
}

#[test]
fn people_see_the_line_that_is_meant() {
    let installation = Installation::new();
    installation.policy(&POLICY.replace("memory = \"64MiB\"", "  memroy = \"64MiB\""));
    let (status, text) = installation.people(&["check"]);
    assert_eq!(status, 1);
    let path = installation.path("etc/policy.d/hello.toml");
    let expected = format!(
        "error[unknown-key]: unknown key \"limits.memroy\", did you mean \"memory\"?
  --> {}:14:3
   |
14 |   memroy = \"64MiB\"
   |   ^^^^^^
  = help: write \"memory\", or take the key away

1 policy looked at: 1 error
",
        path.display()
    );
    assert_eq!(text, expected);
}

#[test]
fn what_a_terminal_would_obey_is_written_out() {
    let installation = Installation::new();
    installation.policy(&POLICY.replace("\"blue\"", "\"\x1b[2J\""));
    let (status, text) = installation.people(&["check"]);
    assert_eq!(status, 1, "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
    assert!(text.contains("\\u{1b}"), "{text:?}");
}

#[test]
fn a_file_that_others_can_write_is_an_error() {
    let installation = Installation::new();
    let path = installation.path("etc/policy.d/hello.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let (status, checked) = installation.json(&["check"]);
    assert_eq!(status, 1);
    assert!(
        is_found(&checked, "file-untrusted", "error", None),
        "{checked}"
    );
    let message = &checked["findings"][0]["message"];
    assert!(message.as_str().unwrap().contains("mode 0666"), "{message}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let directory = installation.path("etc/policy.d");
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    let (_, checked) = installation.json(&["check", "hello"]);
    assert!(
        is_found(&checked, "file-untrusted", "error", None),
        "{checked}"
    );
    // A link is not followed.
    let installation = Installation::new();
    let elsewhere = installation.write("elsewhere.toml", POLICY);
    let path = installation.path("etc/policy.d/hello.toml");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(elsewhere, &path).unwrap();
    let (_, checked) = installation.json(&["check", "hello"]);
    assert!(
        is_found(&checked, "file-untrusted", "error", None),
        "{checked}"
    );
}

#[test]
fn what_is_wrong_with_a_data_dir_is_told_with_how_to_mend_that() {
    let installation = Installation::new();
    installation.policy(&POLICY.replace("[trust]", "profile = \"own\"\n[trust]"));
    let help = |rule: &str, line: u64| {
        let (status, checked) = installation.json(&["check"]);
        assert_eq!(status, 1, "{checked}");
        let all = checked["findings"].as_array().unwrap();
        let mut all = all.iter();
        let one = all.find(|one| one["rule"] == rule && one["line"] == line);
        let one = one.unwrap_or_else(|| panic!("{rule}, line {line}: {checked}"));
        one["help"].as_str().unwrap().to_owned()
    };
    for name in [
        "etc/data/dialects/goatflow.toml",
        "etc/data/profiles/own.toml",
    ] {
        let path = installation.write(name, "");
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    }
    for line in [2, 4] {
        let help = help("file-untrusted", line);
        assert!(help.contains("may own and write it"), "{help}");
    }
    fs::remove_dir_all(installation.path("etc/data")).unwrap();
    for (rule, line) in [("dialect-unknown", 2), ("profile-missing", 4)] {
        let help = help(rule, line);
        assert!(help.starts_with("mount it or make it"), "{help}");
    }
}

#[test]
fn profiles_are_checked_by_the_rules_that_the_launcher_has() {
    let installation = Installation::new();
    installation.policy(&POLICY.replace("[trust]", "profile = \"own\"\n[trust]"));
    let check = || installation.json(&["check"]);
    let (status, checked) = check();
    assert_eq!(status, 1);
    assert!(
        is_found(&checked, "profile-missing", "error", Some(4)),
        "{checked}"
    );
    let profile = |calls: &str, more: &str, include: &str| {
        let text = format!(
            "schema = 1\nname = \"own\"\narch = [\"x86_64\"]\ndefault = \"enosys\"\n[[group]]\n\
             name = \"@own\"\nwhy = \"test\"\naction = \"allow\"\ncalls = [{calls}]\n{more}\
             [use]\ninclude = [{include}]\n"
        );
        installation.write("etc/data/profiles/own.toml", &text);
        check().1
    };
    for (calls, more, include, said) in [
        (
            "\"reed\"",
            "",
            "\"@own\"",
            "no system call is named `reed` (`read`?)",
        ),
        (
            "\"read\", \"read\"",
            "",
            "\"@own\"",
            "`read` is in group `@own` and again",
        ),
        ("\"ptrace\"", "", "\"@own\"", "`ptrace` must not be allowed"),
        ("\"read\"", "", "", "group `@own`: not used"),
        ("\"setuid\"", "", "\"@own\"", "needs `i-accept-the-risk`"),
    ] {
        let checked = profile(calls, more, include);
        assert!(
            is_found(&checked, "profile-refused", "error", Some(4)),
            "{checked}"
        );
        assert!(checked.to_string().contains(said), "{said}: {checked}");
    }
    installation.policy(&POLICY.replace("[trust]", "profile = \"statik\"\n[trust]"));
    let checked = check().1.to_string();
    assert!(
        checked.contains("`statik` is shipped (`static`?)"),
        "{checked}"
    );
    installation.policy(&POLICY.replace("[trust]", "profile = \"own\"\n[trust]"));
    let accepted = "i-accept-the-risk = \"a test\"\n";
    let checked = profile("\"read\", \"setuid\"", accepted, "\"@own\"");
    assert!(
        is_found(&checked, "profile-custom", "note", Some(4)),
        "{checked}"
    );
    assert!(
        is_found(&checked, "profile-risk", "warning", Some(4)),
        "{checked}"
    );
    assert!(!is_found(&checked, "core-limit", "warning", Some(4)));
    let checked = profile("\"read\", \"prlimit64\"", accepted, "\"@own\"");
    assert!(
        is_found(&checked, "core-limit", "warning", Some(4)),
        "{checked}"
    );
    let undone = |checked: &Value| {
        let all = found(checked).into_iter();
        let of_rule = all.filter(|(rule, ..)| rule == "affinity-undone");
        of_rule.map(|(_, _, line)| line).collect::<Vec<_>>()
    };
    assert!(undone(&checked).is_empty(), "{checked}");
    let free = POLICY.replace("[limits]", "[limits]\ncpu-affinity = [0]");
    assert_ne!(free, POLICY);
    installation.policy(&free);
    let (_, checked) = check();
    assert!(undone(&checked).is_empty(), "no shipped profile allows it");
    installation.policy(&free.replace("[trust]", "profile = \"own\"\n[trust]"));
    let (_, checked) = check();
    assert!(undone(&checked).is_empty(), "nor one that does not name it");
    let calls = "\"read\", \"sched_setaffinity\"";
    let checked = profile(calls, accepted, "\"@own\"");
    let lines = undone(&checked);
    assert!(matches!(lines[..], [Some(_)]), "{checked}");
}

#[test]
fn a_runtime_is_looked_at_as_a_launch_does() {
    let installation = Installation::new();
    let runtime = "[runtime]\ninterpreter = \"/usr/bin/env\"\npaths = [\"/usr/lib\", \"/usr/nothing\"]\n[limits]";
    installation.policy(&POLICY.replace("[limits]", runtime));
    // An interpreter reads the entry: it needs no execute bit.
    let program = installation.path("plugins/hello/hello");
    fs::set_permissions(program, fs::Permissions::from_mode(0o644)).unwrap();
    let (status, checked) = installation.json(&["check"]);
    assert_eq!(status, 1);
    assert!(
        is_found(&checked, "runtime-of-host", "note", Some(13)),
        "{checked}"
    );
    let refused = |checked: &Value| {
        let all = found(checked).into_iter();
        let of_rule = all.filter(|(rule, ..)| rule == "runtime-refused");
        of_rule.map(|(_, _, line)| line).collect::<Vec<_>>()
    };
    assert_eq!(refused(&checked), [Some(15)], "{checked}");
    assert!(
        !is_found(&checked, "entry-missing", "error", Some(3)),
        "{checked}"
    );
    let inside = installation.path("etc/policy.d");
    let inside = runtime.replace("/usr/nothing", inside.to_str().unwrap());
    installation.policy(&POLICY.replace("[limits]", &inside));
    let (_, checked) = installation.json(&["check"]);
    assert_eq!(refused(&checked), [Some(15)], "{checked}");
}

#[test]
fn keys_that_do_not_count_are_told_apart() {
    let installation = Installation::new();
    let names = ["none", "other", "past", "gone", "bare"];
    let list: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let trust = format!("signed-by = [{}]", list.join(", "));
    installation.policy(&POLICY.replace("unsigned = true", &trust));
    for (number, (name, rules)) in [
        ("other", "plugins = ['mailer']\n"),
        ("past", "plugins = ['*']\nexpires = 2001-01-01T00:00:00Z\n"),
        (
            "gone",
            "plugins = ['*']\n[revoked]\ntime = 2001-01-01T00:00:00Z\nreason = \"lost\"\n",
        ),
        ("bare", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let made = installation.pinfold(&["keys", "generate", name, "--directory", "etc/keys.d"]);
        assert!(made.status.success(), "{number}: {made:?}");
        if !rules.is_empty() {
            let text = format!("schema = 1\n{rules}");
            installation.write(&format!("etc/keys.d/{name}.toml"), &text);
        }
    }
    let (status, checked) = installation.json(&["check"]);
    assert_eq!(status, 1);
    for (rule, severity) in [
        ("key-unknown", "warning"),
        ("key-not-for-plugin", "warning"),
        ("key-expired", "warning"),
        ("key-revoked", "warning"),
        ("key-unusable", "warning"),
        ("no-key-counts", "error"),
    ] {
        assert!(
            is_found(&checked, rule, severity, Some(5)),
            "{rule}: {checked}"
        );
    }
    installation.write(
        "etc/keys.d/other.toml",
        "schema = 1\nplugins = ['mailer', 'hello']\n",
    );
    let (status, checked) = installation.json(&["check"]);
    assert_eq!(
        (
            status,
            is_found(&checked, "no-key-counts", "error", Some(5))
        ),
        (0, false)
    );
}

#[test]
fn what_the_plugins_files_say_otherwise_is_found() {
    let installation = Installation::new();
    let digest = format!("digest = \"sha256:{}\"", "0".repeat(64));
    installation.policy(
        &POLICY
            .replace("unsigned = true", &digest)
            .replace("entry = \"hello\"", "entry = \"other\""),
    );
    let (status, checked) = installation.json(&["check"]);
    assert_eq!(status, 1);
    for (rule, line) in [
        ("digest-differs", 5),
        ("entry-missing", 3),
        ("manifest-differs", 3),
    ] {
        assert!(
            is_found(&checked, rule, "error", Some(line)),
            "{rule}: {checked}"
        );
    }
    installation.write("plugins/hello/plugin.yaml", "name: [");
    let (_, checked) = installation.json(&["check"]);
    assert!(
        is_found(&checked, "manifest-unreadable", "warning", None),
        "{checked}"
    );
    fs::remove_dir_all(installation.path("plugins/hello")).unwrap();
    let (_, checked) = installation.json(&["check"]);
    assert!(
        is_found(&checked, "no-plugin", "warning", None),
        "{checked}"
    );
    installation.write("etc/policy.d/Hello.toml.bak", "");
    let (_, checked) = installation.json(&["check"]);
    assert!(
        is_found(&checked, "file-name", "warning", None),
        "{checked}"
    );
}

#[test]
fn a_file_is_checked_where_nothing_is_installed() {
    let installation = Installation::new();
    let text = POLICY.replace("\"notes\"", "\"*\"");
    installation.write("review/hello.toml", &text);
    fs::remove_file(installation.path("etc/launcher.toml")).unwrap();
    let (status, checked) = installation.json(&["check", "review/hello.toml"]);
    assert_eq!(status, 0, "{checked}");
    assert_eq!(checked["files"][0], "review/hello.toml");
    assert!(
        is_found(&checked, "tables-all", "warning", Some(8)),
        "{checked}"
    );
    assert!(
        !is_found(&checked, "no-plugin", "warning", None),
        "{checked}"
    );
    assert_eq!(installation.people(&["check"]).0, 2);
}

#[test]
fn sarif_is_what_its_own_schema_says() {
    let installation = Installation::new();
    installation.write("etc/policy.d/Not a plugin.toml", "");
    installation.policy(
        &POLICY
            .replace("\"notes\"", "\"*\"")
            .replace("64MiB", "64MB"),
    );
    let output = installation.pinfold(&["policy", "check", "--sarif"]);
    assert_eq!(output.status.code(), Some(1));
    let log: Value = serde_json::from_slice(&output.stdout).unwrap();
    let fixture = pinfold_tests::repository().join("tests/fixtures/sarif/sarif-schema-2.1.0.json");
    // The published text has a bracket too many in two patterns, which a strict reader refuses.
    let schema = fs::read_to_string(fixture).unwrap();
    let schema = schema.replace("-[a-zA-Z]{2}]?$", "-[a-zA-Z]{2}$");
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&log)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    // It does not take everything.
    let mut wrong = log.clone();
    wrong["runs"][0]["results"][0]["level"] = "fatal".into();
    assert!(!validator.is_valid(&wrong));

    let run = &log["runs"][0];
    let results = run["results"].as_array().unwrap();
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
    }
    let syntax = results
        .iter()
        .find(|result| result["ruleId"] == "syntax")
        .unwrap();
    let place = &syntax["locations"][0]["physicalLocation"];
    let uri = place["artifactLocation"]["uri"].as_str().unwrap();
    assert!(
        uri.starts_with("file:///") && uri.ends_with("/etc/policy.d/hello.toml"),
        "{uri}"
    );
    assert_eq!(
        (
            place["region"]["startLine"].as_u64(),
            place["region"]["startColumn"].as_u64()
        ),
        (Some(14), Some(10))
    );
    let name = results
        .iter()
        .find(|result| result["ruleId"] == "file-name")
        .unwrap();
    let uri = &name["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert!(
        uri.as_str().unwrap().ends_with("/Not%20a%20plugin.toml"),
        "{uri}"
    );
}

#[test]
fn what_a_plugin_without_loopback_cannot_have_is_an_error_at_its_line() {
    let installation = Installation::new();
    let file = installation.path("etc/policy.d/hello.toml");
    let text = format!("loopback = false\nsyscall-groups = [\"@optional-ipc\"]\n{POLICY}");
    fs::write(&file, &text).unwrap();
    let (status, checked) = installation.json(&["check", "hello"]);
    assert_eq!(status, 1, "{checked}");
    assert!(
        is_found(&checked, "loopback-needed", "error", Some(1)),
        "{checked}"
    );
    assert!(
        is_found(&checked, "profile-groups", "note", Some(2)),
        "{checked}"
    );
    let (status, explained) = installation.json(&["explain", "hello", "http:CONNECT:a.test:443"]);
    assert_eq!(status, 1);
    assert!(
        explained["why"]
            .as_str()
            .unwrap()
            .contains("loopback = false"),
        "{explained}"
    );
    let (status, explained) =
        installation.json(&["explain", "hello", "syscall:socket(AF_INET,1,0)"]);
    assert_eq!(status, 1, "{explained}");
    assert_eq!(
        installation.json(&["explain", "hello", "syscall:shmget"]).0,
        0
    );
    let unknown = text.replace("@optional-ipc", "@optional-ipx");
    fs::write(&file, unknown).unwrap();
    let (status, checked) = installation.json(&["check", "hello"]);
    assert_eq!(status, 1, "{checked}");
    assert!(
        found(&checked)
            .iter()
            .any(|(rule, ..)| rule == "profile-refused"),
        "{checked}"
    );
}
