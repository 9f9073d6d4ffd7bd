//! What a policy is to trust: whoever signed, where that is known, else the files as they are.

use pinfold_policy::{
    KeyName, Moment, PACKAGE_SIGNATURE_FILE, PackageSignature, PackageSignatureError, Platform,
    PluginId, RequireSignatures, SIGNATURE_SUFFIX, SignatureError, Statement, StatementRefusal,
    Trust,
};

use crate::cli::exit::{Exit, Failure};
use crate::cli::package::Package;
use crate::keys::{self, Found, Signers};

/// What the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Wish {
    /// The signature's key where one counts, else the digest.
    Best,
    /// The digest in any case.
    Pin,
    /// Any files.
    Unsigned,
}

/// What there is to choose from.
#[derive(Debug)]
pub(in crate::cli) struct Choice<'a> {
    pub(in crate::cli) plugin: &'a PluginId,
    pub(in crate::cli) entry: &'a str,
    pub(in crate::cli) package: &'a Package,
    pub(in crate::cli) keys: &'a [Found],
    /// What the policy trusts that is there.
    pub(in crate::cli) before: Option<&'a Trust>,
    pub(in crate::cli) wish: Wish,
    pub(in crate::cli) required: RequireSignatures,
    pub(in crate::cli) now: Moment,
}

/// What was chosen, and what the operator should know of it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Chosen {
    pub(in crate::cli) trust: Trust,
    pub(in crate::cli) notes: Vec<String>,
}

/// Why nothing is granted: the launcher would refuse these files whatever the policy says.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum SignatureRefused {
    #[error("{file:?} is no signature")]
    Malformed {
        file: String,
        #[source]
        source: SignatureError,
    },
    #[error("{PACKAGE_SIGNATURE_FILE:?} is no package's signature")]
    MalformedPackage(#[source] PackageSignatureError),
    #[error("{PACKAGE_SIGNATURE_FILE:?} does not count")]
    Statement(#[source] StatementRefusal),
    #[error("{file:?} is not a signature of these bytes by {}", list(.keys))]
    Others { file: String, keys: Vec<KeyName> },
}

impl From<SignatureRefused> for Failure {
    fn from(error: SignatureRefused) -> Self {
        let hint = match &error {
            SignatureRefused::Malformed { .. } => {
                "sign the program anew (`pinfold sign`), or remove the file"
            }
            SignatureRefused::MalformedPackage(_) => {
                "sign the package anew (`pinfold sign --package`), or remove the file"
            }
            SignatureRefused::Statement(StatementRefusal::TooOld { .. }) => {
                "put the newer version there; if the older one is wanted, lower least-version in the \
                 plugin's policy first"
            }
            SignatureRefused::Statement(_) => {
                "get the package anew from whoever made it, or have it signed as it is \
                 (`pinfold sign --package`)"
            }
            SignatureRefused::Others { .. } => {
                "the program may have been altered: get it anew, or trust the key that signed it: \
                 pinfold keys trust FILE.pub --plugin NAME"
            }
        };
        Self::new(Exit::Data, error).hint(hint)
    }
}

fn list(keys: &[KeyName]) -> String {
    let named: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
    named.join(" or ")
}

impl Choice<'_> {
    /// Chooses.
    pub(in crate::cli) fn choose(&self) -> Result<Chosen, SignatureRefused> {
        let file = format!("{}{SIGNATURE_SUFFIX}", self.entry);
        let mut notes = Vec::new();
        let package = self.package_signers()?;
        let mut by = |file: &str, signers| match signers {
            Some(Signers::By(keys)) => Ok(keys),
            Some(Signers::Others(keys)) => Err(SignatureRefused::Others {
                file: file.to_owned(),
                keys,
            }),
            Some(Signers::Unknown) => {
                notes.push(format!(
                    "{file} is by no key that is trusted here: `pinfold keys trust` trusts one"
                ));
                Ok(Vec::new())
            }
            None => Ok(Vec::new()),
        };
        let (signers, statement) = package.unzip();
        let package = by(PACKAGE_SIGNATURE_FILE, signers)?;
        let program = by(&file, self.signers(&file)?)?;
        let trust = match (self.wish, statement) {
            (Wish::Unsigned, _) => Trust {
                unsigned: true,
                ..Trust::default()
            },
            (Wish::Best, Some(statement)) if !package.is_empty() => {
                self.package_signed(package, &statement)?
            }
            (Wish::Best, _) if !program.is_empty() => self.signed(program),
            (Wish::Best | Wish::Pin, _) => Trust {
                digest: Some(self.package.digest()),
                ..Trust::default()
            },
        };
        let is_whole = trust.package || trust.least_version.is_some();
        if !trust.signed_by.is_empty() && !is_whole {
            notes.push(
                "signed is the program alone: whoever can write the plugin's directory can change \
                 the files beside it, or put another signed version there (--pin trusts these files \
                 alone)"
                    .into(),
            );
        }
        let suffices = match self.required {
            RequireSignatures::None => true,
            RequireSignatures::Any => !trust.signed_by.is_empty(),
            RequireSignatures::Package => is_whole,
        };
        if !suffices {
            let kind = match self.required {
                RequireSignatures::Package => "signatures of whole packages",
                _ => "signatures",
            };
            notes.push(format!(
                "this machine requires {kind} (launcher.toml): the launcher will refuse to start the \
                 plugin until a trusted key has signed it and this is granted again"
            ));
        }
        Ok(Chosen { trust, notes })
    }

    /// Whose the package's signature is, and what it states; that is of these files.
    fn package_signers(&self) -> Result<Option<(Signers, Statement)>, SignatureRefused> {
        let Some(content) = self.package.signatures.get(PACKAGE_SIGNATURE_FILE) else {
            return Ok(None);
        };
        let signature =
            PackageSignature::parse(content).map_err(SignatureRefused::MalformedPackage)?;
        let signers = keys::package_signers(self.keys, self.plugin, &signature, self.now);
        let statement = signature.statement;
        if matches!(signers, Signers::By(_)) {
            statement
                .covers(
                    self.plugin,
                    self.package.digest(),
                    &Platform::here(),
                    self.now,
                )
                .map_err(SignatureRefused::Statement)?;
        }
        Ok(Some((signers, statement)))
    }

    /// The whole package from now on, and no older version than this one, or than the reviewer said.
    fn package_signed(
        &self,
        by: Vec<KeyName>,
        statement: &Statement,
    ) -> Result<Trust, SignatureRefused> {
        let before = self.before.and_then(|before| before.least_version.clone());
        if let Some(least) = &before {
            statement
                .is_at_least(least)
                .map_err(SignatureRefused::Statement)?;
        }
        Ok(Trust {
            package: true,
            least_version: before.or_else(|| statement.version.clone()),
            ..self.signed(by)
        })
    }

    fn signers(&self, file: &str) -> Result<Option<Signers>, SignatureRefused> {
        let files = self.package.files.files();
        let entry = files.iter().find(|one| one.path == self.entry);
        let (Some(entry), Some(content)) = (entry, self.package.signatures.get(file)) else {
            return Ok(None);
        };
        keys::signers(self.keys, self.plugin, &entry.sha256, content, self.now)
            .map(Some)
            .map_err(|source| SignatureRefused::Malformed {
                file: file.to_owned(),
                source,
            })
    }

    /// A policy that names one of these keys among others stays as its reviewer wrote it.
    fn signed(&self, by: Vec<KeyName>) -> Trust {
        match self.before {
            Some(before) if before.signed_by.iter().any(|key| by.contains(key)) => before.clone(),
            _ => Trust {
                signed_by: by,
                ..Trust::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use pinfold_policy::{KeyRules, Pattern, PrivateKey, StageManifest, StagedFile, TrustedKey};

    use super::*;

    const HASH: [u8; 32] = [5; 32];

    fn private(digit: &str) -> PrivateKey {
        PrivateKey::parse(digit.repeat(64).as_bytes()).unwrap()
    }

    fn key(name: &str, digit: &str) -> Found {
        let name: KeyName = name.parse().unwrap();
        Found {
            name: name.clone(),
            public: Some(private(digit).public_key()),
            key: Ok(TrustedKey {
                name,
                key: private(digit).public_key(),
                rules: KeyRules::new(vec![Pattern::any()]),
            }),
        }
    }

    fn package(signature: Option<&str>) -> Package {
        let entry = StagedFile {
            path: "hello".into(),
            size: 3,
            executable: true,
            sha256: HASH,
        };
        let content = signature.map(|text| ("hello.sig".to_owned(), text.as_bytes().to_vec()));
        Package {
            files: StageManifest::new(vec![entry]),
            bytes: 3,
            signatures: content.into_iter().collect(),
        }
    }

    fn choose(
        package: &Package,
        keys: &[Found],
        before: Option<&Trust>,
        wish: Wish,
    ) -> Result<Chosen, SignatureRefused> {
        Choice {
            plugin: &"hello".parse().unwrap(),
            entry: "hello",
            package,
            keys,
            before,
            wish,
            required: RequireSignatures::Any,
            now: Moment::from_unix_seconds(0),
        }
        .choose()
    }

    #[test]
    fn a_signature_of_a_trusted_key_is_trusted_and_else_the_files() {
        let signed = package(Some(&private("1").sign(&HASH).to_string()));
        let keys = [key("a", "1"), key("b", "2")];
        let chosen = choose(&signed, &keys, None, Wish::Best).unwrap();
        let by_a = Trust {
            signed_by: vec!["a".parse().unwrap()],
            ..Trust::default()
        };
        assert_eq!(chosen.trust, by_a);
        assert!(chosen.notes[0].starts_with("signed is the program alone"));
        let pinned = Trust {
            digest: Some(signed.digest()),
            ..Trust::default()
        };
        for (package, keys, wish) in [
            (&signed, &keys[..], Wish::Pin),
            (&signed, &[], Wish::Best),
            (&package(None), &keys[..], Wish::Best),
        ] {
            let chosen = choose(package, keys, None, wish).unwrap();
            assert_eq!(chosen.trust, pinned);
            let required = chosen.notes.last().unwrap();
            assert!(required.contains("requires signatures"), "{required}");
        }
        assert!(
            choose(&signed, &[], None, Wish::Unsigned)
                .unwrap()
                .trust
                .unsigned
        );
    }

    #[test]
    fn a_signed_package_is_trusted_whole_and_no_older_one_from_then_on() {
        let signed = |digit: &str, edit: fn(&mut Statement)| {
            let mut package = package(Some(&private("1").sign(&HASH).to_string()));
            let mut statement = Statement {
                plugin: "hello".parse().unwrap(),
                version: Some("1.2".parse().unwrap()),
                platform: Platform::any(),
                digest: package.digest(),
                key: private(digit).public_key(),
                from: Moment::from_unix_seconds(0),
                until: None,
            };
            edit(&mut statement);
            let text = statement.sign(&private(digit)).to_text();
            let content = text.into_bytes();
            package
                .signatures
                .insert(PACKAGE_SIGNATURE_FILE.into(), content);
            package
        };
        let keys = [key("a", "1")];
        let good = signed("1", |_| {});
        let chosen = choose(&good, &keys, None, Wish::Best).unwrap();
        let whole = |least: &str| Trust {
            signed_by: vec!["a".parse().unwrap()],
            package: true,
            least_version: Some(least.parse().unwrap()),
            ..Trust::default()
        };
        assert_eq!(chosen.trust, whole("1.2"));
        assert_eq!(chosen.notes, [] as [&str; 0]);
        // What a reviewer has said stays.
        let chosen = choose(&good, &keys, Some(&whole("1.1")), Wish::Best).unwrap();
        assert_eq!(chosen.trust, whole("1.1"));
        let said = |package: &Package, before: Option<&Trust>| {
            let error = choose(package, &keys, before, Wish::Best).unwrap_err();
            Failure::from(error).to_string()
        };
        let older = said(&good, Some(&whole("1.3")));
        assert!(older.contains("takes none below 1.3"), "{older}");
        let others = said(&signed("2", |_| {}), None);
        assert!(
            others.contains("is not a signature of these bytes by \"a\""),
            "{others}"
        );
        let altered = said(
            &signed("1", |it| it.digest = pinfold_policy::Digest([0; 32])),
            None,
        );
        assert!(altered.contains("it is of sha256:0000"), "{altered}");
    }

    #[test]
    fn keys_that_a_reviewer_named_beside_stay() {
        let signed = package(Some(&private("1").sign(&HASH).to_string()));
        let named = |keys: &[&str]| Trust {
            signed_by: keys.iter().map(|key| key.parse().unwrap()).collect(),
            ..Trust::default()
        };
        let keys = [key("a", "1")];
        for (before, after) in [
            (named(&["old", "a"]), named(&["old", "a"])),
            (named(&["old"]), named(&["a"])),
        ] {
            let chosen = choose(&signed, &keys, Some(&before), Wish::Best).unwrap();
            assert_eq!(chosen.trust, after);
        }
    }

    #[test]
    fn what_the_launcher_would_refuse_is_not_granted() {
        let keys = [key("a", "1")];
        let wrong = package(Some(&private("2").sign(&HASH).to_string()));
        let broken = package(Some("nonsense"));
        for wish in [Wish::Best, Wish::Pin, Wish::Unsigned] {
            let error = choose(&wrong, &keys, None, wish).unwrap_err().to_string();
            assert_eq!(
                error,
                "\"hello.sig\" is not a signature of these bytes by \"a\""
            );
            assert!(matches!(
                choose(&broken, &[], None, wish),
                Err(SignatureRefused::Malformed { .. })
            ));
        }
    }
}
