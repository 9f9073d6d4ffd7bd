//! Templates, profiles, and where they may not be taken from.

use super::*;

#[test]
fn the_goatflow_template_is_the_tutorials_to_the_letter() {
    let template = LaunchTemplate::parse(TEMPLATES[0].1.as_bytes()).unwrap();
    let plugin: PluginId = "hello".parse().unwrap();
    assert_eq!(template.working_directory, "/app");
    assert_eq!(
        template.tmp_directory(&plugin),
        "/tmp/goatflow-plugin-hello"
    );
    assert!(template.state);
    let links: Vec<(String, String)> = template.links(&plugin).collect();
    let link = |path: &str, target: &str| (path.to_owned(), target.to_owned());
    assert_eq!(
        links,
        [
            link("/app/config/plugins/hello", "/plugin"),
            link("/app/data/plugins/hello", "/state"),
        ]
    );
    let text = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| link(k, v)).collect()
    };
    let environment = |http: &str, from_daemon: &[(&str, &str)]| {
        template.environment(pinfold_policy::TemplateInput {
            plugin: &plugin,
            granted: &toml::from_str(http).unwrap(),
            policy_env: &BTreeMap::new(),
            from_daemon: &text(from_daemon),
            host_env: &text(&[("TZ", "Europe/Zurich"), ("SECRET", "1")]),
        })
    };
    let handshake = [
        ("GOATKIT_PLUGIN", "goatkit-v1"),
        ("PLUGIN_MAX_PORT", "25000"),
        ("PLUGIN_MIN_PORT", "10000"),
        ("PLUGIN_PROTOCOL_VERSIONS", "1"),
    ];
    let mut expected = text(&handshake);
    expected.extend(text(&[
        ("GOATFLOW_NO_NETWORK", "1"),
        ("HOME", "/tmp/goatflow-plugin-hello"),
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("TMPDIR", "/tmp/goatflow-plugin-hello"),
        ("TZ", "Europe/Zurich"),
    ]));
    assert_eq!(environment("", &handshake).unwrap(), expected);
    expected.remove("GOATFLOW_NO_NETWORK");
    let proxy = "http://127.0.0.1:3128";
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        expected.extend(text(&[(name, proxy), (&name.to_lowercase(), proxy)]));
    }
    let own = "localhost,127.0.0.1,::1";
    expected.extend(text(&[("NO_PROXY", own), ("no_proxy", own)]));
    let http = "http = [{ hosts = ['api.example.com'] }]";
    assert_eq!(environment(http, &handshake).unwrap(), expected);
    for forbidden in ["PLUGIN_UNIX_SOCKET_DIR", "PLUGIN_CLIENT_CERT", "PATH", "TZ"] {
        assert!(environment("", &[(forbidden, "1")]).is_err(), "{forbidden}");
    }
}

#[test]
fn a_profile_that_cannot_hand_its_listener_over_only_kills() {
    let arch = Arch::native().unwrap();
    let text = include_str!("../../../profiles/default.toml");
    let compiled = |text: &str| {
        let profile = Profile::parse(text, "default").unwrap();
        Filter::of(&profile, profile.compile(arch).unwrap()).unwrap()
    };
    let filter = compiled(text);
    assert!(filter.watched.is_some());
    assert!(filter.telling.is_some_and(|told| told != filter.killing));
    let without = text.replace("\"sendmsg\", ", "");
    assert_ne!(without, text);
    let filter = compiled(&without);
    assert!(filter.telling.is_none() && filter.watched.is_none());
}

#[test]
fn a_data_dir_that_is_not_there_or_empty_is_not_the_built_in_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let base = tempfile::tempdir().unwrap();
    let make = |path: &Path| {
        std::fs::create_dir_all(path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    make(base.path());
    let place = |path: &Path| Place::Reviewed {
        user: rustix::process::geteuid().as_raw(),
        path: path.to_owned(),
        also: None,
    };
    let data = base.path().join("data");
    let files = Files::new(place(base.path()), None, Some(place(&data)), None);
    let told = |error: FilesError| {
        let text = error.to_string();
        assert!(text.starts_with(&format!("data-dir {data:?}")), "{text}");
        let hint = error.hint().unwrap();
        assert!(hint.contains("take data-dir out"), "{hint}");
        error
    };
    let absent = |error| matches!(told(error), FilesError::NoData { .. });
    assert!(absent(files.check_data().unwrap_err()));
    assert!(absent(files.profile_bytes("default").unwrap_err()));
    assert!(absent(files.template("goatflow").unwrap_err()));
    make(&data);
    let empty = |error| matches!(told(error), FilesError::EmptyData { .. });
    assert!(empty(files.check_data().unwrap_err()));
    assert!(empty(files.profile_bytes("default").unwrap_err()));
    assert!(empty(files.template("goatflow").unwrap_err()));
    make(&data.join(DIALECTS));
    files.check_data().unwrap();
    assert_eq!(files.profile_bytes("default").unwrap(), None);
    files.template("goatflow").unwrap();
    // Where none is configured, the built-in ones are what is meant.
    Files::nowhere().check_data().unwrap();
    assert_eq!(Files::nowhere().profile_bytes("default").unwrap(), None);
}

#[test]
fn names_that_leave_their_directory_are_no_stems() {
    for bad in ["", "../x", "a/b", ".", "A", "a.b"] {
        assert!(!is_file_stem(bad), "{bad}");
    }
    assert!(is_file_stem("goatflow-2_x"));
}
