//! What the plan says of Landlock (landlock(7)): numbers that the launcher has chosen for the kernel
//! that runs, and that the reaper hands on as they are.

use core::ffi::CStr;

/// What is handled, which is forbidden unless a [`Rule`] grants it. Nothing is left out silently: a
/// kernel that does not know one of these bits refuses the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landlock {
    /// Rights on files, for plugin and reaper.
    pub files: u64,
    /// Rights on the network that the plugin does not have.
    pub network: u64,
    /// Rights on the network that the reaper does not have.
    pub reaper_network: u64,
    /// What reaches no further than the process's own domain: signals, abstract sockets.
    pub scopes: u64,
    /// Bytes of `struct landlock_ruleset_attr` that the kernel has, 8 to 24.
    pub size: u32,
    /// Flags of `landlock_restrict_self` for the plugin.
    pub flags: u32,
}

/// What is granted beneath a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<'p> {
    /// The file or directory, as an absolute path of the jail.
    pub path: &'p CStr,
    /// The rights, some of [`Landlock::files`].
    pub rights: u64,
}

const WORDS: usize = 5;

impl Landlock {
    /// Bytes of the payload.
    pub const BYTES: usize = WORDS * 8;

    /// The payload.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let last = u64::from(self.size) | (u64::from(self.flags) << 32);
        let words = [
            self.files,
            self.network,
            self.reaper_network,
            self.scopes,
            last,
        ]
        .map(u64::to_le_bytes);
        let mut bytes = [0; Self::BYTES];
        for (to, from) in bytes.iter_mut().zip(words.as_flattened()) {
            *to = *from;
        }
        bytes
    }

    /// Reads the payload; `None` where it has another length or a size that no kernel has.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<8>() else {
            return None;
        };
        let words: &[[u8; 8]; WORDS] = words.try_into().ok()?;
        let [files, network, reaper_network, scopes, last] = words.map(u64::from_le_bytes);
        let [s0, s1, s2, s3, f0, f1, f2, f3] = last.to_le_bytes();
        let size = u32::from_le_bytes([s0, s1, s2, s3]);
        let attributes = Self {
            files,
            network,
            reaper_network,
            scopes,
            size,
            flags: u32::from_le_bytes([f0, f1, f2, f3]),
        };
        matches!(size, 8 | 16 | 24).then_some(attributes)
    }
}
