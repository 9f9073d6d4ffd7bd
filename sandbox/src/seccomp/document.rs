//! The profile file: its shape, and every check on the way to a [`Profile`].

mod condition;
mod groups;
mod narrow;
mod risk;

use std::collections::HashSet;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use self::condition::FileCondition;
use self::groups::Reader;
use self::narrow::FileNarrow;
use self::risk::Risky;
use super::Action;
use super::error::ProfileError;
use super::profile::Profile;

/// A profile is a page that people read; the shipped one has 13 KiB.
const MAX_BYTES: usize = 64 * 1024;
/// The format version.
const SCHEMA: u32 = 1;

/// Reads, checks and resolves a profile: [`Profile::parse`].
pub(super) fn read(text: &str, name: &str) -> Result<Profile, ProfileError> {
    let profile = || name.to_owned();
    if text.len() > MAX_BYTES {
        return Err(ProfileError::TooLong {
            profile: profile(),
            bytes: text.len(),
            limit: MAX_BYTES,
        });
    }
    let file: File = toml::from_str(text).map_err(|source| ProfileError::Syntax {
        profile: profile(),
        source: Box::new(source),
    })?;
    if file.schema != SCHEMA {
        return Err(ProfileError::Schema {
            profile: profile(),
            schema: file.schema,
        });
    }
    if file.name != name {
        return Err(ProfileError::Name {
            profile: profile(),
            found: file.name,
        });
    }
    let reader = Reader { profile: name };
    let arches = reader.arches(&file.arch)?;
    let default = reader.action("default", &file.default)?;
    if default == Action::Allow {
        return Err(ProfileError::OpenDefault { profile: profile() });
    }
    let base = match &file.r#use.base {
        // A profile cannot build on itself: the shipped ones are the only bases.
        Some(base) if base != name => Some(Profile::builtin(base)?),
        Some(_) => {
            return Err(ProfileError::OwnBase { profile: profile() });
        }
        None => None,
    };
    let own = reader.groups(&file.group, &arches)?;
    let risky = Risky::outside_of(name)?;
    for (group, source) in own.iter().zip(&file.group) {
        reader.refuse_hard_denied(group)?;
        risky.refuse_unaccepted(name, group, source)?;
    }
    let own_names: HashSet<String> = own.iter().map(|group| group.name.clone()).collect();
    let mut groups = reader.used(own, base.as_ref(), &file.r#use)?;
    reader.refuse_double_mentions(&groups)?;
    let mut narrowed = reader.narrow(&mut groups, &own_names, &file.narrow)?;
    // What the base has left out already.
    for earlier in base.iter().flat_map(|base| &base.narrowed) {
        let is_used = groups.iter().any(|group| group.name == earlier.group);
        let is_new = !own_names.contains(&earlier.group)
            && !narrowed.iter().any(|own| own.group == earlier.group);
        if is_used && is_new {
            narrowed.push(earlier.clone());
        }
    }
    let mut checked = Profile {
        name: profile(),
        arches,
        default,
        groups,
        narrowed,
        source_digest: source_digest(text, base.as_ref()),
        has_internet: true,
    };
    for group in &file.r#use.enable {
        checked.enable(group)?;
    }
    Ok(checked)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    schema: u32,
    name: String,
    arch: Vec<String>,
    default: String,
    #[serde(default)]
    group: Vec<FileGroup>,
    #[serde(default)]
    narrow: Vec<FileNarrow>,
    r#use: Use,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Use {
    base: Option<String>,
    include: Vec<String>,
    #[serde(default)]
    enable: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileGroup {
    name: String,
    why: String,
    action: String,
    off: Option<String>,
    on: Option<String>,
    i_accept_the_risk: Option<String>,
    #[serde(default)]
    calls: Vec<String>,
    #[serde(default)]
    call: Vec<FileCall>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileCall {
    name: String,
    why: Option<String>,
    action: Option<String>,
    when: Option<Vec<FileCondition>>,
    rule: Option<Vec<FileRule>>,
    r#else: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileRule {
    when: Vec<FileCondition>,
    action: String,
}

fn source_digest(text: &str, base: Option<&Profile>) -> [u8; 32] {
    let own: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    match base {
        None => own,
        Some(base) => {
            let mut hash = Sha256::new();
            hash.update(b"pinfold-profile-base-1\0");
            hash.update(own);
            hash.update(base.digest());
            hash.finalize().into()
        }
    }
}
