//! Why a syscall profile is refused.

use thiserror::Error;

/// Why a profile is refused. Each names the profile, and the group and the call as far as they
/// apply. A refused profile is refused whole.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// No profile of this name is shipped.
    #[error("no syscall profile `{profile}` is shipped{}", nearest_hint(.nearest))]
    NotShipped {
        /// The name asked for.
        profile: String,
        /// A shipped one that it may stand for.
        nearest: Option<&'static str>,
    },
    /// A profile that names itself as what it builds on.
    #[error("profile `{profile}` cannot build on itself")]
    OwnBase {
        /// The profile.
        profile: String,
    },
    /// A group that cannot be narrowed, or is narrowed wrongly.
    #[error("profile `{profile}`, narrowing group `{group}`: {problem}")]
    Narrow {
        /// The profile.
        profile: String,
        /// The group.
        group: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A call is to be kept that is not in the group.
    #[error("profile `{profile}`, narrowing group `{group}`: it has no `{call}`{}", nearest_hint(.nearest))]
    NotInGroup {
        /// The profile.
        profile: String,
        /// The group.
        group: String,
        /// The name in the file.
        call: String,
        /// A call of the group that it may stand for.
        nearest: Option<String>,
    },
    /// The text is longer than a profile may be.
    #[error("profile `{profile}`: {bytes} bytes, more than {limit}")]
    TooLong {
        /// The profile.
        profile: String,
        /// Length of the text in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Not TOML, a key that profiles do not have, or a value of the wrong type.
    #[error("profile `{profile}`: unreadable")]
    Syntax {
        /// The profile.
        profile: String,
        /// Place and reason.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A format version that this program does not know.
    #[error("profile `{profile}`: schema {schema} is not known")]
    Schema {
        /// The profile.
        profile: String,
        /// What the file says.
        schema: u32,
    },
    /// The file's own name differs from the name under which it is used.
    #[error("profile `{profile}`: the file says `{found}`")]
    Name {
        /// The name expected.
        profile: String,
        /// The name in the file.
        found: String,
    },
    /// An architecture that profiles cannot be compiled for.
    #[error("profile `{profile}`: architecture `{arch}` is not known")]
    UnknownArch {
        /// The profile.
        profile: String,
        /// What the file says.
        arch: String,
    },
    /// No architecture is listed.
    #[error("profile `{profile}`: no architecture is listed")]
    NoArch {
        /// The profile.
        profile: String,
    },
    /// A profile that answers calls it does not mention with `allow`.
    #[error("profile `{profile}`: calls that are not mentioned must not be allowed")]
    OpenDefault {
        /// The profile.
        profile: String,
    },
    /// A word that is no action.
    #[error("profile `{profile}`, group `{group}`: action `{action}` is not known")]
    UnknownAction {
        /// The profile.
        profile: String,
        /// The group, or `default` for the profile's default action.
        group: String,
        /// What the file says.
        action: String,
    },
    /// A group of this name stands twice.
    #[error("profile `{profile}`: group `{group}` stands twice")]
    DuplicateGroup {
        /// The profile.
        profile: String,
        /// The group.
        group: String,
    },
    /// A group's name does not begin with `@`, or has other than small letters, digits and `-`.
    #[error("profile `{profile}`: `{group}` is no name for a group")]
    GroupName {
        /// The profile.
        profile: String,
        /// The name in the file.
        group: String,
    },
    /// A group gives no reason.
    #[error("profile `{profile}`, group `{group}`: `why` is empty")]
    NoReason {
        /// The profile.
        profile: String,
        /// The group.
        group: String,
    },
    /// A group without calls.
    #[error("profile `{profile}`, group `{group}`: no calls")]
    EmptyGroup {
        /// The profile.
        profile: String,
        /// The group.
        group: String,
    },
    /// A group that `use.include` does not name.
    #[error("profile `{profile}`, group `{group}`: not used")]
    UnusedGroup {
        /// The profile.
        profile: String,
        /// The group.
        group: String,
    },
    /// `use.include` or `use.enable` names a group that is neither here nor in the base.
    #[error("profile `{profile}`: there is no group `{group}` to use")]
    UnknownGroup {
        /// The profile.
        profile: String,
        /// The name in `use`.
        group: String,
    },
    /// `use.include` or `use.enable` names a group twice.
    #[error("profile `{profile}`, group `{group}`: used twice")]
    UsedTwice {
        /// The profile.
        profile: String,
        /// The group.
        group: String,
    },
    /// A group that is not optional was to be switched on, or lacks or has keys that only optional
    /// groups have.
    #[error("profile `{profile}`, group `{group}`: {problem}")]
    Optional {
        /// The profile.
        profile: String,
        /// The group.
        group: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// No architecture of the profile has a call of this name.
    #[error("profile `{profile}`, group `{group}`: no system call is named `{call}`{}", nearest_hint(.nearest))]
    UnknownCall {
        /// The profile.
        profile: String,
        /// The group.
        group: String,
        /// The name in the file.
        call: String,
        /// A known name that it may stand for.
        nearest: Option<&'static str>,
    },
    /// A call is decided on in two places.
    #[error("profile `{profile}`: `{call}` is in group `{first}` and again in `{second}`")]
    MentionedTwice {
        /// The profile.
        profile: String,
        /// The call.
        call: String,
        /// The group of its first mention.
        first: String,
        /// The group of its second mention.
        second: String,
    },
    /// A call has both `action` and rules, both `when` and `rule`, rules without `else`, or none.
    #[error("profile `{profile}`, group `{group}`, call `{call}`: {problem}")]
    CallShape {
        /// The profile.
        profile: String,
        /// The group.
        group: String,
        /// The call.
        call: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// An argument test that cannot be read or can never hold.
    #[error("profile `{profile}`, group `{group}`, call `{call}`, argument {arg}: {fault}")]
    Condition {
        /// The profile.
        profile: String,
        /// The group.
        group: String,
        /// The call.
        call: String,
        /// Which argument, from 0.
        arg: u8,
        /// What is wrong.
        fault: ConditionFault,
    },
    /// Allows what no profile may allow.
    #[error("profile `{profile}`, group `{group}`: `{call}` must not be allowed: {reason}")]
    HardDenied {
        /// The profile.
        profile: String,
        /// The group.
        group: String,
        /// The call.
        call: String,
        /// What it would open.
        reason: &'static str,
    },
    /// Allows a call that the default profile refuses, and does not say that this is meant.
    #[error(
        "profile `{profile}`, group `{group}`: allowing `{call}` needs `i-accept-the-risk` with a reason"
    )]
    RiskNotAccepted {
        /// The profile.
        profile: String,
        /// The group.
        group: String,
        /// The call.
        call: String,
    },
}

/// What is wrong with an argument test.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConditionFault {
    /// System calls have the arguments 0 to 5.
    #[error("system calls have arguments 0 to 5")]
    NoSuchArgument,
    /// The width is neither 32 nor 64.
    #[error("width must be 32 or 64")]
    Width,
    /// Neither or both of `equals` and `in`.
    #[error("needs one of `equals` and `in`")]
    Values,
    /// More values than one test may have.
    #[error("{count} values, more than {limit}")]
    TooManyValues {
        /// How many there are.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A name that is no known constant.
    #[error("constant `{0}` is not known")]
    UnknownConstant(String),
    /// A negative number.
    #[error("{0} is negative")]
    Negative(i64),
    /// A value that the stated width cannot hold.
    #[error("{0:#x} does not fit the width")]
    TooWide(u64),
    /// A value with bits outside the mask.
    #[error("{0:#x} has bits outside the mask: it can never hold")]
    NeverTrue(u64),
}

fn nearest_hint(nearest: &Option<impl AsRef<str>>) -> String {
    nearest
        .as_ref()
        .map(|name| format!(" (`{}`?)", name.as_ref()))
        .unwrap_or_default()
}
