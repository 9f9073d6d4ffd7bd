//! Files in the jail: decided by the rules that are given to the kernel for its places.

use std::fs::File;
use std::os::fd::AsFd as _;

use pinfold_policy::{Control, Exec, Places, PluginId, ProcView, lies_in};
use pinfold_sandbox::jail::{
    FileAccess, FilePlaces, MountPlace, interpreters_of, masked_proc, place_of_access,
};
use pinfold_sandbox::launcher::review::FilesError;

use super::{Decided, Decision};
use crate::cli::commands::policy::origin::Origin;
use crate::cli::exit::{Exit, Failure};
use crate::cli::review::{Policy, Review};

/// Why a file cannot be decided on.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("the launch template of the policy's dialect cannot be used")]
    Template(#[source] FilesError),
    #[error("{path:?} is no plain absolute path in the jail")]
    Path { path: String },
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

pub(super) fn decide(
    review: &Review,
    plugin: &PluginId,
    policy: &Policy,
    access: FileAccess,
    path: &str,
) -> Result<Decided, Failure> {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    let parts = path.strip_prefix('/').map(|rest| rest.split('/'));
    if !parts.is_some_and(|mut parts| parts.all(is_plain)) {
        let path = path.to_owned();
        return Err(FileError::Path { path }.into());
    }
    let reviewed = review
        .files
        .template(&policy.file.dialect)
        .map_err(FileError::Template)?;
    let template = &reviewed.template;
    let text = Places::of(&reviewed.text);
    let from_template = |key: &str| {
        let place = text.nearest(key);
        Origin::of("template", reviewed.path.as_deref(), &text, place)
    };
    let mut notes = Vec::new();
    let mut real = path.to_owned();
    for ((link, target), written) in template.links(plugin).zip(template.links.keys()) {
        let rest = path.strip_prefix(&link);
        if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('/')) {
            real = format!("{target}{rest}");
            let origin = from_template(&format!("links.{written}"));
            notes.push(format!("{link} leads to {target}: {origin}"));
        }
    }
    let tmp_directory = template.tmp_directory(plugin);
    let interpreters = File::open(review.directory(plugin))
        .map(|directory| interpreters_of(directory.as_fd(), &policy.file.entry));
    // What of the host each is made of is not looked at: of files the answer is the same.
    let mounts: Vec<MountPlace<'_>> = policy
        .file
        .mounts
        .iter()
        .map(|mount| MountPlace {
            target: &mount.target,
            is_directory: true,
            is_writable: mount.rw,
        })
        .collect();
    let places = FilePlaces {
        entry: &policy.file.entry,
        executes_stage: policy.file.exec == Exec::Stage,
        // Without its files there is nothing to execute.
        interpreters: &interpreters.unwrap_or_default(),
        tmp_directory: &tmp_directory,
        has_state: template.state,
        runtime: policy.file.runtime.as_ref(),
        mounts: &mounts,
    };
    let mut shown = policy.file.mounts.iter().enumerate();
    let shown = shown.find(|(_, mount)| lies_in(&real, &mount.target));
    let by = match (shown, real.as_str()) {
        (Some((at, _)), _) => {
            let place = policy.places.nearest(&format!("mounts[{at}]"));
            Origin::of("policy", Some(&policy.path), &policy.places, place)
        }
        (None, state) if template.state && lies_in(state, "/state") => from_template("state"),
        (None, own) if lies_in(own, &tmp_directory) => from_template("tmp-directory"),
        (None, _) => Origin::default(),
    };
    let verb = match access {
        FileAccess::Read => "read",
        FileAccess::Write => "written",
        FileAccess::Execute => "executed",
    };
    let mut decided = match place_of_access(&places, access, &real) {
        Some(place) => {
            let why = format!("files at {place} may be {verb}, where they are there at all");
            Decided::new(Decision::Allowed, why, vec![by])
        }
        None => {
            let why = format!("no place of the jail has files at {real} that may be {verb}");
            Decided::new(Decision::Refused, why, vec![Origin::default()])
        }
    };
    if let Some((_, mount)) = shown {
        notes.push(format!(
            "that is {} of the host: the modes and owners of the files there count too",
            mount.source
        ));
    }
    if policy.file.proc == ProcView::Full
        && let Some(reason) = masked_proc(&real)
    {
        notes.push(format!("that is masked, by what is empty: {reason}"));
    }
    notes.push(format!(
        "the jail's mounts say so, and a second time {}, which is {} here",
        Control::Landlock,
        policy.file.wanted(Control::Landlock)
    ));
    decided.notes = notes;
    Ok(decided)
}
