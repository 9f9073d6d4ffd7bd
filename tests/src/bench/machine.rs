//! What was measured, and on what.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::group::Groups;
use crate::{go_fixture, repository};

/// What the figures of a run depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Names and values, in the order of the report.
    pub facts: Vec<(String, String)>,
}

impl Machine {
    /// Looks at this machine. The Go host must have been built.
    ///
    /// # Errors
    /// Where the kernel's files cannot be read.
    pub fn look(groups: &Groups) -> anyhow::Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, model)| model);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let cpus = std::thread::available_parallelism()?;
        let host = go_modules(&go_fixture("host"));
        let module = |name: &str| {
            let line = host
                .iter()
                .find(|fields| fields.get(1).is_some_and(|one| one == name));
            line.and_then(|fields| fields.get(2)).cloned()
        };
        let go = host.first().and_then(|fields| fields.last()).cloned();
        let mut facts = vec![
            ("processor".to_owned(), format!("{cpus} × {model}")),
            ("memory".to_owned(), memory()?),
            ("kernel".to_owned(), format!("Linux {}", kernel.trim())),
            ("control groups".to_owned(), groups.describe()),
            ("Pinfold".to_owned(), commit()),
        ];
        let mut known = |name: &str, value: Option<String>| {
            facts.push((
                name.to_owned(),
                value.unwrap_or_else(|| "unknown".to_owned()),
            ));
        };
        known(
            "rustc",
            said("rustc", &["--version"]).map(|text| text.replace("rustc ", "")),
        );
        known("Go", go.map(|text| text.replace("go", "")));
        known("go-plugin", module("github.com/hashicorp/go-plugin"));
        known("its yamux", module("github.com/hashicorp/yamux"));
        known("wrk", super::wrk::version().ok());
        for tool in ["bwrap", "crun", "runc"] {
            let version = said(tool, &["--version"]);
            known(
                tool,
                version.map(|text| text.replace(&format!("{tool} version "), "")),
            );
        }
        Ok(Self { facts })
    }
}

/// What a Go program is made of, the fields of each line of `go version -m`.
fn go_modules(program: &Path) -> Vec<Vec<String>> {
    let Some(go) = crate::go::newest() else {
        return Vec::new();
    };
    let output = Command::new(go)
        .args(["version", "-m"])
        .arg(program)
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default()
        .lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

fn memory() -> anyhow::Result<String> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let kib: Option<u64> = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse().ok());
    Ok(kib.map_or_else(|| "unknown".to_owned(), |kib| format!("{} MiB", kib / 1024)))
}

/// The checkout's commit, and whether something but the report differs from it.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let mut all = vec!["-C", repository().to_str()?];
        all.extend(arguments);
        said("git", &all)
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown commit".to_owned();
    };
    let changed = git(&[
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ":/",
        ":(top,exclude)docs/performance.md",
        ":(top,exclude)docs/performance",
    ]);
    match changed {
        Some(_) => format!("{commit}, with changes"),
        None => commit,
    }
}

/// What a program says, trimmed; `None` where it fails or says nothing.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.lines().next()?.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
