//! A checked syscall profile, and what it says of one call.

use sha2::{Digest as _, Sha256};

use super::{Action, Arch, Narrowed, ProfileError, document, syscalls};

/// A syscall profile that has passed every check. Cheap to keep; compile it once and keep the
/// program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub(super) name: String,
    pub(super) arches: Vec<Arch>,
    pub(super) default: Action,
    pub(super) groups: Vec<Group>,
    pub(super) narrowed: Vec<Narrowed>,
    pub(super) source_digest: [u8; 32],
    /// Whether sockets for IP are as the groups say; else refused.
    pub(super) has_internet: bool,
}

/// Calls that are decided on together, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub(super) name: String,
    pub(super) why: String,
    pub(super) action: GroupAction,
    pub(super) risk: Option<String>,
    pub(super) calls: Vec<Call>,
}

/// What becomes of a group's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupAction {
    /// Always this.
    Fixed(Action),
    /// A group that is off until a policy switches it on.
    Optional {
        /// The answer while it is off.
        off: Action,
        /// The answer once it is on.
        on: Action,
        /// Whether it is on.
        enabled: bool,
    },
}

/// One call of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub(super) name: String,
    pub(super) why: Option<String>,
    pub(super) decision: Decision,
}

/// How a call is decided while its group is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// As the group says.
    Group,
    /// Always this, whatever the group says.
    Fixed(Action),
    /// The first rule whose conditions all hold; without one, `otherwise`.
    Rules {
        /// The rules in order.
        rules: Vec<Rule>,
        /// The answer when no rule holds.
        otherwise: Action,
    },
}

/// An answer that depends on arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All of these must hold.
    pub when: Vec<Condition>,
    /// The answer then.
    pub action: Action,
}

/// A test of one argument: `(argument & mask) ∈ values`, on the low 32 bits or on all 64.
///
/// A pointer is only a number here; what it points to cannot be tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub arg: u8,
    /// How many of its bits count.
    pub width: Width,
    /// The bits that count; all of the width where the profile gives no mask.
    pub mask: u64,
    /// The values that hold, within mask and width. Never empty.
    pub values: Vec<u64>,
}

/// How many bits of an argument count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// The low 32, where the kernel's parameter is an `int` and the rest is ignored.
    Low32,
    /// All 64.
    Full64,
}

impl Profile {
    /// Reads and checks a profile. `name` is what the profile is known as (the file's stem); the
    /// file must call itself the same.
    ///
    /// # Errors
    ///
    /// [`ProfileError`], naming profile, group and call. Texts over 64 KiB are not read.
    pub fn parse(text: &str, name: &str) -> Result<Self, ProfileError> {
        document::read(text, name)
    }

    /// One of the profiles that are compiled in: `default`, and what the runtimes need of it: `go`,
    /// `python`, `node`, `static`.
    ///
    /// # Errors
    ///
    /// [`ProfileError::NotShipped`] for any other name.
    pub fn builtin(name: &str) -> Result<Self, ProfileError> {
        match BUILTIN.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Self::parse(text, name),
            None => Err(ProfileError::NotShipped {
                profile: name.to_owned(),
                nearest: pinfold_policy::nearest(name, Self::builtin_names()),
            }),
        }
    }

    /// The text of a profile that is compiled in.
    #[must_use]
    pub fn builtin_text(name: &str) -> Option<&'static str> {
        BUILTIN
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, text)| *text)
    }

    /// The names of the profiles that are compiled in.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name)
    }

    /// Switches an optional group on, as a policy file may ask.
    ///
    /// # Errors
    ///
    /// [`ProfileError::UnknownGroup`] where the profile does not use such a group,
    /// [`ProfileError::Optional`] where the group is not optional.
    pub fn enable(&mut self, group: &str) -> Result<(), ProfileError> {
        let profile = &self.name;
        let Some(found) = self.groups.iter_mut().find(|known| known.name == group) else {
            return Err(ProfileError::UnknownGroup {
                profile: profile.clone(),
                group: group.to_owned(),
            });
        };
        match &mut found.action {
            GroupAction::Optional { enabled, .. } => {
                *enabled = true;
                Ok(())
            }
            GroupAction::Fixed(_) => Err(ProfileError::Optional {
                profile: profile.clone(),
                group: group.to_owned(),
                problem: "not optional, so it cannot be switched on",
            }),
        }
    }

    /// The profile's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The architectures it can be compiled for.
    #[must_use]
    pub fn arches(&self) -> &[Arch] {
        &self.arches
    }

    /// The answer to calls that no group mentions. Never `allow`.
    #[must_use]
    pub fn default_action(&self) -> Action {
        self.default
    }

    /// The groups in use, in the file's order.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The groups of the base of which less is kept, with the reasons.
    #[must_use]
    pub fn narrowed(&self) -> &[Narrowed] {
        &self.narrowed
    }

    /// The group that decides on a call, and its entry there; `None` where the default does.
    #[must_use]
    pub fn find(&self, call: &str) -> Option<(&Group, &Call)> {
        self.groups.iter().find_map(|group| {
            group
                .calls
                .iter()
                .find(|entry| entry.name == call)
                .map(|entry| (group, entry))
        })
    }

    /// What the profile says of one call with these arguments, by walking its groups. Compiled
    /// programs answer the same; this is the plain reading that they are tested against, and what
    /// `explain` shows. x32 numbers and foreign architectures are not a profile's matter.
    #[must_use]
    pub fn decide(&self, arch: Arch, number: u32, args: &[u64; 6]) -> Action {
        let Some(name) = syscalls::syscall_name(arch, number) else {
            return self.default;
        };
        match self.find(name) {
            None => self.default,
            Some((group, call)) => match group.decision_of(call) {
                Effective::Always(action) => action,
                Effective::Rules(rules, otherwise) => rules
                    .iter()
                    .find(|rule| rule.when.iter().all(|condition| condition.holds(args)))
                    .map_or(otherwise, |rule| rule.action),
            },
        }
    }

    /// Whether it allows a call, if only with some arguments.
    #[must_use]
    pub fn may_allow(&self, call: &str) -> bool {
        match self.find(call) {
            None => self.default == Action::Allow,
            Some((group, call)) => match group.decision_of(call) {
                Effective::Always(action) => action == Action::Allow,
                Effective::Rules(rules, otherwise) => {
                    let mut actions = rules.iter().map(|rule| rule.action);
                    otherwise == Action::Allow || actions.any(|action| action == Action::Allow)
                }
            },
        }
    }

    /// Whether a program could change its limit on core dumps, which a jail has at the one figure at which the
    /// kernel starts no program of the host's for a crash (core(5), `RLIMIT_CORE`).
    #[must_use]
    pub fn may_change_core_limit(&self) -> bool {
        // Of pid and resource the kernel reads the lower half alone; a pointer it reads whole.
        const UPPER: u64 = 1 << 32;
        const CORE: [u64; 2] = [4, UPPER | 4];
        const POINTERS: [u64; 2] = [4096, UPPER];
        // In a jail the reaper is 1 and the plugin 2.
        const PIDS: [u64; 4] = [0, UPPER, 1, 2];
        let allows = |call, args: [u64; 6]| {
            let mut numbers = Arch::ALL
                .iter()
                .filter_map(|arch| Some((*arch, syscalls::number(*arch, call)?)));
            numbers.any(|(arch, number)| self.decide(arch, number, &args) == Action::Allow)
        };
        CORE.into_iter().any(|core| {
            POINTERS.into_iter().any(|new| {
                allows("setrlimit", [core, new, 0, 0, 0, 0])
                    || PIDS
                        .into_iter()
                        .any(|pid| allows("prlimit64", [pid, core, new, 0, 0, 0]))
            })
        })
    }

    /// SHA-256 that stands for the profile in posture and caches. For a profile without base and
    /// without groups switched on later it is the digest of the file itself, so that a reviewer
    /// can compare it with `sha256sum`; otherwise it covers the file's digest, the groups that
    /// are on, and whether IP is refused.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut enabled = self
            .groups
            .iter()
            .filter(|group| group.is_enabled_option())
            .peekable();
        if enabled.peek().is_none() && self.has_internet {
            return self.source_digest;
        }
        let mut hash = Sha256::new();
        hash.update(b"pinfold-profile-1\0");
        hash.update(self.source_digest);
        for group in enabled {
            hash.update(group.name.as_bytes());
            hash.update(b"\0");
        }
        if !self.has_internet {
            hash.update(b"no internet\0");
        }
        hash.finalize().into()
    }
}

impl Group {
    /// The group's name, with its `@`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why the group is decided on as it is.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// What becomes of its calls.
    #[must_use]
    pub fn action(&self) -> GroupAction {
        self.action
    }

    /// Why the risk of a group is taken that allows what the default profile refuses:
    /// `i-accept-the-risk`.
    #[must_use]
    pub fn accepted_risk(&self) -> Option<&str> {
        self.risk.as_deref()
    }

    /// Its calls, in the file's order.
    #[must_use]
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    fn is_enabled_option(&self) -> bool {
        matches!(self.action, GroupAction::Optional { enabled: true, .. })
    }

    /// What a call of this group comes to, with the group's own state counted in.
    pub(super) fn decision_of<'a>(&self, call: &'a Call) -> Effective<'a> {
        let action = match self.action {
            GroupAction::Optional {
                off,
                enabled: false,
                ..
            } => return Effective::Always(off),
            GroupAction::Optional { on, .. } => on,
            GroupAction::Fixed(action) => action,
        };
        match &call.decision {
            Decision::Group => Effective::Always(action),
            Decision::Fixed(own) => Effective::Always(*own),
            Decision::Rules { rules, otherwise } => Effective::Rules(rules, *otherwise),
        }
    }
}

impl Call {
    /// The kernel's name of the call.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why it is decided on differently from its group, where it is.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// How it is decided.
    #[must_use]
    pub fn decision(&self) -> &Decision {
        &self.decision
    }
}

impl Condition {
    /// Whether it holds for these arguments.
    #[must_use]
    pub fn holds(&self, args: &[u64; 6]) -> bool {
        let argument = args.get(usize::from(self.arg)).copied().unwrap_or_default();
        self.values
            .contains(&(argument & self.mask & self.width.bits()))
    }
}

impl Width {
    /// The bits that count.
    #[must_use]
    pub const fn bits(self) -> u64 {
        match self {
            Self::Low32 => 0xffff_ffff,
            Self::Full64 => u64::MAX,
        }
    }
}

/// What a call comes to once its group's state is known.
pub(super) enum Effective<'a> {
    Always(Action),
    Rules(&'a [Rule], Action),
}

const BUILTIN: &[(&str, &str)] = &[
    ("default", include_str!("../../profiles/default.toml")),
    ("go", include_str!("../../profiles/go.toml")),
    ("python", include_str!("../../profiles/python.toml")),
    ("node", include_str!("../../profiles/node.toml")),
    ("static", include_str!("../../profiles/static.toml")),
];
