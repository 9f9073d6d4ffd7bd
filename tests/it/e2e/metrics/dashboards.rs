//! The dashboard and the alert rules ask for metrics and labels that a running daemon exposes.

use std::collections::BTreeSet;
use std::process::Command;

use pinfold_tests::repository;
use serde_json::Value;

use super::{Exposed, Row, Setup, documented, exposed_rows};

const RULES: &str = include_str!("../../../../docs/operations/alerts.yml");
const DASHBOARD: &str = include_str!("../../../../docs/operations/grafana-dashboard.json");
/// Labels that Prometheus itself adds.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

/// Every expression of both files, and what of it is asked for.
fn expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            found.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        found.extend(variable["query"]["query"].as_str().map(str::to_owned));
    }
    let panels = found.len();
    assert!(panels > 20, "{panels}");
    // An expression is the rest of its line, or, after `>-`, the lines that are further in.
    let mut lines = RULES.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(value) = line.trim_start().strip_prefix("expr: ") else {
            continue;
        };
        let mut expression = value.trim().to_owned();
        if expression == ">-" {
            let inside = |line: &&str| line.starts_with("          ");
            expression.clear();
            while let Some(line) = lines.next_if(inside) {
                expression.push_str(line.trim());
                expression.push(' ');
            }
        }
        found.push(expression);
    }
    assert_eq!(found.len() - panels, RULES.matches("- alert: ").count());
    found
}

/// A metric that an expression names, and the labels that it selects by: name and pattern.
fn selectors(expression: &str) -> Vec<(String, Vec<(String, String)>)> {
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("pinfold_") {
        if expression[..at].ends_with(is_name) {
            continue;
        }
        let rest = &expression[at..];
        let end = rest
            .find(|character: char| !is_name(character))
            .unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let mut labels = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            let inside = inside.split_once('}').unwrap().0;
            for label in inside.split(',') {
                let (name, value) = label.split_once('=').unwrap();
                let name = name.trim().trim_end_matches('!').to_owned();
                let value = value.trim_start_matches('~').trim_matches('"').to_owned();
                labels.push((name, value));
            }
        }
        found.push((name.to_owned(), labels));
    }
    found
}

/// Labels after `by (`.
fn groupings(expression: &str) -> Vec<String> {
    let lists = expression.split("by (").skip(1);
    lists
        .flat_map(|rest| rest.split_once(')').unwrap().0.split(','))
        .map(|label| label.trim().to_owned())
        .collect()
}

/// The labels of a metric, by the name that an expression has for it.
fn labels_of(rows: &BTreeSet<Row>, name: &str) -> Option<BTreeSet<String>> {
    rows.iter().find_map(|(row, kind, labels, _)| {
        let is_it = match kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .any(|end| name.strip_suffix(*end) == Some(row.as_str())),
            _ => name == row,
        };
        is_it.then(|| labels.clone())
    })
}

fn check(rows: &BTreeSet<Row>) {
    let values = concat!(
        include_str!("../../../../docs/metrics.md"),
        include_str!("../../../../docs/architecture.md")
    );
    let mut asked = BTreeSet::new();
    for expression in expressions() {
        let selectors = selectors(&expression);
        assert!(!selectors.is_empty(), "{expression}");
        let mut known: BTreeSet<String> = OF_PROMETHEUS.map(str::to_owned).into();
        for (name, selected) in selectors {
            let labels = labels_of(rows, &name);
            let labels = labels.unwrap_or_else(|| panic!("{name} of {expression} is not exposed"));
            for (label, value) in selected {
                if OF_PROMETHEUS.contains(&label.as_str()) {
                    continue;
                }
                assert!(
                    labels.contains(&label),
                    "{name} has no label {label}: {expression}"
                );
                if value.starts_with('$') {
                    continue;
                }
                for word in value.split('|') {
                    let word = word.split('\\').next().unwrap();
                    assert!(
                        values.contains(word),
                        "{label} is never {word}: {expression}"
                    );
                }
            }
            known.extend(labels);
            asked.insert(name);
        }
        for label in groupings(&expression) {
            assert!(
                known.contains(&label),
                "nothing has a label {label}: {expression}"
            );
        }
    }
    // Nothing that a plugin is counted by is left out of the dashboard and the rules together.
    for (name, kind, ..) in rows {
        let is_asked = asked.iter().any(|one| match kind.as_str() {
            "histogram" => one.starts_with(name.as_str()),
            _ => one == name,
        });
        assert!(is_asked, "nothing shows {name}");
    }
}

#[test]
fn dashboard_and_alerts_ask_for_what_is_documented() {
    check(&documented());
}

#[test]
fn dashboard_and_alerts_ask_for_what_a_running_daemon_exposes() {
    if !super::super::can_run_as_root() {
        return;
    }
    let daemon = Setup::new().plugin("g4", "goatflow-g4").start();
    daemon.ready("g4");
    let exposed = Exposed::of(&daemon);
    check(&exposed_rows(&exposed));
    check_limits_of_quantiles(&exposed);
    check_states_of_down(&exposed);
}

/// What is down is so in whichever state: where a rule left one out that a plugin passes through, or told states
/// apart, it would begin anew each time.
fn check_states_of_down(exposed: &Exposed) {
    let mut rules = expressions().into_iter();
    let is_it = |rule: &String| rule.contains("pinfold_plugin_state{") && rule.contains("failed|");
    let rule = rules.find(is_it).unwrap();
    assert!(!groupings(&rule).contains(&"state".to_owned()), "{rule}");
    let (_, labels) = selectors(&rule).remove(0);
    let named: Vec<&str> = labels
        .iter()
        .flat_map(|(_, value)| value.split('|'))
        .collect();
    let samples = exposed.samples.iter();
    let states: BTreeSet<&str> = samples
        .filter(|(name, ..)| name == "pinfold_plugins")
        .map(|(_, labels, _)| labels["state"].as_str())
        .collect();
    let silent: Vec<&str> = states
        .into_iter()
        .filter(|state| !named.contains(state))
        .collect();
    assert_eq!(silent, ["degraded", "disabled", "ready", "stopped"]);
}

/// Within a bucket a quantile is made up: what a rule says of one is true at a bound alone.
fn check_limits_of_quantiles(exposed: &Exposed) {
    let mut checked = 0;
    for expression in expressions() {
        let Some((quantile, limit)) = expression.rsplit_once(" > ") else {
            continue;
        };
        if !quantile.contains("histogram_quantile(") {
            continue;
        }
        let limit: f64 = limit.trim().parse().unwrap();
        let (name, _) = selectors(quantile).remove(0);
        let buckets = exposed.samples.iter().filter(|(other, ..)| *other == name);
        let mut bounds = buckets.filter_map(|(_, labels, _)| labels["le"].parse::<f64>().ok());
        assert!(
            bounds.any(|bound| bound == limit),
            "{limit} is no bound of {name}"
        );
        checked += 1;
    }
    assert!(checked > 0);
}

#[test]
fn calls_of_a_plugin_that_was_switched_off_are_no_failures_of_its_own() {
    let calls: Vec<&str> = RULES
        .lines()
        .filter(|line| line.contains("(pinfold_plugin_calls_total"))
        .collect();
    assert_eq!(calls.len(), 2, "{calls:?}");
    for line in calls {
        assert!(line.contains("outcome!=\"call.disabled\""), "{line}");
    }
}

#[test]
fn prometheus_takes_the_alert_rules() {
    let rules = repository().join("docs/operations/alerts.yml");
    match Command::new("promtool")
        .args(["check", "rules"])
        .arg(rules)
        .output()
    {
        Ok(output) => assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => println!(
            "skipped: prometheus_takes_the_alert_rules: promtool (Debian's prometheus): {error}"
        ),
    }
}
