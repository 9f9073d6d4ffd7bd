//! Whether a staged digest is what its policy trusts: the one place that says so.

use pinfold_policy::{Digest, Trust};

/// Why a stage is not launched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// Signatures are not verified by this version.
    #[error("the policy wants a signature by {keys}: signatures are not verified by this version")]
    SignedBy { keys: String },
}

impl Untrusted {
    /// What to do about it.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::OtherDigest { .. } => "if the new files are wanted, review them and grant again",
            Self::Unsigned | Self::Pinned => {
                "require-signatures of launcher.toml or GOATFLOW_REQUIRE_SIGNATURES is set"
            }
            Self::SignedBy { .. } => "pin the files with trust.digest",
        }
    }
}

/// Decides. `staged` is the digest of the very bytes that would run.
pub(super) fn decide(
    trust: &Trust,
    staged: Digest,
    require_signatures: bool,
) -> Result<(), Untrusted> {
    if !trust.signed_by.is_empty() {
        return Err(Untrusted::SignedBy {
            keys: trust.signed_by.join(", "),
        });
    }
    match trust.digest {
        Some(trusted) if trusted != staged => Err(Untrusted::OtherDigest { trusted, staged }),
        Some(_) if require_signatures => Err(Untrusted::Pinned),
        Some(_) => Ok(()),
        None if trust.unsigned && !require_signatures => Ok(()),
        None => Err(Untrusted::Unsigned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pinned_bytes_or_accepted_unsigned_ones_run() {
        let (a, b) = (Digest([1; 32]), Digest([2; 32]));
        let pinned = Trust {
            digest: Some(a),
            ..Trust::default()
        };
        let unsigned = Trust {
            unsigned: true,
            ..Trust::default()
        };
        let signed = Trust {
            signed_by: vec!["release".into()],
            ..Trust::default()
        };
        assert_eq!(decide(&pinned, a, false), Ok(()));
        assert!(matches!(
            decide(&pinned, b, false),
            Err(Untrusted::OtherDigest { .. })
        ));
        assert_eq!(decide(&pinned, a, true), Err(Untrusted::Pinned));
        assert_eq!(decide(&unsigned, b, false), Ok(()));
        assert_eq!(decide(&unsigned, b, true), Err(Untrusted::Unsigned));
        assert_eq!(
            decide(&Trust::default(), b, false),
            Err(Untrusted::Unsigned)
        );
        assert!(matches!(
            decide(&signed, a, false),
            Err(Untrusted::SignedBy { .. })
        ));
    }
}
