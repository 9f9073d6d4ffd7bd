//! Whether what was staged is what its policy trusts: the one place that says so.

use std::fmt;

use pinfold_policy::{
    Digest, KeyName, KeyRefusal, Moment, PACKAGE_SIGNATURE_FILE, PackageSignature,
    PackageSignatureError, Platform, PluginId, PolicyFile, RequireSignatures, SIGNATURE_SUFFIX,
    Signature, SignatureError, Statement, StatementRefusal, TrustedKey, Version,
};

use super::keys::{KeyError, Keys};
use crate::stage::Signatures;

/// What is to be decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) plugin: &'a PluginId,
    pub(super) policy: &'a PolicyFile,
    /// The digest of the very bytes that would run.
    pub(super) staged: Digest,
    /// The signatures that lie beside them.
    pub(super) signatures: &'a Signatures,
    /// Which signatures plugins need to start here.
    pub(super) require_signatures: RequireSignatures,
    pub(super) now: Moment,
}

/// What the trust in an instance rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// A key that the policy names signed all files.
    Package { signer: Signer },
    /// A key that the policy names signed the entry.
    Signed { key: KeyName },
    /// The policy pins the files; a trusted key may have signed them as well.
    Pinned { also: Also },
    /// The policy takes any files; likewise.
    Unsigned { also: Also },
}

/// Whose a package's signature is, and what version it states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signer {
    key: KeyName,
    version: Option<Version>,
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "package signed by \"{}\"", self.key)?;
        match &self.version {
            Some(version) => write!(f, " (version {version})"),
            None => Ok(()),
        }
    }
}

/// What a trusted key has signed though nothing asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Also {
    Nothing,
    Entry(KeyName),
    Package(Signer),
}

impl fmt::Display for Also {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Entry(key) => write!(f, " (entry signed by \"{key}\")"),
            Self::Package(signer) => write!(f, " ({signer})"),
        }
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package { signer } => signer.fmt(f),
            // The signature is over the entry alone: whoever can write the plugin's directory can
            // change what lies beside it.
            Self::Signed { key } => write!(f, "program signed by \"{key}\" (assets unsigned)"),
            Self::Pinned { also } => write!(f, "pinned digest{also}"),
            Self::Unsigned {
                also: Also::Nothing,
            } => f.write_str("unsigned"),
            Self::Unsigned { also } => write!(f, "unsigned files taken{also}"),
        }
    }
}

/// Why a stage is not launched.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untrusted {
    /// Other bytes than the pinned ones.
    #[error("the policy trusts {trusted}, the plugin's files are {staged}")]
    OtherDigest { trusted: Digest, staged: Digest },
    /// Unsigned, where only signed plugins start.
    #[error("the policy takes unsigned files, and this machine requires signatures")]
    Unsigned,
    /// A pinned digest is no signature either.
    #[error("the policy pins a digest, and this machine requires signatures")]
    Pinned,
    /// The program alone is signed, where only signed packages start.
    #[error(
        "the program alone is signed, and {} a signature of the whole package",
        if *.by_policy { "the policy wants" } else { "this machine requires" }
    )]
    ProgramAlone { by_policy: bool },
    /// What lies there is no package's signature.
    #[error("{PACKAGE_SIGNATURE_FILE:?} is no package's signature")]
    MalformedPackage(#[source] PackageSignatureError),
    /// The package's signature is good, and of something else.
    #[error("{PACKAGE_SIGNATURE_FILE:?} does not count")]
    Statement(#[source] StatementRefusal),
    /// There is no signature, and the policy wants one.
    #[error("{file:?} is not there, and the policy wants a signature by {}", list(.keys))]
    Absent { file: String, keys: Vec<KeyName> },
    /// What is there is no signature.
    #[error("{file:?} is no signature")]
    Malformed {
        file: String,
        #[source]
        source: SignatureError,
    },
    /// The signature is by somebody else, or of something else.
    #[error("{file:?} is not a signature of these bytes by {}", list(.keys))]
    OtherKey { file: String, keys: Vec<KeyName> },
    /// The signature is good and its key is not.
    #[error("{file:?} is by a key that does not count")]
    Refused {
        file: String,
        #[source]
        source: KeyRefusal,
    },
    /// A key that is needed cannot be used.
    #[error("{file:?} cannot be verified")]
    Key {
        file: String,
        #[source]
        source: KeyError,
    },
}

/// At most this many keys are named in an error.
const KEYS_SHOWN: usize = 8;

fn list(keys: &[KeyName]) -> String {
    let shown = keys.iter().take(KEYS_SHOWN).map(|key| format!("\"{key}\""));
    let more = if keys.len() > KEYS_SHOWN { " …" } else { "" };
    format!("{}{more}", shown.collect::<Vec<_>>().join(" or "))
}

impl Untrusted {
    /// What to do about it.
    pub(super) fn hint(&self, plugin: &PluginId) -> Option<String> {
        let altered = "the file or its signature may have been altered: get both anew from whoever \
                       made them, or trust the key that signed (pinfold keys trust) and name it in the \
                       policy (pinfold plugin grant)";
        Some(match self {
            Self::OtherDigest { .. } => {
                "if the new files are wanted, review them and grant again".into()
            }
            Self::Unsigned | Self::Pinned => format!(
                "require-signatures of launcher.toml or GOATFLOW_REQUIRE_SIGNATURES is set: sign \
                 the entry with a trusted key (pinfold sign), then: pinfold plugin grant {plugin}"
            ),
            Self::Absent { file, .. } if file == PACKAGE_SIGNATURE_FILE => sign_package(plugin),
            Self::ProgramAlone { .. } | Self::MalformedPackage(_) => sign_package(plugin),
            Self::Statement(refusal) => match refusal {
                StatementRefusal::OtherFiles { .. } => altered.into(),
                StatementRefusal::NotYet { .. } => "look at this machine's clock".into(),
                StatementRefusal::TooOld { .. } => format!(
                    "put the newer version there; if the older one is wanted, lower least-version in \
                     the policy of {plugin}"
                ),
                _ => sign_package(plugin),
            },
            Self::Absent { file, .. } => {
                let entry = file.strip_suffix(SIGNATURE_SUFFIX).unwrap_or(file);
                format!("sign it: pinfold sign {entry} --key FILE")
            }
            Self::Malformed { .. } => "sign the file anew: pinfold sign FILE --key FILE".into(),
            Self::OtherKey { .. } => altered.into(),
            Self::Refused { source, .. } => match source {
                KeyRefusal::OtherPlugins { key, .. } => {
                    format!("if it may: pinfold keys trust FILE.pub --name {key} --plugin {plugin}")
                }
                _ => format!(
                    "have it signed with another key, trust that one, then: pinfold plugin grant \
                     {plugin}"
                ),
            },
            Self::Key { source, .. } => return source.hint(),
        })
    }
}

/// Decides.
///
/// The policy's own words come first: a pinned digest must be equal, and one of the keys of
/// `signed-by` must have signed the package or the entry. Whatever the policy says, a signature that
/// lies there must be whole, and be by a key that may sign this plugin where there are such keys: one
/// that is wrong says that something is.
pub(super) fn decide(question: &Question<'_>, keys: &Keys) -> Result<Basis, Untrusted> {
    let trust = &question.policy.trust;
    if let Some(trusted) = trust.digest.filter(|trusted| *trusted != question.staged) {
        let staged = question.staged;
        return Err(Untrusted::OtherDigest { trusted, staged });
    }
    if !trust.signed_by.is_empty() {
        return signed(question, keys);
    }
    match (trust.digest, question.require_signatures) {
        (Some(_), RequireSignatures::Any | RequireSignatures::Package) => {
            return Err(Untrusted::Pinned);
        }
        (None, RequireSignatures::Any | RequireSignatures::Package) => {
            return Err(Untrusted::Unsigned);
        }
        // What no policy file can say.
        (None, RequireSignatures::None) if !trust.unsigned => return Err(Untrusted::Unsigned),
        (_, RequireSignatures::None) => {}
    }
    let package = match GivenPackage::of(question)? {
        Some(given) => given.by_any_of(keys.all(), question)?,
        None => None,
    };
    let entry = match Given::of(question)? {
        Some(given) => given.by_any_of(keys.all(), question)?,
        None => None,
    };
    let also = match (package, entry) {
        (Some(signer), _) => Also::Package(signer),
        (None, Some(key)) => Also::Entry(key),
        (None, None) => Also::Nothing,
    };
    Ok(match trust.digest {
        Some(_) => Basis::Pinned { also },
        None => Basis::Unsigned { also },
    })
}

/// Where the policy names keys. A signature of the whole package comes first, and one of the entry
/// beside it has to be right as well; alone it counts where nothing asks for more.
fn signed(question: &Question<'_>, keys: &Keys) -> Result<Basis, Untrusted> {
    let trust = &question.policy.trust;
    let named = || trust.signed_by.iter().map(|key| keys.named(key)).collect();
    if let Some(given) = GivenPackage::of(question)? {
        let signer = given.by_one_of(named(), question)?;
        if let Some(given) = Given::of(question)? {
            given.by_any_of(keys.all(), question)?;
        }
        return Ok(Basis::Package { signer });
    }
    let by_policy = trust.package || trust.least_version.is_some();
    let given = Given::of(question)?;
    let wants_package = by_policy || question.require_signatures == RequireSignatures::Package;
    match given {
        Some(_) if wants_package => Err(Untrusted::ProgramAlone { by_policy }),
        Some(given) => {
            let key = given.by_one_of(named(), question)?;
            Ok(Basis::Signed { key })
        }
        None => Err(Untrusted::Absent {
            file: match wants_package {
                true => PACKAGE_SIGNATURE_FILE.into(),
                false => signature_file(question.policy),
            },
            keys: trust.signed_by.clone(),
        }),
    }
}

fn sign_package(plugin: &PluginId) -> String {
    format!("sign it: pinfold sign --package DIR --key FILE, where DIR has the files of {plugin}")
}

fn signature_file(policy: &PolicyFile) -> String {
    format!("{}{SIGNATURE_SUFFIX}", policy.entry)
}

/// The signature beside the entry.
struct Given {
    file: String,
    sha256: pinfold_policy::FileHash,
    signature: Signature,
}

impl Given {
    fn of(question: &Question<'_>) -> Result<Option<Self>, Untrusted> {
        let Some(found) = question.signatures.of(&question.policy.entry) else {
            return Ok(None);
        };
        let file = signature_file(question.policy);
        match Signature::parse(&found.content) {
            Ok(signature) => Ok(Some(Self {
                file,
                sha256: found.sha256,
                signature,
            })),
            Err(source) => Err(Untrusted::Malformed { file, source }),
        }
    }

    /// The key among `named` that made it and counts.
    fn by_one_of(
        self,
        named: Vec<Result<TrustedKey, KeyError>>,
        question: &Question<'_>,
    ) -> Result<KeyName, Untrusted> {
        let is_by = |key: &TrustedKey| key.key.verifies(&self.sha256, &self.signature);
        by_one_of(&self.file, named, question, is_by)
    }

    /// The key among `all` that made it and counts; none where no key may sign this plugin.
    fn by_any_of(
        self,
        all: Vec<Result<TrustedKey, KeyError>>,
        question: &Question<'_>,
    ) -> Result<Option<KeyName>, Untrusted> {
        let concerned = concerned(all, question);
        match concerned.is_empty() {
            true => Ok(None),
            false => self.by_one_of(concerned, question).map(Some),
        }
    }
}

/// The signature of the whole package.
struct GivenPackage(PackageSignature);

impl GivenPackage {
    fn of(question: &Question<'_>) -> Result<Option<Self>, Untrusted> {
        let Some(content) = question.signatures.of_package() else {
            return Ok(None);
        };
        match PackageSignature::parse(content) {
            Ok(signature) => Ok(Some(Self(signature))),
            Err(source) => Err(Untrusted::MalformedPackage(source)),
        }
    }

    /// The key among `named` that made it and counts, of a statement that is of these files.
    fn by_one_of(
        self,
        named: Vec<Result<TrustedKey, KeyError>>,
        question: &Question<'_>,
    ) -> Result<Signer, Untrusted> {
        let is_by = |key: &TrustedKey| self.0.is_by(&key.key);
        let key = by_one_of(PACKAGE_SIGNATURE_FILE, named, question, is_by)?;
        let Statement { version, .. } = &self.0.statement;
        self.0
            .statement
            .covers(
                question.plugin,
                question.staged,
                &Platform::here(),
                question.now,
            )
            .and_then(|()| match &question.policy.trust.least_version {
                Some(least) => self.0.statement.is_at_least(least),
                None => Ok(()),
            })
            .map_err(Untrusted::Statement)?;
        let version = version.clone();
        Ok(Signer { key, version })
    }

    /// The same among `all`; none where no key may sign this plugin.
    fn by_any_of(
        self,
        all: Vec<Result<TrustedKey, KeyError>>,
        question: &Question<'_>,
    ) -> Result<Option<Signer>, Untrusted> {
        let concerned = concerned(all, question);
        match concerned.is_empty() {
            true => Ok(None),
            false => self.by_one_of(concerned, question).map(Some),
        }
    }
}

/// The key among `named` that made the signature in `file` and counts.
fn by_one_of(
    file: &str,
    named: Vec<Result<TrustedKey, KeyError>>,
    question: &Question<'_>,
    is_by: impl Fn(&TrustedKey) -> bool,
) -> Result<KeyName, Untrusted> {
    let (mut refused, mut unusable, mut others) = (None, None, Vec::new());
    for key in named {
        match key {
            Ok(key) if is_by(&key) => match key.may_sign(question.plugin, question.now) {
                Ok(()) => return Ok(key.name),
                Err(why) => refused = refused.or(Some(why)),
            },
            Ok(key) => others.push(key.name),
            Err(why) => unusable = unusable.or(Some(why)),
        }
    }
    let file = file.to_owned();
    Err(match (refused, unusable) {
        (Some(source), _) => Untrusted::Refused { file, source },
        (None, Some(source)) => Untrusted::Key { file, source },
        (None, None) => Untrusted::OtherKey { file, keys: others },
    })
}

/// Those of `all` that may have made a signature of this plugin. A key that cannot be read may be the
/// one that would have verified it. One that nobody said anything of, or that is gone again, is good
/// for nothing.
fn concerned(
    all: Vec<Result<TrustedKey, KeyError>>,
    question: &Question<'_>,
) -> Vec<Result<TrustedKey, KeyError>> {
    let may_count = |key: &Result<TrustedKey, KeyError>| match key {
        Ok(key) => key.may_sign(question.plugin, question.now).is_ok(),
        Err(KeyError::NoRules { .. } | KeyError::Absent { .. }) => false,
        Err(_) => true,
    };
    all.into_iter().filter(may_count).collect()
}

#[cfg(test)]
#[path = "decide/tests.rs"]
mod tests;
