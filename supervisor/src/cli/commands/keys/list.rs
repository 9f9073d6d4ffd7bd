//! `pinfold keys list`: the keys that are here.

use pinfold_policy::{KeyName, Moment, Pattern, Standing, TrustedKey};
use serde::Serialize;

use crate::chain::Chain;
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::installation::Installation;
use crate::cli::output::Page;
use crate::keys::{self, Found};

/// Digits of a public key that a table has room for; enough to tell keys apart.
const SHOWN_DIGITS: usize = 16;

/// One key, for programs.
#[derive(Debug, Serialize)]
pub(super) struct KeyView {
    pub(super) name: KeyName,
    /// Its 64 digits; absent where they cannot be read.
    pub(super) public_key: Option<String>,
    /// `trusted`, `expired`, `revoked` or `unusable`.
    pub(super) state: &'static str,
    pub(super) plugins: Vec<String>,
    pub(super) expires: Option<String>,
    pub(super) revoked: Option<String>,
    /// Why it was revoked, or what is wrong with its files.
    pub(super) reason: Option<String>,
}

impl KeyView {
    pub(super) fn of(key: &TrustedKey, now: Moment) -> Self {
        let rules = &key.rules;
        let revoked = rules.revoked.as_ref();
        Self {
            name: key.name.clone(),
            public_key: Some(key.key.to_string()),
            state: match rules.standing(now) {
                Standing::Trusted => "trusted",
                Standing::Expired(_) => "expired",
                Standing::Revoked(_) => "revoked",
            },
            plugins: rules
                .plugins
                .iter()
                .map(|pattern: &Pattern| pattern.to_string())
                .collect(),
            expires: rules.expires.map(|time| time.to_string()),
            revoked: revoked.map(|revoked| revoked.time.to_string()),
            reason: revoked
                .map(|revoked| revoked.reason.clone())
                .filter(|reason| !reason.is_empty()),
        }
    }

    fn found(found: &Found, now: Moment) -> Self {
        match &found.key {
            Ok(key) => Self::of(key, now),
            Err(error) => Self {
                name: found.name.clone(),
                public_key: None,
                state: "unusable",
                plugins: Vec::new(),
                expires: None,
                revoked: None,
                reason: Some(Chain(error).to_string()),
            },
        }
    }
}

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let installation = Installation::open(&context.place)?;
    let now = keys::now();
    let views: Vec<KeyView> = keys::all(installation.keys_dir())?
        .iter()
        .map(|found| KeyView::found(found, now))
        .collect();
    Ok(context.output.give(&views, |views| page(views))?)
}

fn page(views: &[KeyView]) -> Page {
    let mut page = Page::default();
    if views.is_empty() {
        page.line(
            "No key is trusted here: `pinfold keys trust FILE.pub --plugin NAME` trusts one.",
        );
        return page;
    }
    let short = |key: &Option<String>| {
        let digits = key.as_deref().unwrap_or_default();
        digits.chars().take(SHOWN_DIGITS).collect::<String>()
    };
    page.table(
        ["NAME", "KEY", "STATE", "MAY SIGN", "EXPIRES", "WHY"],
        views.iter().map(|view| {
            [
                view.name.to_string(),
                short(&view.public_key),
                view.state.to_owned(),
                view.plugins.join(" "),
                view.expires.clone().unwrap_or_default(),
                view.reason.clone().unwrap_or_default(),
            ]
        }),
    );
    page
}

#[cfg(test)]
mod tests {
    use pinfold_policy::{KeyRules, Revoked};

    use super::*;

    #[test]
    fn a_key_is_shown_as_what_it_counts_for_now() {
        let moment = Moment::from_unix_seconds;
        let mut key = TrustedKey {
            name: "release".parse().unwrap(),
            key: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
                .parse()
                .unwrap(),
            rules: KeyRules::new(vec![Pattern::new("mail*"), Pattern::new("hello")]),
        };
        key.rules.expires = Some(moment(1000));
        assert_eq!(KeyView::of(&key, moment(999)).state, "trusted");
        assert_eq!(KeyView::of(&key, moment(1000)).state, "expired");
        key.rules.revoked = Some(Revoked {
            time: moment(5),
            reason: "lost".into(),
        });
        let view = KeyView::of(&key, moment(10));
        assert_eq!(
            (view.state, view.reason.as_deref()),
            ("revoked", Some("lost"))
        );
        let text = page(&[view]).to_string();
        for part in [
            "d75a980182b10ab7 ",
            "mail* hello",
            "1970-01-01T00:16:40Z",
            "lost",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(page(&[]).to_string().contains("keys trust"));
    }
}
