//! The architectures that profiles are compiled for.

use std::fmt;

/// An architecture with its own call numbers. A call that comes in under any other one (32-bit
/// code on a 64-bit kernel included) kills the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 64-bit x86. Its x32 numbers are killed like a foreign architecture.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

/// Where the x32 numbers begin: `__X32_SYSCALL_BIT` (asm/unistd.h).
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// Every architecture.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The architecture that this program was built for, or `None` where profiles cannot be
    /// compiled for it.
    #[must_use]
    pub const fn native() -> Option<Self> {
        if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
            Some(Self::X86_64)
        } else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
            Some(Self::Aarch64)
        } else {
            None
        }
    }

    /// The name that profiles write, which is also `uname -m`'s.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The architecture with this name.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.as_str() == text)
    }

    /// Its `AUDIT_ARCH_*` value (linux/audit.h), which the kernel gives to filters.
    #[must_use]
    pub const fn audit_value(self) -> u32 {
        // The ELF machine number, the 64-bit bit, the little-endian bit.
        match self {
            Self::X86_64 => 62 | 0x8000_0000 | 0x4000_0000,
            Self::Aarch64 => 183 | 0x8000_0000 | 0x4000_0000,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
