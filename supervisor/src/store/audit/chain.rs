//! The chain: each record carries a hash over the one before it in its part and over all that it
//! says itself, byte for byte as docs/audit.md has it. What was altered, taken out, put in or moved
//! does not fit what follows.

use pinfold_policy::Digest;
use sha2::{Digest as _, Sha256};

/// Begins what is hashed for a record: no other hash of the project begins so.
const DOMAIN: &[u8] = b"pinfold audit 1\0";

/// What a part's first record has in place of a hash before it.
pub(crate) const BEGINNING: Digest = Digest([0; 32]);

/// A part of the trail: a chain of its own, of which the oldest records are removed apart from the
/// other's. Or a plugin could flush what an administrator did out of the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What administrators do, and what is decided about plugins: few, and kept long.
    Control,
    /// What plugins and clients do: as much as they like.
    Traffic,
}

impl Part {
    pub(crate) const ALL: [Self; 2] = [Self::Control, Self::Traffic];

    /// As it is kept and hashed.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Traffic => 1,
        }
    }

    /// As people read it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Traffic => "traffic",
        }
    }

    /// The one that people read so.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.as_str() == name)
    }

    /// The one beside it.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Control => Self::Traffic,
            Self::Traffic => Self::Control,
        }
    }

    /// Where a record of such an action belongs.
    pub(crate) fn of_action(action: &str) -> Self {
        if action.starts_with("http.") || action.starts_with("hostapi.") {
            Self::Traffic
        } else {
            Self::Control
        }
    }
}

/// All that a record says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) number: i64,
    /// As it is kept: RFC 3339, in UTC.
    pub(crate) time: &'a str,
    pub(crate) actor: &'a str,
    pub(crate) action: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) decision: &'a str,
    pub(crate) plugin: Option<&'a str>,
    pub(crate) permission: Option<&'a str>,
    pub(crate) detail: Option<&'a str>,
    pub(crate) request_id: Option<&'a str>,
    pub(crate) count: i64,
}

/// The hash that a record carries, after one that carries `before`.
pub(crate) fn hash(part: Part, before: Digest, fields: &Fields<'_>) -> Digest {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update(before.0);
    hash.update([part.number()]);
    hash.update(fields.number.to_be_bytes());
    for text in [
        fields.time,
        fields.actor,
        fields.action,
        fields.subject,
        fields.decision,
    ] {
        update(&mut hash, text);
    }
    for text in [
        fields.plugin,
        fields.permission,
        fields.detail,
        fields.request_id,
    ] {
        hash.update([u8::from(text.is_some())]);
        if let Some(text) = text {
            update(&mut hash, text);
        }
    }
    hash.update(fields.count.to_be_bytes());
    Digest(hash.finalize().into())
}

/// A text with its length before it, so that no two records share their bytes.
fn update(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: Fields<'_> = Fields {
        number: 7,
        time: "2026-11-21T20:48:34.123456Z",
        actor: "uid:0",
        action: "admin.token.create",
        subject: "ci for ann",
        decision: "allow",
        plugin: None,
        permission: None,
        detail: Some("x"),
        request_id: None,
        count: 1,
    };

    #[test]
    fn a_records_hash_is_what_other_programs_make_of_the_documented_bytes() {
        // python3: import hashlib, struct
        //   t = lambda s: struct.pack(">Q", len(s)) + s.encode()
        //   hashlib.sha256(b"pinfold audit 1\0" + bytes(32) + b"\0" + struct.pack(">q", 7)
        //     + t("2026-11-21T20:48:34.123456Z") + t("uid:0") + t("admin.token.create")
        //     + t("ci for ann") + t("allow") + b"\0\0\1" + t("x") + b"\0" + struct.pack(">q", 1))
        assert_eq!(
            hash(Part::Control, BEGINNING, &FIELDS).to_string(),
            "sha256:66400fbf12f76ed502e1641898985798d6c5c8eda918d0525b01827e74ded785"
        );
    }

    #[test]
    fn everything_that_a_record_says_counts() {
        let base = hash(Part::Control, BEGINNING, &FIELDS);
        let others = [
            hash(Part::Traffic, BEGINNING, &FIELDS),
            hash(Part::Control, base, &FIELDS),
        ];
        let changed = [
            Fields {
                number: 8,
                ..FIELDS
            },
            Fields { time: "", ..FIELDS },
            Fields {
                actor: "uid:1",
                ..FIELDS
            },
            Fields {
                action: "a",
                ..FIELDS
            },
            Fields {
                subject: "ci for bob",
                ..FIELDS
            },
            Fields {
                decision: "deny",
                ..FIELDS
            },
            Fields {
                plugin: Some("x"),
                ..FIELDS
            },
            Fields {
                permission: Some("x"),
                detail: None,
                ..FIELDS
            },
            Fields {
                detail: None,
                ..FIELDS
            },
            Fields {
                detail: Some(""),
                ..FIELDS
            },
            Fields {
                request_id: Some("r"),
                ..FIELDS
            },
            Fields { count: 2, ..FIELDS },
            // The same bytes, cut elsewhere.
            Fields {
                actor: "uid:0a",
                action: "dmin.token.create",
                ..FIELDS
            },
        ];
        let changed = changed.map(|fields| hash(Part::Control, BEGINNING, &fields));
        for other in others.iter().chain(&changed) {
            assert_ne!(*other, base);
        }
    }
}
