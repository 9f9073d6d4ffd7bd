//! Whether the machine has swap: a jail may have all of it where its group's use of it cannot be limited.

use std::fs;
use std::path::PathBuf;

use pinfold_policy::Control;

use super::{Applied, How, Reason};

/// Where the kernel says how much swap there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Swap {
    /// proc_meminfo(5). A kernel that is built without swap says 0 there too.
    pub(super) meminfo: PathBuf,
}

impl Swap {
    /// Whether there is any now, on disks or in memory. Where that is not known, there may be.
    pub(super) fn is_there(&self) -> bool {
        let text = fs::read_to_string(&self.meminfo).unwrap_or_default();
        let total = text
            .lines()
            .find_map(|line| line.strip_prefix("SwapTotal:"));
        let kibibytes = total.and_then(|rest| rest.split_whitespace().next());
        kibibytes != Some("0")
    }

    /// What a limit on memory comes to beside which swap cannot be limited, for this reason: nothing
    /// where there is swap, since whatever is beyond the limit goes there.
    pub(super) fn unlimited(&self, how: How, reason: &Reason) -> Applied {
        let and = |what: &str| Reason {
            detail: format!("{}: {what}", reason.detail),
            ..reason.clone()
        };
        match self.is_there() {
            true => Applied::missing(Control::Memory, and(ALL_OF_IT)),
            false => Applied::partial(Control::Memory, how, and("there is no swap to be limited")),
        }
    }
}

const ALL_OF_IT: &str = "the jail could take all the swap that there is; start a kernel that can limit it \
                         with swapaccount=1, or switch swap off";
