//! What a profile leaves out of a group of its base, and for what it keeps the rest.

/// A group of the base of which less is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrowed {
    pub(super) group: String,
    pub(super) why: String,
    pub(super) dropped: Vec<String>,
    pub(super) also: Vec<Also>,
}

/// Calls that are kept although the workload that proves the profile does not make them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Also {
    /// What needs them: never empty.
    pub needed_by: String,
    /// The calls.
    pub calls: Vec<String>,
}

impl Narrowed {
    /// The group, with its `@`.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Why what is kept is enough.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The calls that the base allows and this profile answers as if no group mentioned them.
    #[must_use]
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }

    /// What is kept beyond the workload.
    #[must_use]
    pub fn also(&self) -> &[Also] {
        &self.also
    }
}
