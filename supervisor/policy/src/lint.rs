//! What a reviewer should know of a policy file: errors with their place, and what is legal and wide.
//!
//! [`lint`] looks at the file alone. What only its surroundings tell (keys, profiles, the plugin's
//! own files) is looked at by who can read them, with rules of the same list.

mod grants;
mod jail;

use std::fmt;

use serde::{Serialize, Serializer};

use crate::document::DocumentError;
use crate::{Place, Places, PolicyError, PolicyFile};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Note,
    /// Legal, and wider or weaker than most plugins need.
    Warning,
    /// The file is refused, or a plugin does not start with it.
    Error,
}

impl Severity {
    /// The word in outputs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! rules {
    ($($variant:ident $id:literal $severity:ident $about:literal;)*) => {
        /// One rule. The text forms are stable: outputs and suppressions in pipelines use them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Rule {
            $(#[doc = $about] $variant,)*
        }

        impl Rule {
            /// Every rule, in the order in which they are documented.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable text form.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// What it finds, in one sentence.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)* }
            }

            /// How much a finding of it matters, unless the finding says otherwise.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }
        }
    };
}

rules! {
    Syntax "syntax" Error "The file is no TOML, or a value is of the wrong type.";
    UnknownKey "unknown-key" Error "A key that policy files do not have.";
    Value "value" Error "A value that is refused.";
    TrustKinds "trust-kinds" Error "[trust] says not exactly one thing.";
    ControlUnknown "control-unknown" Error "[controls] names a control that is none.";
    ControlRefused "control-refused" Error "A wall is wanted less than it must be, or a limit without a reason.";
    ControlLowered "control-lowered" Warning "A limit is wanted less than by default: i-accept-the-risk.";
    ControlOff "control-off" Warning "A control that is preferred by default is switched off.";
    RiskWithoutNeed "risk-without-need" Note "i-accept-the-risk beside a control that is not lowered.";
    Unsigned "unsigned" Warning "Whatever lies in the plugin's directory runs.";
    SignaturesRequired "signatures-required" Error "This machine starts signed plugins only, and the policy trusts something else.";
    KeyUnknown "key-unknown" Warning "signed-by names a key that is not there.";
    KeyUnusable "key-unusable" Warning "signed-by names a key whose files cannot be used.";
    KeyExpired "key-expired" Warning "signed-by names a key that has expired.";
    KeyRevoked "key-revoked" Warning "signed-by names a key that was revoked.";
    KeyNotForPlugin "key-not-for-plugin" Warning "signed-by names a key that may not sign this plugin.";
    NoKeyCounts "no-key-counts" Error "No key of signed-by counts: nothing can start.";
    TablesAll "tables-all" Warning "A database grant on all tables.";
    WriteAll "write-all" Warning "Writing to all tables of a database.";
    SchemaChanges "schema-changes" Warning "Statements that change a database's schema are granted.";
    HostsAll "hosts-all" Warning "HTTP to hosts that a short pattern leaves open.";
    PortsAll "ports-all" Warning "HTTP to any port of a host.";
    MethodsAll "methods-all" Note "HTTP with any method.";
    TunnelHidesMethods "tunnel-hides-methods" Warning "Tunnels are granted beside methods, which nobody sees inside one.";
    TunnelHidesPaths "tunnel-hides-paths" Warning "Tunnels are granted beside paths, which nobody sees inside one.";
    AddressesPrivate "addresses-private" Warning "HTTP to addresses that are not public.";
    ConfigAll "config-all" Warning "Reading every key of the host's configuration that does not look sensitive.";
    ConfigSensitive "config-sensitive" Warning "Reading keys of the host's configuration that look sensitive.";
    CallsAll "calls-all" Warning "Calling functions of every plugin.";
    EmailNotServed "email-not-served" Note "A grant of mail, which this version does not serve.";
    GrantEmpty "grant-empty" Note "A grant that permits nothing.";
    NotAsked "not-asked" Note "A grant that the plugin's manifest does not ask for.";
    ProcessesFew "processes-few" Warning "Fewer processes than runtimes need: some hang instead of failing.";
    TmpfsHalf "tmpfs-half" Warning "The memory file systems together may take more than half of the memory.";
    ProfileCustom "profile-custom" Note "A syscall profile of this machine's own.";
    ProfileMissing "profile-missing" Error "The syscall profile is not there.";
    ProfileRefused "profile-refused" Error "The syscall profile is refused.";
    ProfileRisk "profile-risk" Warning "The syscall profile allows calls that the default one refuses: i-accept-the-risk.";
    AffinityUndone "affinity-undone" Warning "limits.cpu-affinity beside a syscall profile with which the plugin may choose other processors.";
    CoreLimit "core-limit" Warning "A syscall profile with which the plugin may have the host's program for crashes started.";
    ExecStage "exec-stage" Note "Any of the plugin's own files may be executed.";
    ProfileGroups "profile-groups" Note "Optional groups of the syscall profile are switched on.";
    LoopbackNeeded "loopback-needed" Error "loopback = false beside a grant whose way out is on loopback.";
    ProcFull "proc-full" Warning "The machine's processors, memory and load are seen in /proc, whose other entries are masked one by one.";
    RuntimeOfHost "runtime-of-host" Note "Programs and files of the host run the plugin, which no digest and no signature covers.";
    RuntimeRefused "runtime-refused" Error "A path of the runtime is refused: not there, not trusted, or no plugin's to see.";
    MountOfHost "mount-of-host" Note "The plugin is shown a directory or file of the host.";
    MountWritable "mount-writable" Warning "The plugin may write to a directory or file of the host.";
    MountRefused "mount-refused" Error "A mount is refused: not there, not trusted, no plugin's to see, or in the way.";
    MountSockets "mount-sockets" Warning "Sockets or pipes lie in a directory of the host that the plugin is shown, or not all of it could be looked at.";
    DialectUnknown "dialect-unknown" Error "There is no launch template for the dialect, or it is refused.";
    FileUntrusted "file-untrusted" Error "The launcher does not read this file: its owner, its mode or a directory above it.";
    FileName "file-name" Warning "The launcher never reads this file: its name is no plugin's.";
    NoPlugin "no-plugin" Warning "A policy without a plugin.";
    ManifestUnreadable "manifest-unreadable" Warning "The plugin's manifest cannot be read.";
    ManifestDiffers "manifest-differs" Error "The manifest names another entry or dialect than the policy.";
    EntryMissing "entry-missing" Error "The entry is not among the plugin's files.";
    DigestDiffers "digest-differs" Error "The plugin's files are others than those that were pinned.";
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// By which rule.
    pub rule: Rule,
    /// How much it matters.
    pub severity: Severity,
    /// Where; nowhere in particular where it is the whole file's.
    pub place: Option<Place>,
    /// What was found: one clause.
    pub message: String,
    /// What to do about it: one clause.
    pub help: String,
}

impl Finding {
    /// A finding with its rule's severity.
    pub fn new(rule: Rule, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            rule,
            severity: rule.severity(),
            place: None,
            message: message.into(),
            help: help.into(),
        }
    }

    /// The same, at a place.
    #[must_use]
    pub fn at(self, place: Option<Place>) -> Self {
        Self { place, ..self }
    }
}

/// What came of looking at one file.
#[derive(Clone, Debug, Default)]
pub struct Linted {
    /// Where everything in it stands.
    pub places: Places,
    /// The policy, where it is not refused.
    pub policy: Option<PolicyFile>,
    /// What was found, in the order of the file.
    pub findings: Vec<Finding>,
}

/// Looks at a policy file.
#[must_use]
pub fn lint(bytes: &[u8]) -> Linted {
    let text = String::from_utf8_lossy(bytes);
    let places = Places::of(&text);
    let mut findings: Vec<Finding> = (PolicyFile::faults_of(bytes).into_iter())
        .map(|fault| refused(&places, &fault.path, &fault.error))
        .collect();
    let policy = PolicyFile::parse(bytes).ok();
    if let Some(policy) = &policy {
        let mut found = Found {
            places: &places,
            findings: Vec::new(),
        };
        jail::look(policy, &mut found);
        grants::look(&policy.permissions, &mut found);
        findings = found.findings;
    }
    sort(&mut findings);
    Linted {
        places,
        policy,
        findings,
    }
}

/// Puts findings into the order of the file, those of the whole file first.
pub fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| (a.place, a.rule, &a.message).cmp(&(b.place, b.rule, &b.message)));
}

fn refused(places: &Places, path: &str, error: &PolicyError) -> Finding {
    let (rule, help) = match error {
        PolicyError::Document(DocumentError::Key { key, .. }) => {
            let help = match &key.nearest {
                Some(near) => format!("write {near:?}, or take the key away"),
                None => "take the key away: docs/policy.md has them all".into(),
            };
            let (place, message) = of_document(places, error);
            return Finding::new(Rule::UnknownKey, message, help).at(place);
        }
        PolicyError::Document(_) => {
            let (place, message) = of_document(places, error);
            let help = "mend it; `pinfold policy schema` lets an editor check while you type";
            return Finding::new(Rule::Syntax, message, help).at(place);
        }
        PolicyError::Trust { .. } => (
            Rule::TrustKinds,
            "keep one of digest, signed-by and unsigned",
        ),
        PolicyError::PackageUnsigned => (
            Rule::TrustKinds,
            "name the keys that may have signed it: signed-by, or take the key away",
        ),
        PolicyError::Control { .. } => (
            Rule::ControlUnknown,
            "`pinfold posture` lists the controls by name",
        ),
        PolicyError::Lowered { control, .. } if control.may_be_lowered() => (
            Rule::ControlRefused,
            "say why: { wanted = \"preferred\", i-accept-the-risk = \"reason\" }",
        ),
        PolicyError::Lowered { .. } => (
            Rule::ControlRefused,
            "take the line away: only the limits on memory and processes can be lowered",
        ),
        _ => (Rule::Value, "write another value"),
    };
    Finding::new(rule, error.to_string(), help).at(places.nearest(path))
}

/// Place and words of what is wrong with the document's shape: the place is said beside the words.
fn of_document(places: &Places, error: &PolicyError) -> (Option<Place>, String) {
    match error {
        PolicyError::Document(DocumentError::Key { key, span, .. }) => {
            (Some(places.place(span.clone())), key.to_string())
        }
        PolicyError::Document(DocumentError::Value { message, span, .. }) => {
            let message = message.trim_end().replace('\n', "; ");
            (Some(places.place(span.clone())), message)
        }
        PolicyError::Document(DocumentError::Encoding { at }) => {
            (Some(places.place(*at..*at)), error.to_string())
        }
        other => (None, other.to_string()),
    }
}

/// Findings of a file that is read.
struct Found<'a> {
    places: &'a Places,
    findings: Vec<Finding>,
}

impl Found<'_> {
    fn add(&mut self, rule: Rule, path: &str, message: String, help: &str) {
        let finding = Finding::new(rule, message, help).at(self.places.nearest(path));
        self.findings.push(finding);
    }
}

#[cfg(test)]
mod tests;
