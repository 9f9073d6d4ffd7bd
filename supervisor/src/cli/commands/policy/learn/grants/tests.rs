use super::*;

fn record(action: &str, subject: &str, decision: &str, permission: Option<&str>) -> RecordView {
    RecordView {
        number: 1,
        part: "traffic",
        time: String::new(),
        actor: "plugin:hello".into(),
        action: format!("hostapi.{action}"),
        subject: subject.into(),
        decision: decision.into(),
        plugin: Some("hello".into()),
        permission: permission.map(str::to_owned),
        detail: None,
        request_id: None,
        count: 2,
        hash: None,
    }
}

fn present() -> Permissions {
    toml::from_str(
        r#"
        cache = "readwrite"
        config = ["app.*"]
        plugin-call = ["stats"]
        http = [
          { hosts = ["*.example.com", "*.example.com:8443"] },
          { hosts = ["stock.internal"], addresses = ["10.0.0.0/8"] },
        ]
        [[db]]
        tables = ["*"]
        access = "readwrite"
        "#,
    )
    .unwrap()
}

#[test]
fn what_was_allowed_comes_to_the_smallest_grants_that_cover_it() {
    let records = [
        record("db.query", "main/items:r", "allow", None),
        record("db.query", "main/items:r main/notes:r", "allow", None),
        record("db.exec", "main/notes:w main/items:r", "allow", None),
        record("cache.get", "k", "allow", None),
        record("config.get", "app.name", "allow", None),
        record("plugin.call", "stats/sum", "allow", None),
        record(
            "http.request",
            "GET https://api.example.com:443 -> GET https://www.example.com:8443",
            "allow",
            None,
        ),
        record(
            "http.forward",
            "POST http://stock.internal:80",
            "error",
            None,
        ),
        record("http.tunnel", "CONNECT git.example.com:443", "allow", None),
        record("log.record", "", "allow", None),
    ];
    let grants = fold(&records, &present());
    assert!(grants.notes.is_empty() && grants.refused.is_empty());
    let lines: Vec<String> = grants.permissions.lines().into_iter().collect();
    assert_eq!(
        lines,
        [
            "cache:read",
            "config:read:app.name",
            "db:read:main/items",
            "db:read:main/notes",
            "db:write:main/notes",
            "http:*:git.example.com:443",
            "http:GET:api.example.com",
            "http:GET:www.example.com:8443",
            "http:POST:stock.internal",
            "http:address:10.0.0.0/8:POST:stock.internal",
            "plugin:call:stats/sum",
        ]
    );
}

#[test]
fn what_was_refused_is_told_apart_and_never_proposed() {
    let records = [
        record("db.query", "main", "deny", Some("db:read:main/secrets")),
        record("db.query", "main", "deny", Some("db:read:main/secrets")),
        record("cache.set", "k", "limit", None),
    ];
    let grants = fold(&records, &present());
    assert!(grants.permissions.is_empty());
    let asked = |call: &str, subject: &str, why: &str, count| Asked {
        call: call.into(),
        subject: subject.into(),
        why: why.into(),
        count,
    };
    assert_eq!(
        grants.refused,
        [
            asked("cache.set", "k", "over a rate", 2),
            asked("db.query", "main", "db:read:main/secrets", 4),
        ]
    );
}

#[test]
fn nothing_is_proposed_that_the_policy_does_not_grant_whatever_the_records_say() {
    let present: Permissions =
        toml::from_str("db = [{ tables = ['items'], access = 'read' }]").unwrap();
    let records = [
        record("db.query", "main/items:r", "allow", None),
        record("db.exec", "main/items:w", "allow", None),
        record("db.query", "main/secrets:r", "allow", None),
        record("cache.get", "k", "allow", None),
        record("config.get", "app.password", "allow", None),
        record("plugin.call", "admin/all", "allow", None),
        record("http.request", "GET https://evil.test:443", "allow", None),
    ];
    let grants = fold(&records, &present);
    assert!(grants.permissions.lines().is_subset(&present.lines()));
}

#[test]
fn a_tunnel_opens_nothing_that_requests_to_the_same_host_were_held_to() {
    let present: Permissions = toml::from_str(
        r#"http = [
          { hosts = ["api.example.com"], methods = ["GET"], paths = ["/v1/**"] },
          { hosts = ["api.example.com"], methods = ["POST"], tunnel = true },
        ]"#,
    )
    .unwrap();
    let host = "api.example.com:443";
    let records = [
        record(
            "http.request",
            &format!("GET https://{host}"),
            "allow",
            None,
        ),
        record("http.tunnel", &format!("CONNECT {host}"), "allow", None),
    ];
    let grants = fold(&records, &present);
    assert_eq!(grants.permissions.lines(), present.lines());
}

#[test]
fn paths_stay_as_they_are_for_what_was_reached() {
    let present: Permissions = toml::from_str(
        r#"http = [
          { hosts = ["*.example.com"], methods = ["GET", "PUT"], paths = ["/v1/**", "/x"] },
          { hosts = ["api.example.com"], methods = ["POST"], paths = ["/y"], addresses = ["10.0.0.0/8"] },
          { hosts = ["cdn.example.com"] },
          { hosts = ["git.example.com"], paths = ["/z"], tunnel = true },
          { hosts = ["other.example.com"], paths = ["/o"] },
        ]"#,
    )
    .unwrap();
    let records = [
        record(
            "http.request",
            "GET https://api.example.com:443",
            "allow",
            None,
        ),
        record(
            "http.request",
            "POST https://api.example.com:443",
            "allow",
            None,
        ),
        record(
            "http.request",
            "GET https://cdn.example.com:443",
            "allow",
            None,
        ),
        record("http.tunnel", "CONNECT git.example.com:443", "allow", None),
    ];
    let grants = fold(&records, &present);
    assert!(grants.notes.is_empty() && grants.refused.is_empty());
    let lines: Vec<String> = grants.permissions.lines().into_iter().collect();
    assert_eq!(
        lines,
        [
            "http:*:git.example.com:443",
            "http:GET:api.example.com/v1/**",
            "http:GET:api.example.com/x",
            "http:GET:cdn.example.com",
            "http:POST:api.example.com/y",
            "http:address:10.0.0.0/8:POST:api.example.com/y",
        ]
    );
}

#[test]
fn what_is_not_told_apart_leaves_its_services_grants_as_they_are() {
    let present: Permissions = toml::from_str(
        "config = ['*']
         cache = 'readwrite'
         plugin-call = ['stats']
         db = [{ tables = ['*'], access = 'readwrite' }]",
    )
    .unwrap();
    let records = [
        record("config.get", "app.name", "allow", None),
        record("config.get", OTHERS, "allow", None),
        record("cache.get", OTHERS, "allow", None),
        record("db.query", "main/items:r", "allow", None),
        // It was allowed, and failed elsewhere.
        record("plugin.call", OTHERS, "error", None),
        record("db.exec", OTHERS, "deny", None),
        record("log.record", OTHERS, "allow", None),
    ];
    let grants = fold(&records, &present);
    let lines: Vec<String> = grants.permissions.lines().into_iter().collect();
    assert_eq!(
        lines,
        [
            "cache:read",
            "config:read:*",
            "db:read:main/items",
            "plugin:call:stats"
        ]
    );
    assert_eq!(grants.notes.len(), 2, "{:?}", grants.notes);
    let asks_for_less = |note: &String| note.contains("a run that asks for less at once");
    assert!(grants.notes.iter().all(asks_for_less), "{:?}", grants.notes);
    assert!(grants.refused[0].why.starts_with("more kinds"));
}

#[test]
fn a_record_that_was_cut_leaves_its_services_grants_as_they_are() {
    let records = [
        record("db.query", "main/items:r main/no…", "allow", None),
        record("cache.get", "k", "allow", None),
    ];
    let grants = fold(&records, &present());
    assert_eq!(grants.permissions.db, present().db);
    assert_eq!(grants.permissions.cache, Some(Access::Read));
    assert_eq!(grants.notes.len(), 1);
}

fn requests(hops: &[&str]) -> Vec<RecordView> {
    let allowed = |hop: &&str| record("http.request", hop, "allow", None);
    hops.iter().map(allowed).collect()
}

fn lines_of(records: &[RecordView], present: &Permissions) -> Vec<String> {
    let grants = fold(records, present);
    assert!(grants.notes.is_empty(), "{:?}", grants.notes);
    grants.permissions.lines().into_iter().collect()
}

#[test]
fn networks_stay_with_the_methods_that_they_are_granted_for() {
    let present: Permissions = toml::from_str(
        r#"http = [
          { hosts = ["s.internal"], methods = ["GET"], addresses = ["10.0.0.0/8"] },
          { hosts = ["*"] },
        ]"#,
    )
    .unwrap();
    let records = requests(&["GET https://s.internal:443", "POST https://s.internal:443"]);
    assert_eq!(
        lines_of(&records, &present),
        [
            "http:GET:s.internal",
            "http:POST:s.internal",
            "http:address:10.0.0.0/8:GET:s.internal",
        ]
    );
}

#[test]
fn a_port_is_left_out_only_where_both_of_the_schemes_own_are_granted() {
    let present: Permissions = toml::from_str(
        r#"http = [
          { hosts = ["tls.test:443", "both.test:80", "both.test:443", "bare.test", "any.test:*"] },
          { hosts = ["apart.test:443"], methods = ["GET"] },
          { hosts = ["apart.test:80"], methods = ["POST"] },
          { hosts = ["tunnel.test:443"], methods = ["GET"], tunnel = true },
        ]"#,
    )
    .unwrap();
    let mut records = requests(&[
        "GET https://tls.test:443",
        "GET https://both.test:443",
        "GET http://bare.test:80",
        "GET https://any.test:443 -> GET https://any.test:8443",
        "GET https://apart.test:443",
        "GET https://tunnel.test:443",
    ]);
    let tunnel = record("http.tunnel", "CONNECT tunnel.test:443", "allow", None);
    records.push(tunnel);
    assert_eq!(
        lines_of(&records, &present),
        [
            "http:CONNECT:tunnel.test:443",
            "http:GET:any.test",
            "http:GET:any.test:8443",
            "http:GET:apart.test:443",
            "http:GET:bare.test",
            "http:GET:both.test",
            "http:GET:tls.test:443",
            "http:GET:tunnel.test:443",
        ]
    );
}

#[test]
fn a_proposal_permits_no_request_that_the_policy_refuses() {
    let one_host = [
        r#"{ hosts = ["a.test"] }"#,
        r#"{ hosts = ["*:*"], methods = ["POST"], paths = ["/x"] }"#,
        r#"{ hosts = ["a.test:443"], methods = ["GET"], addresses = ["10.0.0.0/8"] }"#,
        r#"{ hosts = ["a.test:80"], methods = ["GET", "POST"], addresses = ["fd00::/8"] }"#,
        r#"{ hosts = ["a.test"], methods = ["POST"], paths = ["/x"], addresses = ["10.0.0.0/8"] }"#,
        r#"{ hosts = ["a.test:443"], paths = ["/y"], addresses = ["10.0.0.0/8", "fd00::/8"] }"#,
    ];
    let mut targets = Vec::new();
    for method in ["GET", "POST"] {
        for (scheme, port, default_port) in [
            ("http", 80, true),
            ("https", 443, true),
            ("http", 443, false),
        ] {
            for path in ["/x", "/y"] {
                let target = HttpTarget {
                    method,
                    host: "a.test",
                    port,
                    default_port,
                    path,
                    url: "",
                };
                targets.push((format!("{method} {scheme}://a.test:{port}"), target));
            }
        }
    }
    let enforced =
        |permissions: &Permissions| Effective::new(permissions.clone(), vec![permissions.clone()]);
    for grants in 0..1_usize << one_host.len() {
        let chosen = one_host.iter().enumerate();
        let chosen = chosen.filter(|(at, _)| grants & (1 << at) != 0);
        let chosen: Vec<&str> = chosen.map(|(_, grant)| *grant).collect();
        let text = format!("http = [{}]", chosen.join(", "));
        let present: Permissions = toml::from_str(&text).unwrap();
        let permits = enforced(&present);
        let asked: Vec<&str> = (targets.iter())
            .filter(|(_, target)| permits.http_target(target).is_ok())
            .map(|(hop, _)| hop.as_str())
            .collect();
        let proposed = fold(&requests(&asked), &present).permissions;
        let proposes = enforced(&proposed);
        for (hop, target) in &targets {
            // All was asked, so the same is proposed.
            let networks = |of: &Effective| {
                let networks = of.http_target(target).ok()?;
                Some(networks.into_iter().collect::<BTreeSet<Network>>())
            };
            let (had, has) = (networks(&permits), networks(&proposes));
            assert_eq!(had, has, "{hop}{} of {text}: {proposed:?}", target.path);
        }
        for (hop, _) in &targets {
            let proposes = enforced(&fold(&requests(&[hop.as_str()]), &present).permissions);
            for (other, target) in &targets {
                let Ok(networks) = proposes.http_target(target) else {
                    continue;
                };
                let had = permits.http_target(target).unwrap_or_else(|refusal| {
                    panic!("{hop} opens {other}{} of {text}: {refusal}", target.path)
                });
                let is_had = networks.iter().all(|network| had.contains(network));
                assert!(is_had, "{hop} opens networks to {other} of {text}");
            }
        }
    }
}

#[test]
fn a_name_that_reads_as_another_is_not_proposed() {
    let records = [
        record("config.get", "app.\u{202e}eman", "allow", None),
        record("db.query", "main/smeti\u{202e}:r", "allow", None),
    ];
    let grants = fold(&records, &present());
    assert_eq!(grants.permissions.config, present().config);
    assert_eq!(grants.permissions.db, present().db);
    assert_eq!(grants.notes.len(), 2, "{:?}", grants.notes);
}
