//! The table against a naive one, and hostile declarations.

use std::collections::HashSet;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use pinfold_policy::CallContext;
use proptest::prelude::*;

use super::*;
use crate::config::GatewayConfig;
use crate::limit::Capacity;
use crate::plugin::{CallError, PluginRequest, PluginResponse};

mod elders;

/// An instance that is never asked.
struct Silent;

impl Instance for Silent {
    fn http(
        &self,
        _: PluginRequest,
        _: CallContext,
    ) -> BoxFuture<'_, Result<PluginResponse, CallError>> {
        Box::pin(async { Err(CallError::Disabled) })
    }
    fn call(&self, _: &str, _: Bytes, _: CallContext) -> BoxFuture<'_, Result<Bytes, CallError>> {
        Box::pin(async { Err(CallError::Disabled) })
    }
    fn ping(&self, _: CallContext) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(async { Err(CallError::Disabled) })
    }
}

fn entry(plugin: &str, routes: &[(RouteMethod, &str)]) -> Arc<Entry> {
    Arc::new(Entry {
        plugin: PluginId::parse(plugin).unwrap(),
        version: "1".into(),
        generation: Generation(1),
        routes: routes
            .iter()
            .map(|(method, path)| {
                Arc::new(Route {
                    method: *method,
                    path: (*path).to_owned(),
                    handler: "h".into(),
                    middleware: vec![],
                    description: String::new(),
                })
            })
            .collect(),
        instance: Arc::new(Silent),
        call_timeout: Duration::from_secs(1),
        calls_per_second: None,
        meter: Capacity::new(&GatewayConfig::default()).meter(),
    })
}

fn gets(paths: &[&str]) -> Arc<Entry> {
    let routes: Vec<_> = paths.iter().map(|path| (RouteMethod::Get, *path)).collect();
    entry("p", &routes)
}

/// Declared path and parameters of the route that serves GET.
fn lookup(table: &Table, raw: &str) -> Option<(String, Vec<(String, String)>)> {
    let path = RequestPath::read(raw).ok()?;
    match table.find(&Method::GET, &path) {
        Found::Route(matched) => Some((matched.route.path.clone(), matched.parameters)),
        Found::OtherMethods(_) | Found::Nothing => None,
    }
}

#[test]
fn earlier_plugin_keeps_a_route_that_a_later_one_wants() {
    let first = entry(
        "a",
        &[
            (RouteMethod::Get, "/x/{id}"),
            (RouteMethod::Post, "/x/{id}"),
        ],
    );
    let second = entry(
        "b",
        &[(RouteMethod::Get, "/x/{name}"), (RouteMethod::Get, "/y")],
    );
    let (table, conflicts) = Table::build(vec![first, second]);
    assert_eq!(conflicts.len(), 1);
    assert_eq!(
        conflicts[0].to_string(),
        "route GET /x/{name} of plugin \"b\" is not mounted: /x/{id} of plugin \"a\" is there already"
    );
    assert_eq!(lookup(&table, "/x/1").unwrap().0, "/x/{id}");
    assert!(lookup(&table, "/y").is_some());
    assert!(table.entry(&PluginId::parse("b").unwrap()).is_some());
}

#[test]
fn reserved_prefixes_are_taken_by_no_plugin() {
    let wanted = [
        "/api/pinfold",
        "/api/pinfold/v1/tokens",
        "/api/v1/plugins/{name}/call/{fn}",
        "/healthz",
        "/readyz",
        "/metrics/x",
        "/.well-known/acme-challenge/{t}",
        "/api/pinfolds",
        "/api/v1/pluginsx",
        "/api/{*rest}",
        "/{*rest}",
        "/",
    ];
    let (_, conflicts) = Table::build(vec![gets(&wanted)]);
    let refused: Vec<_> = conflicts
        .iter()
        .map(|conflict| conflict.path.as_str())
        .collect();
    assert_eq!(refused, wanted[..7]);
    assert!(
        conflicts
            .iter()
            .all(|c| matches!(c.cause, ConflictCause::Reserved { .. }))
    );
}

#[test]
fn literals_beat_parameters_and_parameters_are_decoded() {
    let (table, conflicts) = Table::build(vec![gets(&[
        "/i/{id}",
        "/i/new",
        "/i/{id}/x",
        "/f/{*path}",
        "/größe",
    ])]);
    assert_eq!(conflicts, []);
    let served = |raw| lookup(&table, raw);
    let by = |path: &str, parameters: &[(&str, &str)]| {
        let parameters = parameters
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        Some((path.to_owned(), parameters))
    };
    assert_eq!(served("/i/new"), by("/i/new", &[]));
    assert_eq!(served("/i/%6eew"), by("/i/new", &[]));
    assert_eq!(served("/i/new/x"), by("/i/{id}/x", &[("id", "new")]));
    assert_eq!(served("/i/a%20b%2Fc"), by("/i/{id}", &[("id", "a b/c")]));
    assert_eq!(served("/f/a/b"), by("/f/{*path}", &[("path", "a/b")]));
    assert_eq!(served("/f/"), by("/f/{*path}", &[("path", "")]));
    assert_eq!(served("/gr%C3%B6%c3%9fe"), by("/größe", &[]));
    for nothing in ["/i", "/i/", "/f", "/i/new/", "/I/new"] {
        assert_eq!(served(nothing), None, "{nothing}");
    }
}

#[test]
fn other_methods_of_a_path_are_named() {
    let routes = [(RouteMethod::Put, "/a"), (RouteMethod::Get, "/{x}")];
    let (table, _) = Table::build(vec![entry("p", &routes)]);
    let path = RequestPath::read("/a").unwrap();
    assert!(matches!(table.find(&Method::HEAD, &path), Found::Route(_)));
    let Found::OtherMethods(methods) = table.find(&Method::OPTIONS, &path) else {
        panic!()
    };
    assert_eq!(methods, [RouteMethod::Get, RouteMethod::Put]);
}

#[test]
fn routes_over_the_limit_are_reported_once() {
    let paths: Vec<_> = (0..ROUTES_PER_PLUGIN_LIMIT + 5)
        .map(|n| format!("/r/{n}"))
        .collect();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    let (table, conflicts) = Table::build(vec![gets(&paths)]);
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].cause, ConflictCause::TooMany);
    assert!(lookup(&table, "/r/999").is_some());
    assert!(lookup(&table, "/r/1000").is_none());
}

/// Whether a pattern matches, segment by segment; the parameters if so.
fn matches_naively(pattern: &str, path: &str) -> Option<Vec<(String, String)>> {
    let (mut patterns, mut segments) = (pattern.split('/'), path.split('/'));
    let mut parameters = Vec::new();
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return Some(parameters),
            (Some(rest), Some(first)) if rest.starts_with("{*") => {
                let all: Vec<_> = std::iter::once(first).chain(segments).collect();
                parameters.push((rest.trim_matches(['{', '*', '}']).to_owned(), all.join("/")));
                return Some(parameters);
            }
            (Some(one), Some(value)) if one.starts_with('{') => {
                if value.is_empty() && patterns.clone().next().is_none() {
                    return None;
                }
                parameters.push((one.trim_matches(['{', '}']).to_owned(), value.to_owned()));
            }
            (Some(literal), Some(value)) if literal == value => {}
            _ => return None,
        }
    }
}

/// For each segment how general it is: the smallest sequence wins.
fn generality(pattern: &str) -> Vec<u8> {
    pattern
        .split('/')
        .map(|segment| match segment {
            _ if segment.starts_with("{*") => 2,
            _ if segment.starts_with('{') => 1,
            _ => 0,
        })
        .collect()
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        5 => prop::sample::select(vec!["a", "b", "ab", "abc", "ba", "aa", "c"]).prop_map(str::to_owned),
        3 => prop::sample::select(vec!["{x}", "{y}", "{zz}"]).prop_map(str::to_owned),
    ]
}

fn declared() -> impl Strategy<Value = String> {
    let end = prop_oneof![4 => Just(""), 1 => Just("/"), 2 => Just("/{*r}"), 1 => Just("/{*rest}")];
    (prop::collection::vec(segment(), 0..5), end).prop_map(|(segments, end)| {
        let path: String = segments
            .iter()
            .map(|segment| format!("/{segment}"))
            .collect();
        let path = path + end;
        if path.is_empty() {
            "/".to_owned()
        } else {
            path
        }
    })
}

fn different() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(declared(), 0..14).prop_map(|mut routes| {
        let mut seen = HashSet::new();
        routes.retain(|route| seen.insert(route.clone()));
        routes
    })
}

fn requested() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(vec!["a", "b", "ab", "abc", "abd", "ba", "d", "x%2Fy", ""]),
        1..6,
    )
    .prop_map(|segments| {
        segments
            .iter()
            .map(|segment| format!("/{segment}"))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// What is mounted is found exactly as a search through all of it would.
    #[test]
    fn table_agrees_with_a_naive_one(
        routes in different(),
        paths in prop::collection::vec(requested(), 1..12),
    ) {
        let borrowed: Vec<_> = routes.iter().map(String::as_str).collect();
        let (table, conflicts) = Table::build(vec![gets(&borrowed)]);
        let skipped: HashSet<_> = conflicts.into_iter().map(|conflict| conflict.path).collect();
        let mounted: Vec<_> = routes.iter().filter(|route| !skipped.contains(*route)).collect();
        for raw in &paths {
            let naive = mounted
                .iter()
                .filter_map(|pattern| Some((generality(pattern), pattern, matches_naively(pattern, raw)?)))
                .min_by(|one, two| one.0.cmp(&two.0))
                .filter(|(_, pattern, parameters)| {
                    // A rest may be empty; a single parameter may not.
                    let singles = parameters.len() - usize::from(pattern.contains("{*"));
                    parameters[..singles].iter().all(|(_, value)| !value.is_empty())
                })
                .map(|(_, pattern, parameters)| {
                    let decoded = parameters
                        .into_iter()
                        .map(|(name, value)| (name, value.replace("%2F", "/")))
                        .collect::<Vec<_>>();
                    (String::clone(pattern), decoded)
                });
            prop_assert_eq!(lookup(&table, raw), naive, "path {} among {:?}", raw, mounted);
        }
    }

    /// A route is left out only for a reason that holds.
    #[test]
    fn what_is_reported_does_clash(routes in different()) {
        let borrowed: Vec<_> = routes.iter().map(String::as_str).collect();
        let (_, conflicts) = Table::build(vec![gets(&borrowed)]);
        for conflict in conflicts {
            match conflict.cause {
                ConflictCause::Taken { path, .. } => {
                    let shape = |path: &str| Pattern::parse(path).unwrap().shape;
                    prop_assert_eq!(shape(&path), shape(&conflict.path));
                }
                ConflictCause::Ambiguous { with } => {
                    let places = |path: &str| Pattern::parse(path).unwrap().places;
                    let (ours, theirs) = (places(&conflict.path), places(&with));
                    let clash = ours.iter().any(|(at, rest)| {
                        theirs.iter().any(|(other, other_rest)| at == other && rest != other_rest)
                    });
                    prop_assert!(clash);
                }
                ConflictCause::Pattern(PatternError::Repeated { name }) => {
                    let parameter = format!("{{{name}}}");
                    prop_assert!(conflict.path.matches(&parameter).count() > 1);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn hostile_declarations_and_requests_do_no_harm(data in prop::collection::vec(any::<u8>(), 0..400)) {
        replay(&data);
    }

    #[test]
    fn hostile_braces_do_no_harm(text in "[/{}*a%.:\n-]{0,60}") {
        replay(text.as_bytes());
    }
}

/// Fuzz body: lines are routes and requests at once. Whatever they are, the table is built, each
/// route is mounted or reported, and each look-up ends.
fn replay(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines: Vec<_> = text.split('\n').take(64).collect();
    let (table, conflicts) =
        Table::build(vec![gets(&lines), entry("q", &[(RouteMethod::Get, "/q")])]);
    assert!(conflicts.len() <= lines.len() + 1);
    for line in &lines {
        if let Some((path, parameters)) = lookup(&table, line) {
            assert!(lines.contains(&path.as_str()) || path == "/q");
            assert!(parameters.len() <= 16);
        }
    }
    for conflict in &conflicts {
        assert!(!conflict.to_string().is_empty());
    }
}

#[test]
fn corpus_of_odd_declarations_does_no_harm() {
    let many_parameters: String = (0..40).map(|n| format!("/{{p{n}}}")).collect();
    let deep = "/{*a".repeat(100);
    for text in [
        "",
        "/",
        "//",
        "/{",
        "/}",
        "/{}",
        "/{{",
        "/{{x}}",
        "/{a}{b}",
        "/{*}",
        "/{*a}/b",
        "/{a\n/{a}/{b}",
        "/%",
        "/%7Bx%7D",
        "/{x}\n/{*y}",
        "/a/{x}/b\n/a/{*y}\n/a/{z}",
        "/ö\n/{é}",
        "/\u{0}",
        "/a/./b\n/..",
        "/:id\n/*rest",
        &many_parameters,
        &deep,
        &"/".repeat(5000),
        &"x".repeat(5000),
    ] {
        replay(text.as_bytes());
    }
}
