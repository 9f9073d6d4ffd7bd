//! The JSON Schema of policy files, for editors: written by hand with a sentence for each key, and
//! held to what the parser takes by tests in both directions.

/// JSON Schema (draft 2020-12) of a policy file, as `docs/policy.schema.json` has it. It refuses
/// nothing that [`crate::PolicyFile::parse`] takes; some that it takes are refused all the same, for
/// what one key must be can hang on another.
pub const POLICY_SCHEMA: &str = include_str!("../../../docs/policy.schema.json");

/// The comment line by which taplo, and editors that use it, find the schema of a document.
pub const POLICY_SCHEMA_LINE: &str =
    "#:schema https://raw.githubusercontent.com/pinfold/pinfold/main/docs/policy.schema.json";

#[cfg(test)]
mod tests;
