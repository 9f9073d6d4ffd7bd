//! What a grant would change, for the operator to see before it is written.

mod notes;
mod trust;

use std::collections::BTreeSet;
use std::path::PathBuf;

use pinfold_policy::{ControlWish, Exec, Limits, Mount, PolicyFile, ProcView, Rates, Trust};
use serde::Serialize;

use super::output::Page;
use super::package::{Declared, Package};
use super::policy_file::Existing;
use crate::dialect::Manifest;
use crate::grants;

pub(super) use trust::{Choice, Chosen, Wish};

/// A policy that would be written, and how it differs from the one that is there.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Plan {
    plugin: String,
    version: String,
    description: String,
    author: String,
    license: String,
    files: usize,
    bytes: u64,
    policy_file: PathBuf,
    /// Whether a policy is there already.
    replaces: bool,
    sections: Vec<Section>,
    notes: Vec<String>,
    #[serde(skip)]
    policy: PolicyFile,
}

/// Title of the section that an operator looks at first.
const PERMISSIONS: &str = "permissions";

/// Lines of the policy that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Section {
    title: &'static str,
    lines: Vec<Line>,
}

/// One thing that a policy says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Line {
    change: Change,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Change {
    New,
    Gone,
    Same,
}

impl Change {
    const fn mark(self) -> char {
        match self {
            Self::New => '+',
            Self::Gone => '-',
            Self::Same => '=',
        }
    }
}

impl Plan {
    /// What granting everything that the manifest asks for comes to, under this syscall profile, or
    /// else the one that the policy has.
    pub(super) fn new(
        declared: &Declared,
        package: &Package,
        existing: Option<&Existing>,
        chosen: Chosen,
        profile: Option<&str>,
        policy_file: PathBuf,
    ) -> Self {
        let manifest = &declared.manifest;
        let before = existing.map(|existing| &existing.policy);
        let mut policy = proposed(before, declared.dialect, manifest, chosen.trust);
        if let Some(profile) = profile {
            profile.clone_into(&mut policy.profile);
        }
        let empty = Vec::new;
        let sections = lines(&policy)
            .into_iter()
            .enumerate()
            .map(|(at, (title, now))| {
                let before = before.map_or_else(empty, |before| {
                    lines(before)
                        .into_iter()
                        .nth(at)
                        .map_or_else(empty, |(_, lines)| lines)
                });
                Section {
                    title,
                    lines: compare(&before, &now),
                }
            })
            .collect();
        Self {
            plugin: declared.plugin.to_string(),
            version: manifest.version.clone(),
            description: manifest.description.clone(),
            author: manifest.author.clone(),
            license: manifest.license.clone(),
            files: package.files.files().len(),
            bytes: package.bytes,
            policy_file,
            replaces: before.is_some(),
            sections,
            notes: [notes::of(manifest, existing, &policy), chosen.notes].concat(),
            policy,
        }
    }

    /// The policy that would be written.
    pub(super) fn policy(&self) -> &PolicyFile {
        &self.policy
    }

    /// Whether the policy that is there says the same already.
    pub(super) fn changes_nothing(&self) -> bool {
        self.sections
            .iter()
            .flat_map(|section| &section.lines)
            .all(|line| line.change == Change::Same)
    }

    /// The plan for people.
    pub(super) fn page(&self) -> Page {
        let mut page = Page::default();
        page.line(format_args!("plugin {} {}", self.plugin, self.version));
        for text in [&self.description, &byline(&self.author, &self.license)] {
            if !text.is_empty() {
                page.line(format_args!("  {text}"));
            }
        }
        let plural = if self.files == 1 { "" } else { "s" };
        page.line(format_args!(
            "  {} file{plural}, {}",
            self.files,
            size(self.bytes)
        ));
        page.gap().line(format_args!(
            "policy {} ({})",
            self.policy_file.display(),
            if self.replaces {
                "+ new, - taken away, = as before"
            } else {
                "new"
            }
        ));
        for Section { title, lines } in &self.sections {
            // That nothing is permitted is worth saying, of the others only what is there.
            if lines.is_empty() && *title != PERMISSIONS {
                continue;
            }
            page.line(title);
            if lines.is_empty() {
                page.line("  none");
            }
            for Line { change, text } in lines {
                page.line(format_args!("  {} {text}", change.mark()));
            }
        }
        page.list("note:", &self.notes);
        page
    }
}

fn byline(author: &str, license: &str) -> String {
    match (author, license) {
        ("", license) => license.into(),
        (author, "") => format!("by {author}"),
        (author, license) => format!("by {author}, {license}"),
    }
}

/// A size for people: whole units, rounded up.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} bytes"),
        10_240..10_485_760 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}

/// The policy to write: what the manifest asks for and what runs are new; what a reviewer may have
/// set by hand beside that stays.
fn proposed(
    before: Option<&PolicyFile>,
    dialect: &str,
    manifest: &Manifest,
    trust: Trust,
) -> PolicyFile {
    let asked = grants::as_asked(dialect, manifest, trust);
    let Some(before) = before.cloned() else {
        return asked;
    };
    PolicyFile {
        dialect: asked.dialect,
        entry: asked.entry,
        trust: asked.trust,
        permissions: asked.permissions,
        ..before
    }
}

/// What a policy says, a line each, by section; the same sections for every policy.
pub(super) fn lines(policy: &PolicyFile) -> [(&'static str, Vec<String>); 6] {
    let PolicyFile {
        schema: _,
        dialect,
        entry,
        args,
        profile,
        exec,
        syscall_groups,
        loopback,
        proc,
        runtime,
        mounts,
        trust,
        permissions,
        limits,
        timeouts,
        rates,
        controls,
        env,
    } = policy;
    let mut program = vec![
        format!("dialect {dialect}"),
        format!("entry {entry}"),
        format!("syscall profile {profile}"),
    ];
    program.extend((!args.is_empty()).then(|| format!("args {args:?}")));
    program.extend((*exec == Exec::Stage).then(|| "executes any of its files".to_owned()));
    program.extend(
        syscall_groups
            .iter()
            .map(|group| format!("syscall group {group}")),
    );
    program.extend((!loopback).then(|| "no loopback".to_owned()));
    program.extend((*proc == ProcView::Full).then(|| "all of /proc, with masks".to_owned()));
    if let Some(runtime) = runtime {
        program.extend(runtime.lines());
    }
    program.extend(mounts.iter().map(Mount::line));
    // A value may be a secret, and a grant changes none.
    program.extend(env.keys().map(|name| format!("env {name}")));
    let times = vec![
        format!("handshake {}", timeouts.handshake),
        format!("init {}", timeouts.init),
        format!("call {}", timeouts.call),
        format!("shutdown {}", timeouts.shutdown),
        format!("quit {}", timeouts.quit),
    ];
    let wishes = controls.iter().map(|(id, wish)| match wish {
        ControlWish::Plain(wanted) => format!("{id} {wanted}"),
        ControlWish::Lowered { wanted, reason } => format!("{id} {wanted}: {reason}"),
    });
    [
        (PERMISSIONS, permissions.lines().into_iter().collect()),
        ("trust", lines_of_trust(trust)),
        ("program", program),
        ("limits", lines_of_limits(limits, rates)),
        ("time-outs", times),
        ("controls", wishes.collect()),
    ]
}

/// What may run.
fn lines_of_trust(trust: &Trust) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(
        trust
            .digest
            .map(|digest| format!("these files alone: {digest}")),
    );
    lines.extend(
        trust
            .unsigned
            .then(|| "whatever files lie in the plugin's directory (unsigned)".to_owned()),
    );
    lines.extend(trust.signed_by.iter().map(|key| {
        match trust.package || trust.least_version.is_some() {
            true => format!("a package signed by {key}"),
            false => format!("a program signed by {key}, with whatever lies beside it"),
        }
    }));
    let least = trust.least_version.as_ref();
    lines.extend(least.map(|least| format!("no version below {least}")));
    lines
}

/// What it may use, of the machine and of the host's services.
fn lines_of_limits(limits: &Limits, rates: &Rates) -> Vec<String> {
    let mut lines = vec![
        format!("memory {}", limits.memory),
        format!("cpu {}", limits.cpu),
        format!("processes {}", limits.processes),
        format!("tmp {}", limits.tmp),
        format!("files {}", limits.files),
        format!("file-size {}", limits.file_size),
        format!("state {}", limits.state),
        format!("state-files {}", limits.state_files),
        format!("processors {}", limits.processors()),
        format!("io {}", limits.io),
    ];
    lines.extend(
        [
            ("calls-per-second", rates.calls_per_second),
            ("host-calls-per-second", rates.host_calls_per_second),
            ("queries-per-minute", rates.queries_per_minute),
            ("http-requests-per-minute", rates.http_requests_per_minute),
        ]
        .into_iter()
        .filter_map(|(name, rate)| Some(format!("{name} {}", rate?))),
    );
    lines
}

/// The lines of both: those of `now` in their order, then those that are gone.
fn compare(before: &[String], now: &[String]) -> Vec<Line> {
    let had: BTreeSet<&String> = before.iter().collect();
    let has: BTreeSet<&String> = now.iter().collect();
    let kept = now.iter().map(|text| Line {
        change: if had.contains(text) {
            Change::Same
        } else {
            Change::New
        },
        text: text.clone(),
    });
    let gone = before
        .iter()
        .filter(|text| !has.contains(text))
        .map(|text| Line {
            change: Change::Gone,
            text: text.clone(),
        });
    kept.chain(gone).collect()
}

#[cfg(test)]
mod tests;
