//! What of the host a policy shows a plugin, as a reviewer sees it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use super::{Installation, POLICY};

/// Mounts of these sources, each from a line of its own of the policy on: the first one's is 13.
fn policy(sources: &[(&str, bool)]) -> String {
    let mut mounts = String::new();
    for (number, (source, rw)) in sources.iter().enumerate() {
        mounts +=
            &format!("[[mounts]]\nsource = {source:?}\ntarget = \"/data/{number}\"\nrw = {rw}\n");
    }
    POLICY.replace("[limits]", &format!("{mounts}[limits]"))
}

#[test]
fn mounts_are_looked_at_as_a_launch_does_and_for_sockets() {
    let installation = Installation::new();
    installation.directory("talking/deeper");
    let socket = installation.path("talking/deeper/socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    installation.directory("open");
    fs::set_permissions(installation.path("open"), fs::Permissions::from_mode(0o777)).unwrap();
    let path = |name: &str| installation.path(name).display().to_string();
    let (talking, open, keys) = (path("talking"), path("open"), path("etc/keys.d"));
    installation.policy(&policy(&[
        ("/usr/bin", false),
        (&talking, true),
        (&open, false),
        (&keys, false),
    ]));
    let (status, checked) = installation.json(&["check"]);
    assert_eq!(status, 1, "{checked}");
    let found = checked["findings"].as_array().unwrap();
    let mut of_mounts: Vec<(&str, &str, u64)> = found
        .iter()
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap_or_default();
            (
                text("rule"),
                text("severity"),
                finding["line"].as_u64().unwrap_or(0),
            )
        })
        .filter(|(rule, ..)| rule.starts_with("mount-"))
        .collect();
    of_mounts.sort_by_key(|(rule, _, line)| (*line, *rule));
    let expected = [
        ("mount-of-host", "note", 13),
        ("mount-sockets", "warning", 17),
        ("mount-writable", "warning", 17),
        ("mount-of-host", "note", 21),
        ("mount-refused", "error", 21),
        ("mount-of-host", "note", 25),
        ("mount-refused", "error", 25),
    ];
    // An ordinary user's launcher mounts nothing from there at all.
    if nix::unistd::geteuid().is_root() {
        assert_eq!(of_mounts, expected, "{checked}");
        let (_, text) = installation.people(&["check"]);
        assert!(text.contains(socket.to_str().unwrap()), "{text}");
    } else {
        assert!(of_mounts.contains(&expected[0]), "{checked}");
    }
}

#[test]
fn mounts_are_shown_compared_and_explained_with_their_line() {
    let installation = Installation::new();
    let file = installation.policy(&policy(&[("/usr/lib", false), ("/usr/share", true)]));
    let (status, shown) = installation.json(&["show", "hello"]);
    assert_eq!(status, 0, "{shown}");
    let rows = shown["sections"][0]["rows"].as_array().unwrap();
    let row = |key: &str| rows.iter().find(|row| row["key"] == key).unwrap();
    for (key, value, line) in [
        (
            "mounts[0]",
            "/usr/lib of the host at /data/0, read-only",
            13,
        ),
        (
            "mounts[1]",
            "/usr/share of the host at /data/1, read and written",
            17,
        ),
    ] {
        let row = row(key);
        assert_eq!(
            (&row["value"], &row["origin"]["line"]),
            (&value.into(), &line.into())
        );
    }
    for (asked, is_allowed) in [
        ("file:read:/data/0/x", true),
        ("file:write:/data/0/x", false),
        ("file:write:/data/1/x", true),
        ("file:execute:/data/1/x", false),
        ("file:read:/data/2/x", false),
    ] {
        let (_, answer) = installation.json(&["explain", "hello", asked]);
        let decision = if is_allowed { "allowed" } else { "refused" };
        assert_eq!(answer["decision"], decision, "{asked}: {answer}");
    }
    let (_, text) = installation.people(&["explain", "hello", "file:write:/data/1/x"]);
    assert!(
        text.contains("/usr/share of the host") && text.contains("17"),
        "{text}"
    );
    let before = installation.write("before.toml", POLICY);
    let (before, after) = (before.to_str().unwrap(), file.to_str().unwrap());
    let (_, text) = installation.people(&["diff", before, after]);
    let line = "+ mount: /usr/share of the host at /data/1, read and WRITTEN\n";
    assert!(text.contains(line), "{text}");
}
