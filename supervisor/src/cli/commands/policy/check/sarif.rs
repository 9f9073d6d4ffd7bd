//! Findings as SARIF 2.1.0 (OASIS), which code scanning services read.

use std::fmt::Write as _;
use std::path::Path;

use pinfold_policy::lint::{Finding, Rule, Severity};
use serde_json::{Value, json};

use super::Checked;

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The whole log: one run.
pub(super) fn log(checked: &[Checked]) -> Value {
    let rules: Vec<Value> = Rule::ALL
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id(),
                "shortDescription": { "text": rule.about() },
                "defaultConfiguration": { "level": level(rule.severity()) },
            })
        })
        .collect();
    let results: Vec<Value> = checked
        .iter()
        .flat_map(|one| one.findings.iter().map(|finding| result(one, finding)))
        .collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "pinfold policy check",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "columnKind": "unicodeCodePoints",
            "artifacts": checked
                .iter()
                .map(|one| json!({ "location": { "uri": uri(&one.path) } }))
                .collect::<Vec<_>>(),
            "results": results,
        }],
    })
}

fn result(one: &Checked, finding: &Finding) -> Value {
    let index = Rule::ALL.iter().position(|rule| *rule == finding.rule);
    let mut place = json!({ "artifactLocation": { "uri": uri(&one.path) } });
    if let (Some(found), Some(fields)) = (finding.place, place.as_object_mut()) {
        let region = json!({
            "startLine": found.line,
            "startColumn": found.column,
            "endLine": found.line,
            "endColumn": found.column + found.length,
        });
        fields.insert("region".into(), region);
    }
    json!({
        "ruleId": finding.rule.id(),
        "ruleIndex": index,
        "level": level(finding.severity),
        "message": { "text": format!("{}. What to do: {}.", finding.message, finding.help) },
        "locations": [{ "physicalLocation": place }],
    })
}

const fn level(severity: Severity) -> &'static str {
    severity.as_str()
}

/// A path as a URI (RFC 3986): `file:///…` for an absolute one, else relative to where the command
/// ran.
fn uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let mut uri = String::from(if path.is_absolute() { "file://" } else { "" });
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(*byte));
            }
            other => write!(uri, "%{other:02X}").expect("a String takes every text"),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uris_without_loss() {
        assert_eq!(
            uri(Path::new("/etc/a b/ü.toml")),
            "file:///etc/a%20b/%C3%BC.toml"
        );
        assert_eq!(uri(Path::new("policies/x.toml")), "policies/x.toml");
    }
}
