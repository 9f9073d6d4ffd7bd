//! What a section of the benchmark is: a question, who is asked, with which parameters, and which
//! figures answer it.

use std::collections::BTreeMap;

use anyhow::bail;
use serde::{Deserialize, Serialize};

use super::group::Group;
use super::record::Results;

/// One question of the report.
pub trait Section {
    /// What does not change from run to run.
    fn about(&self) -> About;

    /// The parameters that each subject is measured with, in the order of the report.
    fn cases(&self, effort: &Effort) -> Vec<Case>;

    /// Whether a subject is measured with these parameters at all.
    fn applies(&self, _subject: &str, _case: &Case) -> bool {
        true
    }

    /// How many of the asked rounds this section takes part in. For what takes minutes and does not
    /// vary.
    fn rounds(&self, effort: &Effort) -> usize {
        effort.rounds
    }

    /// Builds what is measured, before any clock runs.
    ///
    /// # Errors
    /// Where something cannot be built.
    fn prepare(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Measures one subject once: starts it within `turn.group`, drives it, ends it. Keys of the
    /// answer are those of [`About::measures`]; a figure that could not be had is left out.
    ///
    /// # Errors
    /// Where the subject fails. The run goes on, and the report names the failure.
    fn measure(&self, turn: &Turn<'_>) -> anyhow::Result<Values>;

    /// What `bench subject SECTION SPEC` runs: a subject of ours as a process of its own. It tells
    /// its figures through [`super::process::Pace`].
    ///
    /// # Errors
    /// Where the subject fails.
    fn serve(&self, spec: &str) -> anyhow::Result<()> {
        bail!("no subject of this section runs in this program: {spec}")
    }

    /// Sentences below the ratios: what was asked for and what was found. Markdown.
    fn remarks(&self, _results: &Results<'_>) -> Vec<String> {
        Vec::new()
    }
}

/// What a section asks.
#[derive(Clone, Debug)]
pub struct About {
    /// For `--only` and for names of files: lower-case letters and hyphens.
    pub name: &'static str,
    /// Heading in the report.
    pub title: &'static str,
    /// The question, a sentence.
    pub question: &'static str,
    /// How it is measured, sentences.
    pub method: &'static str,
    /// Who is asked, in the order of the report.
    pub subjects: Vec<Subject>,
    /// Which figures answer it, in the order of the report.
    pub measures: Vec<Measure>,
    /// What is drawn.
    pub plots: Vec<Plot>,
}

/// A host with its plugin.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its name in the report.
    pub name: &'static str,
    /// What it is compared as.
    pub role: Role,
    /// Why it cannot be measured here; the report says so.
    pub absent: Option<String>,
}

/// What a subject is compared as. Ratios are given to the first peer and to the first limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Pinfold, in one form.
    Ours,
    /// What people have today.
    Peer,
    /// The least work that could do it.
    Limit,
}

/// One figure.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// Its key among the [`Values`].
    pub key: &'static str,
    /// Its name in the report.
    pub title: &'static str,
    /// The unit of the value.
    pub unit: &'static str,
    /// Which direction is better.
    pub better: Better,
    /// Whether its ratio is among those printed first.
    pub compared: bool,
}

/// Which direction is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// A larger value.
    More,
    /// A smaller value.
    Less,
}

/// One set of parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Its name in the report, of its own within the section.
    pub label: String,
    /// The parameters by name, for plots and for the section itself.
    pub parameters: BTreeMap<String, u64>,
}

/// A [`Measure`] in one line: key, title, unit, which way is better, whether it is held against the
/// peer's.
pub(super) fn measure(
    key: &'static str,
    title: &'static str,
    unit: &'static str,
    better: Better,
    compared: bool,
) -> Measure {
    Measure {
        key,
        title,
        unit,
        better,
        compared,
    }
}

/// Why jails cannot be measured here.
pub(super) fn without_root() -> Option<&'static str> {
    (!nix::unistd::geteuid().is_root()).then_some("needs root")
}

/// A drawing of one figure over the cases.
#[derive(Clone, Copy, Debug)]
pub struct Plot {
    /// Name of the file, after the section's and before `.svg`.
    pub file: &'static str,
    /// Heading.
    pub title: &'static str,
    /// Key of the figure.
    pub measure: &'static str,
    /// Only cases with these values of parameters.
    pub only: &'static [(&'static str, u64)],
    /// The parameter along the horizontal axis; `None` takes one place for each case, by its label.
    pub along: Option<&'static str>,
    /// What the horizontal axis says.
    pub axis: &'static str,
    /// How it is drawn.
    pub form: Form,
    /// Whether the vertical axis is logarithmic: for figures that differ by more than a factor of
    /// twenty.
    pub logarithmic: bool,
}

impl Plot {
    /// Bars for all cases, by their labels.
    #[must_use]
    pub fn bars(file: &'static str, title: &'static str, measure: &'static str) -> Self {
        Self {
            file,
            title,
            measure,
            only: &[],
            along: None,
            axis: "",
            form: Form::Bars,
            logarithmic: false,
        }
    }
}

/// How a figure is drawn. Both show the median and the range of the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A bar for each subject, side by side.
    Bars,
    /// A line for each subject.
    Lines,
}

/// How much is spent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Effort {
    /// Rounds, of which the median counts.
    pub rounds: usize,
    /// Length of each measurement under load.
    pub seconds: f64,
    /// A try: sections leave out what takes long.
    pub quick: bool,
}

/// Figures by key.
pub type Values = BTreeMap<String, f64>;

/// One measurement that is to be made.
#[derive(Debug)]
pub struct Turn<'a> {
    /// Who: a name of [`About::subjects`].
    pub subject: &'static str,
    /// With which parameters.
    pub case: &'a Case,
    /// How much is spent.
    pub effort: Effort,
    /// From 1.
    pub round: usize,
    /// Where its processes are to be; new and empty.
    pub group: &'a Group,
}

impl Subject {
    /// One that can be measured here.
    #[must_use]
    pub fn new(name: &'static str, role: Role) -> Self {
        Self {
            name,
            role,
            absent: None,
        }
    }

    /// The same, absent where `reason` is one; the first that is given counts.
    #[must_use]
    pub fn absent_for(mut self, reason: Option<&str>) -> Self {
        self.absent = self.absent.or_else(|| reason.map(str::to_owned));
        self
    }
}

impl Case {
    /// A case of these parameters.
    #[must_use]
    pub fn new(label: impl Into<String>, parameters: &[(&str, u64)]) -> Self {
        Self {
            label: label.into(),
            parameters: parameters
                .iter()
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect(),
        }
    }

    /// A parameter that the section itself gave.
    ///
    /// # Panics
    /// Where it has none of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        *self
            .parameters
            .get(name)
            .unwrap_or_else(|| panic!("the case {} has no {name}", self.label))
    }

    /// The same, for lengths and counts.
    ///
    /// # Panics
    /// As [`Self::get`].
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        usize::try_from(self.get(name)).expect("a count that the section gave fits")
    }
}
