//! What the number of routes does to a request.

use super::daemon::{Installation, prepare};
use super::gateway::{self, FIXTURE};
use super::section::{
    About, Better, Case, Effort, Form, Plot, Role, Section, Subject, Turn, Values, measure,
    without_root,
};
use super::wrk::{self, Target};
use crate::go_fixture;

const OURS: &str = "Pinfold";
/// In each case as many, so that routes alone differ. One plugin has at most 1000 routes.
const PLUGINS: u64 = 10;
const ROUTES: [(u64, &str); 3] = [
    (1, "1 route"),
    (100, "100 routes"),
    (10_000, "10,000 routes"),
];

/// The section.
#[derive(Debug)]
pub(super) struct Routes;

impl Section for Routes {
    fn about(&self) -> About {
        let root = without_root();
        let measure = |key, title, unit, better| measure(key, title, unit, better, false);
        let lines = |file, title, measure| Plot {
            file,
            title,
            measure,
            only: &[],
            along: None,
            axis: "routes",
            form: Form::Lines,
            logarithmic: false,
        };
        About {
            name: "routes",
            title: "Growth with routes",
            question: "Does a request take longer where there are more routes?",
            method: "Ten jailed plugins that have so many routes together, each the same number: a \
                     plugin may have 1000. Requests as for the gateway, with a token.",
            subjects: vec![Subject::new(OURS, Role::Ours).absent_for(root)],
            measures: vec![
                measure("requests_per_second", "requests", "/s", Better::More),
                measure("p50_us", "p50", "µs", Better::Less),
                measure("p99_us", "p99", "µs", Better::Less),
                measure(
                    "processor_us",
                    "processor time of a request",
                    "µs",
                    Better::Less,
                ),
            ],
            plots: vec![
                lines(
                    "requests",
                    "Requests a second, by number of routes",
                    "requests_per_second",
                ),
                lines(
                    "p99",
                    "99 of 100 requests are answered within, µs",
                    "p99_us",
                ),
            ],
        }
    }

    fn cases(&self, _effort: &Effort) -> Vec<Case> {
        let case = |(count, label): &(u64, &str)| Case::new(*label, &[("routes", *count)]);
        ROUTES.iter().map(case).collect()
    }

    fn prepare(&self) -> anyhow::Result<()> {
        wrk::version()?;
        prepare(&[FIXTURE]);
        Ok(())
    }

    fn measure(&self, turn: &Turn<'_>) -> anyhow::Result<Values> {
        let mut left = turn.case.get("routes");
        let each = left.div_ceil(PLUGINS);
        let mut installation = Installation::new()?;
        for number in 0..PLUGINS {
            let routes = each.min(left);
            left -= routes;
            installation = installation.plugin(
                &name(number),
                &go_fixture(FIXTURE),
                &[("BENCH_ROUTES", &routes.to_string())],
            )?;
        }
        let daemon = installation.start(turn.group)?;
        let target = Target {
            address: daemon.address(),
            path: gateway::path(&name(0), "echo"),
            token: Some(daemon.token()?),
            connections: gateway::CONNECTIONS,
        };
        let values = gateway::drive(turn, &target)?;
        daemon.stop()?;
        Ok(values)
    }
}

fn name(number: u64) -> String {
    format!("bench-{number:03}")
}
