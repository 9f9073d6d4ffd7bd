//! The root-owned files that say what a jail is: policies, launch templates, syscall profiles; and
//! where the keys lie.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use pinfold_policy::{Digest, LaunchTemplate, PluginId, PolicyError, PolicyFile, TemplateError};
use sha2::{Digest as _, Sha256};

use super::keys::Keys;
use super::log;
use crate::jail;
use crate::seccomp::{
    Action, Arch, CompileError, Profile, ProfileError, Program, SyscallData, syscall_number,
};
use crate::trust::{TrustError, TrustedDir};

/// Launch templates that are compiled in.
const TEMPLATES: [(&str, &str); 1] = [("goatflow", include_str!("../../dialects/goatflow.toml"))];

/// Compiled filters kept; there are as many as profiles in use.
const FILTERS_LIMIT: usize = 16;

/// Where launch templates lie in `data-dir`.
const DIALECTS: &str = "dialects";
/// And syscall profiles.
const PROFILES: &str = "profiles";

/// Where such files lie.
#[derive(Debug)]
pub(super) enum Place {
    /// Walked to anew for each launch.
    Walked { path: PathBuf, also: Option<u32> },
    /// Opened before the launcher entered its user namespace.
    Held(TrustedDir),
    /// Walked to as the launcher of that user does, by somebody else.
    Reviewed {
        user: u32,
        path: PathBuf,
        also: Option<u32>,
    },
}

impl Place {
    /// Reads what lies there.
    pub(super) fn with<T>(
        &self,
        read: impl FnOnce(&TrustedDir) -> Result<T, TrustError>,
    ) -> Result<T, TrustError> {
        match self {
            Self::Walked { path, also } => read(&TrustedDir::open(path, *also)?),
            Self::Held(directory) => read(directory),
            Self::Reviewed { user, path, also } => read(&TrustedDir::open_as(*user, path, *also)?),
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Walked { path, .. } | Self::Reviewed { path, .. } => path,
            Self::Held(directory) => directory.path(),
        }
    }
}

/// Where all of them lie.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) policies: Place,
    pub(super) development_policies: Option<Place>,
    pub(super) data: Option<Place>,
    pub(super) keys: Keys,
    /// Beneath what paths of the host lie for a launcher without root; none: anywhere.
    pub(super) host_roots: Option<Vec<TrustedDir>>,
    /// Where something was mounted that the launcher has let go.
    pub(super) let_go: Vec<PathBuf>,
    filters: BTreeMap<[u8; 32], Filter>,
}

/// A compiled profile.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// What it kills for is killed.
    pub(super) killing: Rc<[u8]>,
    /// What it kills for stops and is told; none where the profile does not allow the one call that
    /// hands the listener over.
    pub(super) telling: Option<Rc<[u8]>>,
    /// What a watched instance is under, whose calls are told and then decided on by `program`; none for
    /// the same reason.
    pub(super) watched: Option<Rc<[u8]>>,
    /// The profile's own program.
    pub(super) program: Rc<Program>,
    /// What a posture says of it: the profile, the digest of its program, what becomes of a call that it
    /// does not name, and for what it was compiled.
    pub(super) about: Rc<str>,
}

impl Filter {
    fn of(profile: &Profile, program: Program) -> Result<Self, FilesError> {
        let hands_over = SyscallData {
            number: syscall_number(program.arch(), "sendmsg").unwrap_or(u32::MAX),
            arch: program.arch().audit_value(),
            instruction_pointer: 0,
            args: jail::hand_over(),
        };
        let can_tell = program.evaluate(&hands_over) == Ok(Action::Allow);
        let watched = profile
            .compile_watched(program.arch(), &jail::hand_over())
            .map_err(|source| not_compiled(profile, source))?;
        let killing = program.to_bytes();
        let digest = Digest(Sha256::digest(&killing).into());
        let (name, default, arch) = (profile.name(), profile.default_action(), program.arch());
        let about = format!("profile {name}, filter {digest}, default {default}, {arch}, tree");
        Ok(Self {
            about: about.into(),
            killing: killing.into(),
            telling: can_tell.then(|| program.notifying().to_bytes().into()),
            watched: watched.map(|watched| watched.to_bytes().into()),
            program: program.into(),
        })
    }
}

/// A syscall profile, and what a policy makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileUse<'a> {
    /// Its name.
    pub profile: &'a str,
    /// Optional groups that are switched on.
    pub groups: &'a [String],
    /// Whether there is IP, inside the jail's loopback; else sockets for it are refused.
    pub has_internet: bool,
}

impl<'a> ProfileUse<'a> {
    /// As it is.
    #[must_use]
    pub const fn plain(profile: &'a str) -> Self {
        Self {
            profile,
            groups: &[],
            has_internet: true,
        }
    }

    /// As a policy has it.
    #[must_use]
    pub fn of(policy: &'a PolicyFile) -> Self {
        Self {
            profile: &policy.profile,
            groups: &policy.syscall_groups,
            has_internet: policy.loopback,
        }
    }

    /// What stands for the filter: all that it is compiled from.
    fn key(&self, own: Option<&[u8]>) -> [u8; 32] {
        let mut hash = Sha256::new();
        match own {
            Some(text) => {
                hash.update(b"own\0");
                hash.update(Sha256::digest(text));
            }
            None => {
                hash.update(b"built-in\0");
                hash.update(self.profile.as_bytes());
            }
        }
        hash.update([0, u8::from(self.has_internet)]);
        for group in self.groups {
            hash.update(group.as_bytes());
            hash.update(b"\0");
        }
        hash.finalize().into()
    }

    /// The profile from its text, or the built-in one of that name.
    pub(super) fn parse(&self, text: Option<Vec<u8>>) -> Result<Profile, FilesError> {
        let name = self.profile;
        let mut profile = match text {
            None => Profile::builtin(name)?,
            Some(bytes) => {
                let text = String::from_utf8(bytes).map_err(|_| FilesError::ProfileText {
                    profile: name.to_owned(),
                })?;
                Profile::parse(&text, name)?
            }
        };
        for group in self.groups {
            profile.enable(group)?;
        }
        if !self.has_internet {
            profile.refuse_internet();
        }
        Ok(profile)
    }
}

/// A policy, as it was read.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) file: PolicyFile,
    pub(super) bytes: Vec<u8>,
    /// Whether it is one that the daemon wrote itself.
    pub(super) is_development: bool,
}

/// Why a plugin has no jail to be started in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// None is there.
    #[error("there is no policy for plugin {plugin:?}: {path:?} is not there")]
    NoPolicy {
        /// The plugin.
        plugin: String,
        /// Where it would be.
        path: PathBuf,
    },
    /// The policy, or a directory on the way to it, is not trusted.
    #[error("the policy cannot be used")]
    Trust(#[source] TrustError),
    /// The policy is refused.
    #[error("policy {path:?}")]
    Policy {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: PolicyError,
    },
    /// No such template.
    #[error("there is no launch template for dialect {dialect:?}")]
    NoTemplate {
        /// The dialect, cut.
        dialect: String,
    },
    /// The template is refused.
    #[error("the launch template of dialect {dialect:?}")]
    Template {
        /// The dialect.
        dialect: String,
        /// Why.
        #[source]
        source: TemplateError,
    },
    /// The template is another dialect's.
    #[error("the launch template of dialect {dialect:?} calls itself {own:?}")]
    OtherDialect {
        /// The dialect asked for.
        dialect: String,
        /// What the file says.
        own: String,
    },
    /// A file of the data directory is not trusted.
    #[error("a launch template or syscall profile cannot be used")]
    Data(#[source] TrustError),
    /// What may be stricter than the built-in ones is not there.
    #[error("data-dir {path:?} of launcher.toml is not there")]
    NoData {
        /// The directory.
        path: PathBuf,
    },
    /// The same where the directory is, as a mount point is without what is to be mounted there.
    #[error("data-dir {path:?} of launcher.toml has neither dialects nor profiles in it")]
    EmptyData {
        /// The directory.
        path: PathBuf,
    },
    /// The profile is not there, or refused.
    #[error("syscall profile")]
    Profile(#[from] ProfileError),
    /// The profile is no text.
    #[error("syscall profile {profile:?} is not UTF-8")]
    ProfileText {
        /// Its name.
        profile: String,
    },
    /// The profile makes no filter.
    #[error("compile syscall profile {profile:?}")]
    Compile {
        /// Its name.
        profile: String,
        /// Why.
        #[source]
        source: CompileError,
    },
    /// No architecture that profiles are compiled for.
    #[error("there are no syscall filters for this machine's architecture")]
    Architecture,
}

impl FilesError {
    /// What to do about it, where the error does not say that by itself.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoData { .. } | Self::EmptyData { .. } => Some(
                "mount it or make it, with dialects or profiles in it; or take data-dir out of \
                 launcher.toml",
            ),
            _ => None,
        }
    }
}

/// The bytes of a policy, before they are believed to be one.
#[derive(Debug)]
pub(super) struct PolicyBytes {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    /// Whether the daemon wrote them itself.
    pub(super) is_development: bool,
}

impl Files {
    pub(super) fn new(
        policies: Place,
        development_policies: Option<Place>,
        data: Option<Place>,
        keys: Option<Place>,
    ) -> Self {
        Self {
            policies,
            development_policies,
            data,
            keys: Keys(keys),
            host_roots: None,
            let_go: Vec::new(),
            filters: BTreeMap::new(),
        }
    }

    /// None: what is compiled in alone.
    pub(super) fn nowhere() -> Self {
        let nowhere = Place::Reviewed {
            user: 0,
            path: PathBuf::from("/nonexistent"),
            also: None,
        };
        Self::new(nowhere, None, None, None)
    }

    /// From here on ids are seen from inside the launcher's user namespace.
    pub(super) fn enter_user_namespace(&mut self) {
        let places = [
            Some(&mut self.policies),
            self.development_policies.as_mut(),
            self.data.as_mut(),
            self.keys.0.as_mut(),
        ];
        for place in places.into_iter().flatten() {
            if let Place::Held(directory) = place {
                directory.enter_user_namespace();
            }
        }
        // Mounts are made of what lies in the mount namespace of now. One that is another meanwhile
        // was not checked.
        if let Some(roots) = &mut self.host_roots {
            roots.retain_mut(|root| {
                let before = root.identity();
                root.enter_user_namespace();
                root.reopen().is_ok() && before.is_some() && root.identity() == before
            });
        }
    }

    /// The policy of a plugin: the operator's, or else a development one.
    pub(super) fn policy(&self, plugin: &PluginId) -> Result<Policy, FilesError> {
        let PolicyBytes {
            path,
            bytes,
            is_development,
        } = self.policy_bytes(plugin)?;
        let file =
            PolicyFile::parse(&bytes).map_err(|source| FilesError::Policy { path, source })?;
        Ok(Policy {
            file,
            bytes,
            is_development,
        })
    }

    /// The same, not parsed.
    pub(super) fn policy_bytes(&self, plugin: &PluginId) -> Result<PolicyBytes, FilesError> {
        let name = format!("{plugin}.toml");
        let operators = read(&self.policies, &name);
        let is_development = matches!(&operators, Err(error) if error.is_absent());
        let (place, bytes) = if is_development {
            let no_policy = || FilesError::NoPolicy {
                plugin: plugin.to_string(),
                path: self.policies.path().join(&name),
            };
            let place = self.development_policies.as_ref().ok_or_else(no_policy)?;
            match read(place, &name) {
                Err(error) if error.is_absent() => return Err(no_policy()),
                read => (place, read),
            }
        } else {
            (&self.policies, operators)
        };
        Ok(PolicyBytes {
            path: place.path().join(&name),
            bytes: bytes.map_err(FilesError::Trust)?,
            is_development,
        })
    }

    /// What the mounts of the operator's policies are made of, as they lie there now. What cannot be read and
    /// what is refused names nothing, which the log says.
    pub(super) fn mount_sources(&self) -> Vec<PathBuf> {
        let is_policy = |name: &str| name.ends_with(".toml");
        let names = (self.policies).with(|place| place.names_where(is_policy, POLICIES_LIMIT));
        let names = match names {
            Ok(names) => names,
            Err(error) if error.is_absent() => return Vec::new(),
            Err(error) => {
                let why = log::chain(&error);
                log::line(&format!("the mounts of policies are not known: {why}"));
                return Vec::new();
            }
        };
        let mut sources = Vec::new();
        for name in names {
            let unread = |error: &dyn std::error::Error| {
                let why = log::chain(error);
                log::line(&format!(
                    "the mounts of policy {name:?} are not known: {why}"
                ));
            };
            match read(&self.policies, &name) {
                Err(error) => unread(&error),
                Ok(bytes) => match PolicyFile::parse(&bytes) {
                    Err(error) => unread(&error),
                    Ok(policy) => {
                        sources.extend(policy.mounts.into_iter().map(|mount| mount.source.into()));
                    }
                },
            }
        }
        sources
    }

    /// The launch template of a dialect: one of `data-dir`, or else the built-in one.
    pub(super) fn template(&self, dialect: &str) -> Result<LaunchTemplate, FilesError> {
        self.template_bytes(dialect)
            .map(|(template, _, _)| template)
    }

    /// The same, with its text, and with its file where it is not the built-in one.
    pub(super) fn template_bytes(
        &self,
        dialect: &str,
    ) -> Result<(LaunchTemplate, Vec<u8>, Option<PathBuf>), FilesError> {
        let no_template = || FilesError::NoTemplate {
            dialect: dialect.chars().take(80).collect(),
        };
        if !is_file_stem(dialect) {
            return Err(no_template());
        }
        let (bytes, path) = match self.data(DIALECTS, dialect)? {
            Some((bytes, path)) => (bytes, Some(path)),
            None => {
                let built_in = TEMPLATES.iter().find(|(name, _)| *name == dialect);
                let (_, text) = built_in.ok_or_else(no_template)?;
                (text.as_bytes().to_vec(), None)
            }
        };
        let template = LaunchTemplate::parse(&bytes).map_err(|source| FilesError::Template {
            dialect: dialect.to_owned(),
            source,
        })?;
        match template.dialect == dialect {
            true => Ok((template, bytes, path)),
            false => Err(FilesError::OtherDialect {
                dialect: dialect.to_owned(),
                own: template.dialect,
            }),
        }
    }

    /// The compiled filter of a profile: one of `data-dir`, or else a built-in one. Kept by the
    /// digest of what it was compiled from.
    pub(super) fn filter(&mut self, used: ProfileUse<'_>) -> Result<Filter, FilesError> {
        let own = self.profile_bytes(used.profile)?;
        let key = used.key(own.as_ref().map(|(text, _)| text.as_slice()));
        if let Some(filter) = self.filters.get(&key) {
            return Ok(filter.clone());
        }
        let parsed = used.parse(own.map(|(text, _)| text))?;
        let filter = Filter::of(&parsed, compile(&parsed)?)?;
        if self.filters.len() >= FILTERS_LIMIT {
            self.filters.clear();
        }
        self.filters.insert(key, filter.clone());
        Ok(filter)
    }

    /// Text and file of a profile of `data-dir`; none: a built-in one is meant.
    pub(super) fn profile_bytes(
        &self,
        profile: &str,
    ) -> Result<Option<(Vec<u8>, PathBuf)>, FilesError> {
        match is_file_stem(profile) {
            true => self.data(PROFILES, profile),
            false => Ok(None),
        }
    }

    /// Whether `data-dir`, where one is configured, is there with something in it.
    ///
    /// # Errors
    /// [`FilesError::NoData`], [`FilesError::EmptyData`], or [`FilesError::Data`] with the step that is
    /// not trusted.
    pub(super) fn check_data(&self) -> Result<(), FilesError> {
        self.data
            .as_ref()
            .map_or(Ok(()), |place| in_data(place, |_| ()))
    }

    /// A file of `data-dir`, with its path, where there is one.
    fn data(&self, directory: &str, stem: &str) -> Result<Option<(Vec<u8>, PathBuf)>, FilesError> {
        let Some(place) = &self.data else {
            return Ok(None);
        };
        let name = format!("{stem}.toml");
        let read = in_data(place, |data| {
            data.directory(directory)?.read(&name, LIMIT_BYTES)
        })?;
        match read {
            Ok(bytes) => Ok(Some((bytes, place.path().join(directory).join(&name)))),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(FilesError::Data(error)),
        }
    }
}

/// Reads in a `data-dir` that has something in it. One that is configured and is not there yet, or is an
/// empty mount point, would leave the built-in files in the place of the operator's stricter ones.
fn in_data<T>(place: &Place, read: impl FnOnce(&TrustedDir) -> T) -> Result<T, FilesError> {
    let path = || place.path().to_owned();
    match place.with(|data| Ok(has_either(data)?.then(|| read(data)))) {
        Ok(Some(read)) => Ok(read),
        Ok(None) => Err(FilesError::EmptyData { path: path() }),
        Err(error) if error.is_absent() => Err(FilesError::NoData { path: path() }),
        Err(error) => Err(FilesError::Data(error)),
    }
}

fn has_either(data: &TrustedDir) -> Result<bool, TrustError> {
    for name in [DIALECTS, PROFILES] {
        match data.directory(name) {
            Ok(_) => return Ok(true),
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// The filter of a profile for this machine.
pub(super) fn compile(profile: &Profile) -> Result<Program, FilesError> {
    let arch = Arch::native().ok_or(FilesError::Architecture)?;
    profile
        .compile(arch)
        .map_err(|source| not_compiled(profile, source))
}

fn not_compiled(profile: &Profile, source: CompileError) -> FilesError {
    FilesError::Compile {
        profile: profile.name().to_owned(),
        source,
    }
}

/// Most names in the directory of the policies that are looked at: as many as there can be plugins.
const POLICIES_LIMIT: usize = 4096;

/// Largest such file.
const LIMIT_BYTES: u64 = pinfold_policy::document::DOCUMENT_LIMIT_BYTES as u64;

fn read(place: &Place, name: &str) -> Result<Vec<u8>, TrustError> {
    place.with(|directory| directory.read(name, LIMIT_BYTES))
}

/// Whether a name from a policy can be part of a file's name: 1 to 64 of lower-case letters,
/// digits, `_` and `-`.
fn is_file_stem(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_')
}

#[cfg(test)]
mod tests;
