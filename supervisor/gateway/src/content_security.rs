//! What browsers are told to hold plugins' answers to.

use std::collections::BTreeMap;

use http::HeaderValue;
use pinfold_policy::PluginId;

/// Longest text in bytes: it is sent with every answer.
const LIMIT_BYTES: usize = 4096;

/// The `Content-Security-Policy` of plugins' answers (W3C, Content Security Policy Level 3), for all plugins and
/// for those that have another. The default is `sandbox`: what a plugin shows has an origin of its own that is
/// no other's, and runs no script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentSecurity {
    every: Option<HeaderValue>,
    of: BTreeMap<PluginId, Option<HeaderValue>>,
}

/// A text that cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentSecurityError {
    /// It is too long.
    #[error("at most {LIMIT_BYTES} bytes")]
    TooLong,
    /// It has a line end, or something else that no header may have.
    #[error("printable ASCII alone can be sent in a header")]
    Characters,
}

impl ContentSecurity {
    /// The text of all plugins' answers; the empty text is no header.
    ///
    /// # Errors
    /// [`ContentSecurityError`]
    pub fn new(every: &str) -> Result<Self, ContentSecurityError> {
        Ok(Self {
            every: value(every)?,
            of: BTreeMap::new(),
        })
    }

    /// Has one plugin's answers have another; the empty text is no header.
    ///
    /// # Errors
    /// [`ContentSecurityError`]
    pub fn set(&mut self, plugin: PluginId, text: &str) -> Result<(), ContentSecurityError> {
        self.of.insert(plugin, value(text)?);
        Ok(())
    }

    /// That of a plugin's answers. A copy is another reference to the same text.
    pub(crate) fn of(&self, plugin: &PluginId) -> Option<HeaderValue> {
        self.of.get(plugin).unwrap_or(&self.every).clone()
    }
}

impl Default for ContentSecurity {
    fn default() -> Self {
        Self {
            every: Some(HeaderValue::from_static("sandbox")),
            of: BTreeMap::new(),
        }
    }
}

fn value(text: &str) -> Result<Option<HeaderValue>, ContentSecurityError> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > LIMIT_BYTES {
        return Err(ContentSecurityError::TooLong);
    }
    // Other bytes may be in a header too, and mean whatever a browser takes them for.
    let is_printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    match HeaderValue::from_str(text) {
        Ok(value) if is_printable => Ok(Some(value)),
        _ => Err(ContentSecurityError::Characters),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(name: &str) -> PluginId {
        PluginId::parse(name).unwrap()
    }

    #[test]
    fn a_plugins_own_counts_before_that_of_all() {
        let mut security = ContentSecurity::default();
        security
            .set(plugin("pages"), "sandbox allow-scripts")
            .unwrap();
        security.set(plugin("free"), "").unwrap();
        let of = |name: &str| {
            let value = security.of(&plugin(name));
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(of("hello").as_deref(), Some("sandbox"));
        assert_eq!(of("pages").as_deref(), Some("sandbox allow-scripts"));
        assert_eq!(of("free"), None);
        let none = ContentSecurity::new("").unwrap();
        assert_eq!(none.of(&plugin("hello")), None);
    }

    #[test]
    fn what_no_header_can_be_is_refused() {
        for text in ["sandbox\r\nset-cookie: a=b", "sändbox", "sandbox\0"] {
            let refused = ContentSecurity::new(text).unwrap_err();
            assert_eq!(refused, ContentSecurityError::Characters, "{text:?}");
        }
        let long = "x".repeat(LIMIT_BYTES + 1);
        let refused = ContentSecurity::new(&long).unwrap_err();
        assert_eq!(refused, ContentSecurityError::TooLong);
    }
}
