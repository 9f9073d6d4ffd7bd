//! What only the surroundings of a policy tell: keys, profiles, templates, the plugin's own files.

mod sockets;

use std::fs;
use std::path::Path;

use pinfold_policy::lint::{Finding, Rule};
use pinfold_policy::{
    ByteSize, KeyName, KeyRefusal, LaunchTemplate, Places, PluginId, PolicyFile, RequireSignatures,
};
use pinfold_sandbox::jail::SHARED_MEMORY_BYTES;
use pinfold_sandbox::launcher::review::{FilesError, ProfileUse, Review as Files};
use pinfold_sandbox::seccomp::{Profile, ProfileError};

use self::sockets::Sockets;
use crate::cli::package::Package;
use crate::cli::review::{self, Review};
use crate::keys::{self, KeyFileError};

/// Room of the run directory, in bytes.
const RUN_DIRECTORY_BYTES: u64 = 64 * 1024;

/// Where a policy lies, and for whom.
pub(super) struct Surroundings<'a> {
    /// The installation, where there is one.
    pub(super) review: Option<&'a Review>,
    /// The plugin that the file's name says.
    pub(super) plugin: Option<&'a PluginId>,
    /// Whether it is the policy that counts for that plugin there.
    pub(super) is_installed: bool,
    /// Whether the daemon wrote it itself.
    pub(super) is_development: bool,
}

impl Surroundings<'_> {
    /// What they say of a policy that is not refused.
    pub(super) fn look(&self, policy: &PolicyFile, places: &Places) -> Vec<Finding> {
        let mut found = Vec::new();
        let built_in = Files::built_in();
        let files = self.review.map_or(&built_in, |review| &review.files);
        profile(files, policy, places, &mut found);
        template(files, policy, places, &mut found);
        if let Some(review) = self.review {
            if self.is_installed {
                runtime(review, policy, places, &mut found);
                self.mounts(review, policy, places, &mut found);
            }
            self.keys(review, policy, places, &mut found);
            if let (true, Some(plugin)) = (self.is_installed, self.plugin) {
                self.plugin(review, plugin, policy, places, &mut found);
            }
        }
        found
    }

    /// Each mount, as a launch would look at it, and what lies in it.
    fn mounts(
        &self,
        review: &Review,
        policy: &PolicyFile,
        places: &Places,
        found: &mut Vec<Finding>,
    ) {
        let Some(plugin) = self.plugin else {
            return;
        };
        let of = (plugin, policy);
        let states = (review.files).mounts(&review.config, of, self.is_development);
        for (at, state) in states.into_iter().enumerate() {
            let place = places.nearest(&format!("mounts[{at}]"));
            if !state.found.problem.is_empty() {
                let help = "mend what the message names; \"Mounts\" in docs/policy.md says what can be mounted, and where";
                let finding = Finding::new(Rule::MountRefused, state.found.problem, help);
                found.push(finding.at(place));
                continue;
            }
            let message = match Sockets::of(Path::new(&state.source), sockets::NAMES_LIMIT) {
                Sockets::None => continue,
                Sockets::Found(path) => format!(
                    "{} is a socket or pipe: what serves there may be reached from the jail, where its mode \
                     lets the plugin's user",
                    path.display()
                ),
                Sockets::Unfinished(why) => {
                    format!(
                        "not all of {} was looked at for sockets and pipes: {why}",
                        state.source
                    )
                }
            };
            let help =
                "keep sockets and pipes elsewhere: only Landlock of ABI 9 holds a plugin from them";
            let finding = Finding::new(Rule::MountSockets, message, help);
            found.push(finding.at(place));
        }
    }

    fn keys(
        &self,
        review: &Review,
        policy: &PolicyFile,
        places: &Places,
        found: &mut Vec<Finding>,
    ) {
        let trust = &policy.trust;
        let is_required = review.requires_signatures() != RequireSignatures::None;
        if self.is_installed && is_required && trust.signed_by.is_empty() {
            let path = if trust.unsigned {
                "trust.unsigned"
            } else {
                "trust.digest"
            };
            let finding = Finding::new(
                Rule::SignaturesRequired,
                "this machine starts signed plugins only (require-signatures), and this trusts \
                 something else",
                "sign the plugin and grant it again: signed-by",
            );
            found.push(finding.at(places.key(path)));
        }
        if trust.signed_by.is_empty() {
            return;
        }
        let here = review.keys().unwrap_or_default();
        let mut counting = 0;
        for (at, name) in trust.signed_by.iter().enumerate() {
            let place = places.nearest(&format!("trust.signed-by[{at}]"));
            let key = here.iter().find(|key| key.name == *name);
            match key.map(|found| &found.key) {
                None => found.push(unknown_key(name).at(place)),
                Some(Err(error)) => found.push(unusable_key(name, error).at(place)),
                Some(Ok(key)) => {
                    let Some(plugin) = self.plugin else {
                        counting += 1;
                        continue;
                    };
                    match key.may_sign(plugin, keys::now()) {
                        Ok(()) => counting += 1,
                        Err(refusal) => found.push(refused_key(&refusal).at(place)),
                    }
                }
            }
        }
        if counting == 0 {
            let finding = Finding::new(
                Rule::NoKeyCounts,
                "no key of signed-by counts for this plugin: nothing can start it",
                "trust the signer's key (`pinfold keys trust`), or grant again",
            );
            found.push(finding.at(places.key("trust.signed-by")));
        }
    }

    fn plugin(
        &self,
        review: &Review,
        plugin: &PluginId,
        policy: &PolicyFile,
        places: &Places,
        found: &mut Vec<Finding>,
    ) {
        let directory = review.directory(plugin);
        if matches!(fs::metadata(&directory), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
        {
            let message = format!(
                "there is no plugin {plugin}: {} is not there",
                directory.display()
            );
            let help = "take the policy away, or put the plugin in: `pinfold plugin add`";
            found.push(Finding::new(Rule::NoPlugin, message, help));
            return;
        }
        let declared = match review.declared(plugin) {
            Ok(declared) => declared,
            Err(error) => {
                let help = "mend the plugin: it does not start without a manifest";
                let message = review::chain(&error);
                found.push(Finding::new(Rule::ManifestUnreadable, message, help));
                return;
            }
        };
        for (path, what, says, is) in [
            (
                "dialect",
                "dialect",
                policy.dialect.as_str(),
                declared.dialect,
            ),
            (
                "entry",
                "entry",
                policy.entry.as_str(),
                declared.manifest.entry.as_str(),
            ),
        ] {
            if says != is {
                let finding = Finding::new(
                    Rule::ManifestDiffers,
                    format!("{what}: the policy says {says:?}, the manifest {is:?}"),
                    format!("review the plugin, then: `pinfold plugin grant {plugin}`"),
                );
                found.push(finding.at(places.value(path)));
            }
        }
        not_asked(policy, &declared.manifest.asked, places, found);
        // A digest that the daemon wrote follows the files by itself.
        if let (Ok(package), false) = (Package::read(&directory), self.is_development) {
            files(&package, policy, plugin, places, found);
        }
    }
}

/// What the plugin's files say of entry and digest.
fn files(
    package: &Package,
    policy: &PolicyFile,
    plugin: &PluginId,
    places: &Places,
    found: &mut Vec<Finding>,
) {
    let entry = package
        .files
        .files()
        .iter()
        .find(|file| file.path == policy.entry);
    let is_executed = (policy.runtime.as_ref()).is_none_or(|runtime| runtime.interpreter.is_none());
    if !entry.is_some_and(|file| file.executable || !is_executed) {
        let why = match entry {
            None => "is not among the plugin's files",
            Some(_) => "is not executable: its execute bit is not set",
        };
        let finding = Finding::new(
            Rule::EntryMissing,
            format!("entry {:?} {why}", policy.entry),
            "put the program there, or grant again",
        );
        found.push(finding.at(places.value("entry")));
    }
    if let Some(pinned) = policy
        .trust
        .digest
        .filter(|pinned| *pinned != package.digest())
    {
        let finding = Finding::new(
            Rule::DigestDiffers,
            format!(
                "pinned is {pinned}, the files are {}: they were changed since",
                package.digest()
            ),
            format!("look at the files, then: `pinfold plugin grant {plugin}`"),
        );
        found.push(finding.at(places.value("trust.digest")));
    }
}

/// Each path of the runtime, as a launch would look at it.
fn runtime(review: &Review, policy: &PolicyFile, places: &Places, found: &mut Vec<Finding>) {
    let Some(named) = &policy.runtime else {
        return;
    };
    for state in review.files.runtime(&review.config, named) {
        if state.found.problem.is_empty() {
            continue;
        }
        let is = |program: &Option<String>| program.as_ref() == Some(&state.path);
        let at = named.paths.iter().position(|path| *path == state.path);
        let path = match at {
            Some(at) => format!("runtime.paths[{at}]"),
            None if is(&named.interpreter) => "runtime.interpreter".into(),
            None => "runtime.loader".into(),
        };
        let help = "name a path by its real name, which root owns and nobody else can write";
        let finding = Finding::new(Rule::RuntimeRefused, state.found.problem, help);
        found.push(finding.at(places.nearest(&path)));
    }
}

/// Grants of which the manifest says nothing: they wait for whoever asks for them when it registers.
fn not_asked(
    policy: &PolicyFile,
    asked: &pinfold_policy::Permissions,
    places: &Places,
    found: &mut Vec<Finding>,
) {
    let asked = asked.lines();
    for grain in policy.permissions.grains() {
        let lines = grain.permissions.lines();
        // No manifest has a word for these.
        let of_grants_alone =
            |line: &str| line.starts_with("db:ddl:") || line.starts_with("http:address:");
        let missing: Vec<&str> = lines
            .iter()
            .filter(|line| !asked.contains(*line) && !of_grants_alone(line))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            let finding = Finding::new(
                Rule::NotAsked,
                format!(
                    "granted, and not asked for as such by the manifest: {}",
                    missing.join(", ")
                ),
                "take it away unless the plugin asks for it when it registers (`pinfold plugin show`)",
            );
            found.push(finding.at(places.nearest(&grain.path)));
        }
    }
}

fn unknown_key(name: &KeyName) -> Finding {
    Finding::new(
        Rule::KeyUnknown,
        format!("there is no key {:?}", name.as_str()),
        "trust it (`pinfold keys trust`), or take the name away",
    )
}

fn unusable_key(name: &KeyName, error: &KeyFileError) -> Finding {
    Finding::new(
        Rule::KeyUnusable,
        format!(
            "key {:?} cannot be used: {}",
            name.as_str(),
            review::chain(error)
        ),
        "mend its files, or trust it anew",
    )
}

fn refused_key(refusal: &KeyRefusal) -> Finding {
    let (rule, help) = match refusal {
        KeyRefusal::Expired { .. } => (Rule::KeyExpired, "trust it for longer, or another key"),
        KeyRefusal::Revoked { .. } => (
            Rule::KeyRevoked,
            "take the name away, and have the plugin signed by another key",
        ),
        _ => (
            Rule::KeyNotForPlugin,
            "let it sign this plugin (`pinfold keys trust --plugin`), or take the name away",
        ),
    };
    Finding::new(rule, refusal.to_string(), help)
}

/// What to do where a file is not trusted.
pub(super) const OWNERS: &str = "only root, or the launcher's user, may own and write it and each directory above: chown, chmod";

/// What is wrong with `data-dir` itself, and what to do; `absent` where it has no files. None where it
/// is another fault.
fn of_data(error: &FilesError, absent: Rule) -> Option<(Rule, &'static str)> {
    match error {
        FilesError::Data(_) => Some((Rule::FileUntrusted, OWNERS)),
        FilesError::NoData { .. } | FilesError::EmptyData { .. } => Some((absent, error.hint()?)),
        _ => None,
    }
}

fn profile(files: &Files, policy: &PolicyFile, places: &Places, found: &mut Vec<Finding>) {
    let place = places.nearest("profile");
    let name = &policy.profile;
    let reviewed = match files.profile(ProfileUse::of(policy)) {
        Ok(reviewed) => reviewed,
        Err(error) => {
            let (rule, help) = match (of_data(&error, Rule::ProfileMissing), &error) {
                (Some((rule, help)), _) => (rule, help.to_owned()),
                (None, FilesError::Profile(ProfileError::NotShipped { profile, .. }))
                    if profile == name =>
                {
                    let known: Vec<&str> = Profile::builtin_names().collect();
                    let known = known.join(", ");
                    let help =
                        format!("shipped are: {known}; others are profiles/NAME.toml in data-dir");
                    (Rule::ProfileMissing, help)
                }
                _ => {
                    let help = "mend the profile: no plugin starts with it".to_owned();
                    (Rule::ProfileRefused, help)
                }
            };
            found.push(Finding::new(rule, review::chain(&error), help).at(place));
            return;
        }
    };
    if let Some(path) = &reviewed.path {
        let message = format!(
            "the syscall profile {name:?} is this machine's own: {}",
            path.display()
        );
        let help = "read it with the policy: it says which system calls are allowed";
        found.push(Finding::new(Rule::ProfileCustom, message, help).at(place));
    }
    for group in reviewed.profile.groups() {
        if let Some(reason) = group.accepted_risk() {
            let message = format!(
                "profile {name:?}, group {}: a risk is accepted ({reason:?})",
                group.name()
            );
            let help =
                "make sure that the plugin needs these calls, and that the reason still holds";
            found.push(Finding::new(Rule::ProfileRisk, message, help).at(place));
        }
    }
    if reviewed.profile.may_change_core_limit() {
        let finding = Finding::new(
            Rule::CoreLimit,
            format!(
                "the syscall profile {name:?} lets the plugin change its limit on core dumps: for its crash the \
                 kernel may then start the host's program (kernel.core_pattern), as root"
            ),
            "allow prlimit64 by the rules that the profile `default` has for it, and setrlimit not at all",
        );
        found.push(finding.at(place));
    }
    // The launcher chooses before the plugin's program runs; the program may choose again.
    let choose = "sched_setaffinity";
    if !policy.limits.cpu_affinity.is_empty() && reviewed.profile.may_allow(choose) {
        let finding = Finding::new(
            Rule::AffinityUndone,
            format!(
                "the syscall profile {name:?} allows {choose}: the plugin may run on any processor"
            ),
            "take the call out of the profile, or limits.cpu-affinity away",
        );
        found.push(finding.at(places.nearest("limits.cpu-affinity")));
    }
}

fn template(files: &Files, policy: &PolicyFile, places: &Places, found: &mut Vec<Finding>) {
    match files.template(&policy.dialect) {
        Ok(reviewed) => {
            tmpfs(&reviewed.template, policy, places, found);
            loopback(&reviewed.template, policy, places, found);
        }
        Err(error) => {
            let dialects = "write a dialect that this version speaks: goatflow";
            let (rule, help) =
                of_data(&error, Rule::DialectUnknown).unwrap_or((Rule::DialectUnknown, dialects));
            let finding = Finding::new(rule, review::chain(&error), help);
            found.push(finding.at(places.value("dialect")));
        }
    }
}

/// Programs that speak HTTP by themselves go out through a port of the jail's loopback.
fn loopback(
    template: &LaunchTemplate,
    policy: &PolicyFile,
    places: &Places,
    found: &mut Vec<Finding>,
) {
    let Some(port) = template.http_proxy_port else {
        return;
    };
    if !policy.loopback && !policy.permissions.http.is_empty() {
        let finding = Finding::new(
            Rule::LoopbackNeeded,
            format!(
                "there is no loopback, and the way out for the HTTP that is granted listens there, \
                 on port {port}: no launch succeeds"
            ),
            "take permissions.http away, or loopback = false",
        );
        found.push(finding.at(places.value("loopback")));
    }
}

/// The file systems in memory count as memory: a plugin that fills them must have room left to run.
fn tmpfs(
    template: &LaunchTemplate,
    policy: &PolicyFile,
    places: &Places,
    found: &mut Vec<Finding>,
) {
    let limits = &policy.limits;
    let times = if template.tmp_directory == "/tmp" {
        1
    } else {
        2
    };
    let sum = limits.tmp.0.saturating_mul(times) + SHARED_MEMORY_BYTES + RUN_DIRECTORY_BYTES;
    if sum > limits.memory.0 / 2 {
        let finding = Finding::new(
            Rule::TmpfsHalf,
            format!(
                "the file systems in memory may take {} of {}: /tmp, the plugin's own, /dev/shm",
                ByteSize(sum),
                limits.memory
            ),
            "lower limits.tmp, or raise limits.memory",
        );
        let path = if places.value("limits.tmp").is_some() {
            "limits.tmp"
        } else {
            "limits.memory"
        };
        found.push(finding.at(places.nearest(path)));
    }
}
