//! The numbered steps of a launch. Errors, traces and tests use their ids and names.

use core::fmt;

macro_rules! steps {
    ($($variant:ident $number:literal $name:literal;)*) => {
        /// One step of a launch: `L` is done once by the launcher, `P` by the launcher for each
        /// launch, `R` by the reaper, `C` by the process that becomes the plugin.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Step {
            $(#[doc = $name] $variant = $number,)*
        }

        impl Step {
            /// Every step, in the order of a launch.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its number in plans and messages.
            #[must_use]
            pub const fn number(self) -> u8 {
                match self { $(Self::$variant => $number,)* }
            }

            /// Its id, such as `R9`.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }

            /// Its name, such as `proc`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The step with this number.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

steps! {
    L4 4 "sealed reaper";
    P2 12 "stage handle";
    P5 15 "run directory";
    P6 16 "mount handles";
    P7 17 "channels";
    P8 18 "clone";
    P9 19 "status";
    P10 20 "look";
    R1 31 "sanitise";
    R2 32 "die with parent";
    R3 33 "groups";
    R4 34 "propagation";
    R5 35 "new root";
    R6 36 "directories";
    R7 37 "mounts";
    R8 38 "own proc";
    R9 39 "proc";
    R10 40 "pivot";
    R11 41 "network";
    R12 42 "names";
    R13 43 "keyring";
    R14 44 "limits";
    R14a 48 "core scheduling";
    R15 45 "fork";
    R16 46 "give up";
    R17 47 "reap";
    C1 51 "session";
    C2 52 "standard streams";
    C3 53 "bounding set";
    C4 54 "ids";
    C5 55 "user namespace";
    C5a 63 "time namespace";
    C6 56 "capabilities";
    C7 57 "no new privileges";
    C8 58 "landlock";
    C9 59 "write-xor-execute";
    C10 60 "descriptors";
    C11 61 "filter";
    C12 62 "exec";
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_leads_back_to_its_step() {
        for step in Step::ALL {
            assert_eq!(Step::from_number(step.number()), Some(*step));
        }
        assert_eq!(Step::from_number(0), None);
        assert_eq!(Step::R9.to_string(), "R9 proc");
    }
}
