//! Every figure of a run, kept so that the report can be written again without a run.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::section::{Case, Effort, Values};

/// What `figures.json` holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// In the order of the report.
    pub sections: Vec<Measured>,
}

/// A section as it was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// [`super::section::About::name`].
    pub name: String,
    /// On what, and of what.
    pub machine: Machine,
    /// How much was spent.
    pub effort: Effort,
    /// Rounds that it took part in.
    pub rounds: usize,
    /// The parameters.
    pub cases: Vec<Case>,
    /// Subjects that could not be measured, with the reason.
    pub absent: Vec<(String, String)>,
    /// All figures.
    pub readings: Vec<Reading>,
    /// What failed.
    pub failures: Vec<Failure>,
}

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reading {
    /// From 1.
    pub round: usize,
    /// Who.
    pub subject: String,
    /// Label of the case.
    pub case: String,
    /// The figures.
    pub values: Values,
}

/// A measurement that came to nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// From 1.
    pub round: usize,
    /// Who.
    pub subject: String,
    /// Label of the case.
    pub case: String,
    /// Why.
    pub reason: String,
}

/// A figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The one in the middle; of an even number the mean of the two.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

/// The figures of a section, for reports and remarks.
#[derive(Clone, Copy, Debug)]
pub struct Results<'a> {
    measured: &'a Measured,
}

impl Record {
    /// Reads what was kept.
    ///
    /// # Errors
    /// Where the file cannot be read, or is no such record.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("understand the figures of {}", path.display()))
    }

    /// Keeps it. The file is replaced whole.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        let new = path.with_extension("json.new");
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, path))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Puts a section in the place of its earlier measurement.
    pub fn put(&mut self, measured: Measured) {
        match self
            .sections
            .iter_mut()
            .find(|one| one.name == measured.name)
        {
            Some(earlier) => *earlier = measured,
            None => self.sections.push(measured),
        }
    }
}

impl Spread {
    /// Of these; `None` where there are none.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(*values.get(middle - 1)?, upper)
        } else {
            upper
        };
        Some(Self { min, median, max })
    }
}

impl<'a> Results<'a> {
    /// Of this section.
    #[must_use]
    pub fn new(measured: &'a Measured) -> Self {
        Self { measured }
    }

    /// The cases, in their order.
    #[must_use]
    pub fn cases(&self) -> &'a [Case] {
        &self.measured.cases
    }

    /// A figure of a subject in a case, over the rounds.
    #[must_use]
    pub fn spread(&self, subject: &str, case: &str, key: &str) -> Option<Spread> {
        let values = self.of(subject, case).filter_map(|one| one.values.get(key));
        Spread::of(values.copied().collect())
    }

    /// Its median.
    #[must_use]
    pub fn median(&self, subject: &str, case: &str, key: &str) -> Option<f64> {
        Some(self.spread(subject, case, key)?.median)
    }

    /// A figure of a subject as a part of another's: the ratio of the medians, and the range of
    /// the ratios within one round each.
    #[must_use]
    pub fn ratio(&self, subject: &str, other: &str, case: &str, key: &str) -> Option<Spread> {
        let median = self.median(subject, case, key)? / self.median(other, case, key)?;
        let within: Vec<f64> = self
            .of(subject, case)
            .filter_map(|one| {
                let theirs = self.of(other, case).find(|two| two.round == one.round)?;
                Some(one.values.get(key)? / theirs.values.get(key)?)
            })
            .collect();
        let range = Spread::of(within);
        Some(Spread {
            min: range.map_or(median, |range| range.min.min(median)),
            median,
            max: range.map_or(median, |range| range.max.max(median)),
        })
    }

    fn of(&self, subject: &str, case: &str) -> impl Iterator<Item = &'a Reading> {
        self.measured
            .readings
            .iter()
            .filter(move |one| one.subject == subject && one.case == case)
    }
}

#[cfg(test)]
mod tests {
    use super::{Measured, Reading, Results, Spread};
    use crate::bench::machine::Machine;
    use crate::bench::section::{Case, Effort, Values};

    fn measured(readings: &[(usize, &str, f64)]) -> Measured {
        let reading = |(round, subject, value): &(usize, &str, f64)| Reading {
            round: *round,
            subject: (*subject).to_owned(),
            case: "one".to_owned(),
            values: Values::from([("calls".to_owned(), *value)]),
        };
        Measured {
            name: "calls".to_owned(),
            machine: Machine { facts: Vec::new() },
            effort: Effort {
                rounds: 3,
                seconds: 1.0,
                quick: false,
            },
            rounds: 3,
            cases: vec![Case::new("one", &[])],
            absent: Vec::new(),
            readings: readings.iter().map(reading).collect(),
            failures: Vec::new(),
        }
    }

    #[test]
    fn the_middle_of_the_rounds_counts() {
        let spread = |values: &[f64]| Spread::of(values.to_vec());
        let odd = spread(&[3.0, 1.0, 100.0]).unwrap();
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 3.0, 100.0));
        assert_eq!(spread(&[1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn ratios_are_of_medians_with_the_range_within_rounds() {
        let measured = measured(&[
            (1, "ours", 20.0),
            (1, "theirs", 10.0),
            (2, "ours", 30.0),
            (2, "theirs", 10.0),
            (3, "ours", 24.0),
            (3, "theirs", 16.0),
        ]);
        let results = Results::new(&measured);
        let ratio = results.ratio("ours", "theirs", "one", "calls").unwrap();
        assert_eq!((ratio.min, ratio.median, ratio.max), (1.5, 2.4, 3.0));
        assert_eq!(results.ratio("ours", "nobody", "one", "calls"), None);
        assert_eq!(results.median("ours", "two", "calls"), None);
    }
}
