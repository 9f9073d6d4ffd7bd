//! The sections of the report, in its order.

use super::calls::Calls;
use super::crowd::Crowd;
use super::gateway::Gateway;
use super::host_calls::HostCalls;
use super::jails::Jails;
use super::memory::Memory;
use super::neighbours::Neighbours;
use super::reload::Reload;
use super::routes::Routes;
use super::section::Section;
use super::start::Start;

/// All of them.
#[must_use]
pub fn all() -> Vec<Box<dyn Section>> {
    vec![
        Box::new(Calls),
        Box::new(Gateway),
        Box::new(Start),
        Box::new(Jails),
        Box::new(HostCalls),
        Box::new(Memory),
        Box::new(Crowd),
        Box::<Neighbours>::default(),
        Box::new(Routes),
        Box::new(Reload),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::all;
    use crate::bench::section::Effort;

    #[test]
    fn sections_draw_what_they_measure() {
        let effort = Effort {
            rounds: 5,
            seconds: 1.0,
            quick: false,
        };
        let mut names = BTreeSet::new();
        for section in all() {
            let about = section.about();
            assert!(names.insert(about.name), "two are called {}", about.name);
            let keys: BTreeSet<_> = about.measures.iter().map(|one| one.key).collect();
            assert_eq!(
                keys.len(),
                about.measures.len(),
                "{}: twice a key",
                about.name
            );
            let cases = section.cases(&effort);
            let labels: BTreeSet<_> = cases.iter().map(|case| &case.label).collect();
            assert_eq!(labels.len(), cases.len(), "{}: twice a label", about.name);
            for plot in &about.plots {
                let name = format!("{}-{}", about.name, plot.file);
                assert!(keys.contains(plot.measure), "{name} draws no figure");
                let shown = cases.iter().filter(|case| {
                    let has = |(key, value): &(&str, u64)| case.parameters.get(*key) == Some(value);
                    plot.only.iter().all(has)
                        && plot
                            .along
                            .is_none_or(|key| case.parameters.contains_key(key))
                });
                assert!(shown.count() > 0, "{name} shows no case");
            }
        }
    }
}
