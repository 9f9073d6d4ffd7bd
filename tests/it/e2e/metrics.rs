//! What a monitoring system reads, against what the documentation says and what was done.

mod dashboards;

use std::collections::{BTreeMap, BTreeSet};

use nix::sys::signal::Signal;
use pinfold_tests::wait_for;
use serde_json::json;

use super::daemon::Daemon;
use super::process;
use super::setup::Setup;

const METRICS: &str = "/api/pinfold/v1/metrics";

/// What was exposed: types by family, units by family, and samples.
#[derive(Default)]
struct Exposed {
    types: BTreeMap<String, String>,
    units: BTreeMap<String, String>,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Exposed {
    fn of(daemon: &Daemon) -> Self {
        let answer = daemon.admin().get("/metrics").send();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(
            answer.header("content-type"),
            Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
        );
        Self::read(&answer.text())
    }

    fn read(text: &str) -> Self {
        assert!(text.ends_with("# EOF\n"), "{text}");
        let mut exposed = Self::default();
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some(meta) = line.strip_prefix("# ") {
                let mut words = meta.splitn(3, ' ');
                let mut word = || words.next().unwrap().to_owned();
                let (kind, family, rest) = (word(), word(), word());
                match kind.as_str() {
                    "TYPE" => assert!(exposed.types.insert(family, rest).is_none(), "{line}"),
                    "UNIT" => assert!(exposed.units.insert(family, rest).is_none(), "{line}"),
                    "HELP" => assert!(!rest.is_empty(), "{line}"),
                    _ => panic!("{line}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}').unwrap().split(',');
            let labels = labels.filter(|label| !label.is_empty()).map(|label| {
                let (name, value) = label.split_once('=').unwrap();
                (name.to_owned(), value.trim_matches('"').to_owned())
            });
            let sample = (name.to_owned(), labels.collect(), value.parse().unwrap());
            exposed.samples.push(sample);
        }
        exposed
    }

    /// The sum of a metric's samples that have all these labels; `None` where there are none.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |has: &BTreeMap<String, String>| {
            labels
                .iter()
                .all(|(label, value)| has.get(*label).is_some_and(|other| other == value))
        };
        let found = self.samples.iter();
        found
            .filter(|(other, has, _)| other == name && fits(has))
            .map(|(_, _, value)| *value)
            .reduce(|sum, value| sum + value)
    }
}

/// A row of the table: the name of its samples, type, labels and unit.
type Row = (String, String, BTreeSet<String>, Option<String>);

fn documented() -> BTreeSet<Row> {
    let page = include_str!("../../../docs/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `pinfold_"));
    rows.map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let labels = cells[3]
            .split(',')
            .map(|label| label.trim().trim_matches('`'));
        (
            cells[1].trim_matches('`').to_owned(),
            cells[2].to_owned(),
            labels.map(str::to_owned).collect(),
            (cells[4] != "–").then(|| cells[4].to_owned()),
        )
    })
    .collect()
}

fn exposed_rows(exposed: &Exposed) -> BTreeSet<Row> {
    exposed
        .types
        .iter()
        .map(|(family, kind)| {
            let (suffix, sampled) = match kind.as_str() {
                "counter" => ("_total", "_total"),
                "info" => ("_info", "_info"),
                "histogram" => ("", "_bucket"),
                _ => ("", ""),
            };
            let sampled = format!("{family}{sampled}");
            let mut samples = exposed.samples.iter();
            let labels = samples
                .find(|(name, ..)| *name == sampled)
                .map(|(_, labels, _)| labels.keys().cloned().collect())
                .unwrap_or_else(|| panic!("{family} has no sample"));
            let unit = exposed.units.get(family).cloned();
            (format!("{family}{suffix}"), kind.clone(), labels, unit)
        })
        .collect()
}

#[test]
fn the_table_of_metrics_and_a_running_daemon_agree() {
    if !super::can_run_as_root() {
        return;
    }
    let daemon = Setup::new().plugin("g4", "goatflow-g4").start();
    daemon.ready("g4");
    let (documented, exposed) = (documented(), exposed_rows(&Exposed::of(&daemon)));
    let missing: Vec<_> = documented.difference(&exposed).collect();
    let undocumented: Vec<_> = exposed.difference(&documented).collect();
    assert!(
        missing.is_empty(),
        "not exposed as documented: {missing:#?}"
    );
    assert!(
        undocumented.is_empty(),
        "not documented as exposed: {undocumented:#?}"
    );
}

#[test]
fn calls_and_host_calls_are_counted_by_what_came_of_them() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .policy(
            "g4",
            &format!(
                "[permissions]\ncache = \"read\"\n[timeouts]\ncall = \"{}\"\n",
                pinfold_tests::deadline(1)
            ),
        )
        .start();
    daemon.ready("g4");
    for _ in 0..3 {
        let answer = daemon.http().get("/api/plugins/g4/public").send();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(daemon.call("g4", "error", &json!({})).status, 500);
    assert_eq!(daemon.call("g4", "hang", &json!({})).status, 504);
    daemon.host("g4", "cache_get", &json!({"key": "a"}));
    daemon.refusal(
        "g4",
        "cache_set",
        &json!({"key": "a", "value": "YQ==", "ttl_seconds": 1}),
    );

    let exposed = Exposed::of(&daemon);
    let calls = |outcome| {
        let labels = [("plugin", "g4"), ("outcome", outcome)];
        exposed.sum("pinfold_plugin_calls_total", &labels)
    };
    assert_eq!(calls("ok"), Some(5.0));
    assert_eq!(calls("call.plugin"), Some(1.0));
    assert_eq!(calls("call.deadline"), Some(1.0));
    assert_eq!(calls("cancelled"), Some(0.0));
    let plugin = [("plugin", "g4")];
    let counted = exposed.sum("pinfold_plugin_call_duration_seconds_count", &plugin);
    assert_eq!(counted, Some(7.0));
    let all = [("plugin", "g4"), ("le", "+Inf")];
    let counted = exposed.sum("pinfold_plugin_call_duration_seconds_bucket", &all);
    assert_eq!(counted, Some(7.0));
    let took = exposed.sum("pinfold_plugin_call_duration_seconds_sum", &plugin);
    assert!(took > Some(1.0), "a call waited out its deadline: {took:?}");
    let host = |decision| {
        let labels = [
            ("plugin", "g4"),
            ("service", "cache"),
            ("decision", decision),
        ];
        exposed.sum("pinfold_plugin_host_calls_total", &labels)
    };
    assert_eq!((host("allow"), host("deny")), (Some(1.0), Some(1.0)));
    let in_flight = exposed.sum("pinfold_plugin_requests_in_flight", &plugin);
    assert_eq!(in_flight, Some(0.0));

    let usage = daemon.admin().get("/api/pinfold/v1/usage").send().ok();
    let usage = &usage["plugins"][0];
    let refused = ["deny", "limit"].map(|decision| {
        let labels = [("plugin", "g4"), ("decision", decision)];
        exposed.sum("pinfold_plugin_host_calls_total", &labels)
    });
    assert_eq!(
        (&usage["calls"], &usage["failures"]),
        (&json!(7), &json!(2))
    );
    assert_eq!(
        usage["host_calls_refused"].as_f64(),
        refused.into_iter().sum::<Option<f64>>()
    );
}

#[test]
fn counters_outlive_a_process_and_series_end_with_the_plugin() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().plugin("g4", "goatflow-g4").start();
    let calls = [("plugin", "g4"), ("outcome", "ok")];
    for _ in 0..4 {
        daemon.result("g4", "echo", &json!({}));
    }
    let pid = daemon.plugin_pid("g4");
    process::signal(pid, Signal::SIGKILL);
    process::all_gone("the plugin", [pid]);
    daemon.rescan(Some("g4"));
    daemon.in_state("g4", "ready");
    daemon.result("g4", "echo", &json!({}));
    let exposed = Exposed::of(&daemon);
    assert_eq!(exposed.sum("pinfold_plugin_calls_total", &calls), Some(5.0));
    assert_eq!(
        exposed.sum("pinfold_plugin_up", &[("plugin", "g4")]),
        Some(1.0)
    );

    std::fs::remove_dir_all(daemon.base().join("plugins/g4")).unwrap();
    daemon.rescan(None);
    wait_for("the plugin's series to end", || {
        let exposed = Exposed::of(&daemon);
        let of_plugin = exposed.samples.iter();
        (of_plugin
            .filter(|(_, labels, _)| labels.contains_key("plugin"))
            .count()
            == 0)
            .then_some(())
    });
}

#[test]
fn metrics_are_for_administrators_and_for_those_who_read_metrics() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().start();
    let token = |roles: &[&str]| daemon.token(&format!("user-{}", roles.join("-")), roles);
    let (reader, admin, other) = (token(&["metrics"]), token(&["admin"]), token(&["Metrics"]));
    let status = |path: &str, token: &str| daemon.http().get(path).token(token).send().status;
    assert_eq!(daemon.http().get(METRICS).send().status, 401);
    assert_eq!(status(METRICS, &other), 403);
    for token in [&reader, &admin] {
        let answer = daemon.http().get(METRICS).token(token).send();
        assert_eq!(answer.status, 200);
        Exposed::read(&answer.text());
    }
    for path in [
        "/api/pinfold/v1/usage",
        "/api/pinfold/v1/status",
        "/api/pinfold/v1/metrics/x",
    ] {
        assert_eq!(status(path, &reader), 403, "{path}");
    }
    assert_eq!(status("/metrics", &admin), 404);
}
