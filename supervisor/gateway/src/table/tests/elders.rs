//! A newcomer's more literal routes among the elders' with parameters.

use super::*;

/// Plugin and declared path of the route that a request goes to.
fn served(table: &Table, method: &Method, raw: &str) -> Option<(String, String)> {
    let path = RequestPath::read(raw).ok()?;
    match table.find(method, &path) {
        Found::Route(matched) => Some((
            matched.entry.plugin.as_str().to_owned(),
            matched.route.path.clone(),
        )),
        Found::OtherMethods(_) | Found::Nothing => None,
    }
}

fn of(plugin: &str, paths: &[&str]) -> Arc<Entry> {
    let routes: Vec<_> = paths.iter().map(|path| (RouteMethod::Get, *path)).collect();
    entry(plugin, &routes)
}

fn of_all(plugin: &str, paths: &[String]) -> Arc<Entry> {
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    of(plugin, &paths)
}

/// Which of the newcomer's routes are not mounted after the elder's, and under which of these.
fn under(elder: &[&str], newcomer: &[&str]) -> Vec<(String, String)> {
    let (_, conflicts) = Table::build(vec![of("elder", elder), of("newcomer", newcomer)]);
    let pairs = conflicts.into_iter().map(|conflict| {
        assert_eq!(conflict.plugin.as_str(), "newcomer");
        match conflict.cause {
            ConflictCause::Under { by, path } => {
                assert_eq!(by.as_str(), "elder");
                (conflict.path, path)
            }
            other => panic!("{}: {other:?}", conflict.path),
        }
    });
    pairs.collect()
}

#[test]
fn a_newcomer_takes_no_requests_by_a_more_literal_route() {
    let elder = entry(
        "shop",
        &[
            (RouteMethod::Post, "/shop/{*path}"),
            (RouteMethod::Get, "/items/{id}"),
        ],
    );
    let newcomer = entry(
        "thief",
        &[
            (RouteMethod::Post, "/shop/checkout"),
            (RouteMethod::Get, "/items/7"),
            (RouteMethod::Get, "/shops"),
        ],
    );
    let (table, conflicts) = Table::build(vec![elder, Arc::clone(&newcomer)]);
    let lines: Vec<_> = conflicts.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "route POST /shop/checkout of plugin \"thief\" is not mounted: \
             it takes requests of /shop/{*path} of plugin \"shop\"",
            "route GET /items/7 of plugin \"thief\" is not mounted: \
             it takes requests of /items/{id} of plugin \"shop\"",
        ]
    );
    let owner = |table: &Table, method: &Method, path: &str| {
        served(table, method, path).map(|(plugin, _)| plugin)
    };
    let shop = Some("shop".to_owned());
    assert_eq!(owner(&table, &Method::POST, "/shop/checkout"), shop);
    assert_eq!(owner(&table, &Method::GET, "/items/7"), shop);
    assert_eq!(owner(&table, &Method::HEAD, "/items/7"), shop);
    let thief = Some("thief".to_owned());
    assert_eq!(owner(&table, &Method::GET, "/shops"), thief);

    // Nobody claims them once the elder has gone.
    let (table, conflicts) = Table::build(vec![newcomer]);
    assert_eq!(conflicts, []);
    assert_eq!(owner(&table, &Method::POST, "/shop/checkout"), thief);
}

#[test]
fn only_what_an_elders_route_would_have_had_is_refused() {
    let elder = [
        "/items/{id}",
        "/items/export",
        "/users/{id}/posts",
        "/files/{*path}",
        "/deep/{a}/{b}/end",
    ];
    let refused = [
        ("/items/new", "/items/{id}"),
        ("/users/me/posts", "/users/{id}/posts"),
        ("/users/me/{what}", "/users/{id}/posts"),
        ("/users/me/{*what}", "/users/{id}/posts"),
        ("/files/", "/files/{*path}"),
        ("/files/a/b", "/files/{*path}"),
        ("/files/{name}", "/files/{*path}"),
        ("/files/{name}/raw", "/files/{*path}"),
        ("/deep/x/{b}/end", "/deep/{a}/{b}/end"),
        ("/deep/{a}/x/end", "/deep/{a}/{b}/end"),
        ("/deep/x/{b}/{c}", "/deep/{a}/{b}/end"),
    ];
    let paths = refused.map(|(path, _)| path);
    let pairs = refused.map(|(path, by)| (path.to_owned(), by.to_owned()));
    assert_eq!(under(&elder, &paths), pairs);

    let mounted = [
        "/items",
        "/items/",
        "/items/new/parts",
        "/items/{id}/parts",
        "/users/{id}/photos",
        "/users/me/photos",
        "/users/{id}/posts/{post}",
        "/files",
        "/deep/x/{b}/start",
        "/deep/{a}/{b}/{c}",
        "/{any}/export",
        "/{any}/new",
    ];
    let nothing = under(&elder, &mounted);
    assert!(nothing.is_empty(), "{nothing:?}");
}

#[test]
fn a_parameter_over_an_elders_literals_takes_nothing() {
    let elder = of("elder", &["/items/export", "/items/export/{format}"]);
    let newcomer = of("newcomer", &["/items/{id}", "/items/{id}/{*rest}"]);
    let (table, conflicts) = Table::build(vec![elder, newcomer]);
    assert_eq!(conflicts, []);
    for (path, plugin) in [
        ("/items/export", "elder"),
        ("/items/export/csv", "elder"),
        ("/items/7", "newcomer"),
        ("/items/7/csv", "newcomer"),
        ("/items/export/csv/x", "newcomer"),
    ] {
        let found = served(&table, &Method::GET, path).unwrap();
        assert_eq!(found.0, plugin, "{path}");
    }
}

#[test]
fn other_methods_are_others_to_have() {
    let elder = entry("elder", &[(RouteMethod::Post, "/x/{*path}")]);
    let routes = [RouteMethod::Get, RouteMethod::Put].map(|method| (method, "/x/y"));
    let (_, conflicts) = Table::build(vec![elder, entry("newcomer", &routes)]);
    assert_eq!(conflicts, []);
}

#[test]
fn a_route_without_a_name_of_its_own_claims_nothing() {
    let elder = [
        "/{*path}",
        "/api/{*rest}",
        "/api/v1/{what}/{id}",
        "/api/plugins/{name}/help",
    ];
    let newcomer = [
        "/",
        "/wiki",
        "/api/items",
        "/api/v1/items/7",
        "/api/plugins/wiki/help",
    ];
    let nothing = under(&elder, &newcomer);
    assert!(nothing.is_empty(), "{nothing:?}");
    let nothing = under(&["/api/v2/{*path}"], &["/api/v2/items"]);
    assert!(nothing.is_empty(), "{nothing:?}");
    let nothing = under(&["/{tenant}/orders"], &["/shop/orders"]);
    assert!(nothing.is_empty(), "{nothing:?}");
    let anothers = ["/api/plugins/wiki/{*page}", "/api/plugins/elders/{*page}"];
    let nothing = under(&anothers, &["/api/plugins/wiki/login"]);
    assert!(nothing.is_empty(), "{nothing:?}");
    let (own, login) = ("/api/plugins/elder/{*page}", "/api/plugins/elder/login");
    let pair = (login.to_owned(), own.to_owned());
    assert_eq!(under(&[own], &[login]), [pair]);
}

#[test]
fn each_of_several_elders_keeps_its_own() {
    let (table, conflicts) = Table::build(vec![
        of("one", &["/x/y/{*rest}"]),
        // Over the first's, which takes nothing from it.
        of("two", &["/x/{*rest}"]),
        of("three", &["/x/y/z", "/x/z", "/z"]),
    ]);
    let causes: Vec<_> = conflicts
        .into_iter()
        .map(|conflict| conflict.cause)
        .collect();
    let under = |by: &str, path: &str| ConflictCause::Under {
        by: PluginId::parse(by).unwrap(),
        path: path.to_owned(),
    };
    assert_eq!(
        causes,
        [under("one", "/x/y/{*rest}"), under("two", "/x/{*rest}")]
    );
    let owner = |path| served(&table, &Method::GET, path).unwrap().0;
    assert_eq!(owner("/x/y/z"), "one");
    assert_eq!(owner("/x/z"), "two");
    assert_eq!(owner("/z"), "three");
}

#[test]
fn what_is_not_mounted_claims_nothing() {
    let (table, conflicts) = Table::build(vec![
        of("one", &["/x/{id}"]),
        of("two", &["/x/{*rest}", "/metrics/{*all}"]),
        of("three", &["/x/y/z"]),
    ]);
    assert_eq!(conflicts.len(), 2);
    assert_eq!(served(&table, &Method::GET, "/x/y/z").unwrap().0, "three");
}

/// Age is a plugin's: of a plugin's new routes too, those of younger plugins give way.
#[test]
fn a_plugins_new_routes_are_as_old_as_itself() {
    let younger = of("younger", &["/x/y"]);
    let build = |elder| Table::build(vec![elder, Arc::clone(&younger)]);
    let (_, conflicts) = build(of("elder", &["/x"]));
    assert_eq!(conflicts, []);
    let (table, conflicts) = build(of("elder", &["/x", "/x/{id}"]));
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].plugin.as_str(), "younger");
    assert_eq!(served(&table, &Method::GET, "/x/y").unwrap().0, "elder");
}

#[test]
fn a_route_that_crosses_too_many_is_refused_at_once() {
    let crossed = |letter: char| -> Vec<String> {
        let paths = (0..900).map(|n| format!("/x/{{k}}/{letter}{n}/b"));
        paths.collect()
    };
    let (_, conflicts) = Table::build(vec![
        of_all("one", &crossed('l')),
        of_all("two", &crossed('m')),
        of("three", &["/x/y/{c}/z", "/x/y/l7/z", "/x/y/l7/b"]),
    ]);
    let causes: Vec<_> = conflicts
        .iter()
        .map(|conflict| (conflict.path.as_str(), &conflict.cause))
        .collect();
    let by = PluginId::parse("one").unwrap();
    let path = "/x/{k}/l7/b".to_owned();
    assert_eq!(
        causes,
        [
            ("/x/y/{c}/z", &ConflictCause::Unclear),
            ("/x/y/l7/b", &ConflictCause::Under { by, path }),
        ]
    );
}

#[test]
fn a_plugins_routes_that_cross_many_are_refused_once_too_much_was_looked_at_for_it() {
    let many = |path: fn(usize) -> String, count| (0..count).map(path).collect::<Vec<_>>();
    // Each is looked at in 900 places, and crosses none of them.
    let elder = of_all("elder", &many(|n| format!("/x/{{k}}/l{n}/b"), 900));
    let newcomer = of_all("newcomer", &many(|n| format!("/x/y{n}/{{c}}/z"), 20));
    let (_, conflicts) = Table::build(vec![elder, newcomer]);
    assert!((1..20).contains(&conflicts.len()), "{conflicts:?}");
    let unclear = |conflict: &RouteConflict| conflict.cause == ConflictCause::Unclear;
    assert!(conflicts.iter().all(unclear), "{conflicts:?}");
}

/// A path that both match, if any does.
fn shared(one: &str, other: &str) -> String {
    let value = |segment: &str| {
        let value = if segment.starts_with('{') {
            "v"
        } else {
            segment
        };
        value.to_owned()
    };
    let (mut ones, mut others) = (one.split('/'), other.split('/'));
    let mut path = Vec::new();
    while let (Some(one), Some(other)) = (ones.next(), others.next()) {
        if one.starts_with("{*") {
            path.push(value(other));
            path.extend(others.map(value));
            break;
        }
        if other.starts_with("{*") {
            path.push(value(one));
            path.extend(ones.map(value));
            break;
        }
        path.push(value(if one.starts_with('{') { other } else { one }));
    }
    path.join("/")
}

/// Declared paths below a name that an elder can claim.
fn named() -> impl Strategy<Value = Vec<String>> {
    different().prop_map(|paths| paths.iter().map(|path| format!("/s{path}")).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// What the elder's routes have alone they have among others' too.
    #[test]
    fn newcomers_take_nothing(
        elder in named(),
        newcomer in named(),
        paths in prop::collection::vec(requested(), 1..12),
    ) {
        let elder = of_all("elder", &elder);
        let newcomer = of_all("newcomer", &newcomer);
        let (alone, _) = Table::build(vec![Arc::clone(&elder)]);
        let (both, _) = Table::build(vec![elder, newcomer]);
        for path in paths {
            let path = format!("/s{path}");
            let had = served(&alone, &Method::GET, &path);
            if had.is_some() {
                prop_assert_eq!(served(&both, &Method::GET, &path), had, "{}", path);
            }
        }
    }

    /// A newcomer's route is refused only where there is a request that it would take.
    #[test]
    fn newcomers_are_refused_nothing_else(elder in named(), newcomer in named()) {
        let entries = vec![of_all("elder", &elder), of_all("newcomer", &newcomer)];
        let (_, conflicts) = Table::build(entries);
        for conflict in conflicts {
            let ConflictCause::Under { path, .. } = conflict.cause else {
                continue;
            };
            let request = shared(&conflict.path, &path);
            prop_assert!(matches_naively(&conflict.path, &request).is_some(), "{}", request);
            prop_assert!(matches_naively(&path, &request).is_some(), "{}", request);
            prop_assert!(generality(&conflict.path) < generality(&path));
        }
    }
}
