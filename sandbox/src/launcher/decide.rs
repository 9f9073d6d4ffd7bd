//! Whether what was staged is what its policy trusts: the one place that says so.

use std::fmt;

use pinfold_policy::{
    Digest, KeyName, KeyRefusal, Moment, PluginId, PolicyFile, SIGNATURE_SUFFIX, Signature,
    SignatureError, TrustedKey,
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
    /// Whether only signed plugins start here.
    pub(super) require_signatures: bool,
    pub(super) now: Moment,
}

/// What the trust in an instance rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// A key that the policy names signed the entry.
    Signed { key: KeyName },
    /// The policy pins the files; a trusted key may have signed the entry as well.
    Pinned { key: Option<KeyName> },
    /// The policy takes any files; likewise.
    Unsigned { key: Option<KeyName> },
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The signature is over the entry alone: whoever can write the plugin's directory can
            // change what lies beside it.
            Self::Signed { key } => write!(f, "signed by \"{key}\" (assets unsigned)"),
            Self::Pinned { key: None } => f.write_str("pinned digest"),
            Self::Pinned { key: Some(key) } => {
                write!(f, "pinned digest (entry signed by \"{key}\")")
            }
            Self::Unsigned { key: None } => f.write_str("unsigned"),
            Self::Unsigned { key: Some(key) } => {
                write!(f, "unsigned files taken (entry signed by \"{key}\")")
            }
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
/// `signed-by` must have signed the entry. Whatever the policy says, a signature that lies beside the
/// entry must be whole, and be by a key that may sign this plugin where there are such keys: one that
/// is wrong says that something is.
pub(super) fn decide(question: &Question<'_>, keys: &Keys) -> Result<Basis, Untrusted> {
    let trust = &question.policy.trust;
    if let Some(trusted) = trust.digest.filter(|trusted| *trusted != question.staged) {
        let staged = question.staged;
        return Err(Untrusted::OtherDigest { trusted, staged });
    }
    if !trust.signed_by.is_empty() {
        let Some(given) = Given::of(question)? else {
            return Err(Untrusted::Absent {
                file: signature_file(question.policy),
                keys: trust.signed_by.clone(),
            });
        };
        let named = trust.signed_by.iter().map(|key| keys.named(key)).collect();
        let key = given.by_one_of(named, question)?;
        return Ok(Basis::Signed { key });
    }
    match (trust.digest, question.require_signatures) {
        (Some(_), true) => return Err(Untrusted::Pinned),
        (None, true) => return Err(Untrusted::Unsigned),
        // What no policy file can say.
        (None, false) if !trust.unsigned => return Err(Untrusted::Unsigned),
        (_, false) => {}
    }
    let key = match Given::of(question)? {
        Some(given) => given.by_any_of(keys.all(), question)?,
        None => None,
    };
    Ok(match trust.digest {
        Some(_) => Basis::Pinned { key },
        None => Basis::Unsigned { key },
    })
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

    fn is_by(&self, key: &TrustedKey) -> bool {
        key.key.verifies(&self.sha256, &self.signature)
    }

    /// The key among `named` that made it and counts.
    fn by_one_of(
        self,
        named: Vec<Result<TrustedKey, KeyError>>,
        question: &Question<'_>,
    ) -> Result<KeyName, Untrusted> {
        let (mut refused, mut unusable, mut others) = (None, None, Vec::new());
        for key in named {
            match key {
                Ok(key) if self.is_by(&key) => match key.may_sign(question.plugin, question.now) {
                    Ok(()) => return Ok(key.name),
                    Err(why) => refused = refused.or(Some(why)),
                },
                Ok(key) => others.push(key.name),
                Err(why) => unusable = unusable.or(Some(why)),
            }
        }
        let file = self.file;
        Err(match (refused, unusable) {
            (Some(source), _) => Untrusted::Refused { file, source },
            (None, Some(source)) => Untrusted::Key { file, source },
            (None, None) => Untrusted::OtherKey { file, keys: others },
        })
    }

    /// The key among `all` that made it and counts; none where no key may sign this plugin.
    fn by_any_of(
        self,
        all: Vec<Result<TrustedKey, KeyError>>,
        question: &Question<'_>,
    ) -> Result<Option<KeyName>, Untrusted> {
        // A key that cannot be read may be the one that would have verified it. One that nobody said
        // anything of, or that is gone again, is good for nothing.
        let may_count = |key: &Result<TrustedKey, KeyError>| match key {
            Ok(key) => key.may_sign(question.plugin, question.now).is_ok(),
            Err(KeyError::NoRules { .. } | KeyError::Absent { .. }) => false,
            Err(_) => true,
        };
        let concerned: Vec<_> = all.into_iter().filter(may_count).collect();
        match concerned.is_empty() {
            true => Ok(None),
            false => self.by_one_of(concerned, question).map(Some),
        }
    }
}

#[cfg(test)]
#[path = "decide/tests.rs"]
mod tests;
