//! Landlock (landlock(7)): C8 for the plugin, and nothing at all for the reaper in R16.
//!
//! The launcher has asked the kernel what it has, and planned exactly that; what the kernel then
//! refuses is a failure of the control and never a weaker set.

use rustix::fs::{Mode, OFlags};

use crate::failure::{During, Failure};
use crate::message::Optional;
use crate::plan::{Landlock, Wish};
use crate::setup::Setup;
use crate::step::Step;
use crate::sys::{self, Handled};

/// C8: the plugin's file access, by path; its signals and abstract sockets end at itself.
pub(crate) fn confine_plugin(setup: &Setup) -> Result<(), Failure> {
    let step = Step::C8;
    setup.begin(step)?;
    confine(setup, step, plugin)
}

/// Of R16: the reaper opens nothing any more and signals nobody.
pub(crate) fn confine_reaper(setup: &Setup) -> Result<(), Failure> {
    confine(setup, Step::R16, reaper)
}

fn confine(
    setup: &Setup,
    step: Step,
    enforce: fn(&Setup, &Landlock, Step) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let wish = setup.plan.settings().landlock;
    let Some(landlock) = setup.plan.landlock().filter(|_| wish != Wish::Off) else {
        return Ok(());
    };
    enforce(setup, &landlock, step)
        .or_else(|failure| setup.optional(wish, Optional::Landlock, failure))
}

fn plugin(setup: &Setup, landlock: &Landlock, step: Step) -> Result<(), Failure> {
    let handled = Handled {
        files: landlock.files,
        network: landlock.network,
        scopes: landlock.scopes,
    };
    let ruleset = sys::landlock_ruleset(&handled, landlock.size).during(step, "make a ruleset")?;
    for rule in setup.plan.rules() {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let place =
            rustix::fs::open(rule.path, flags, Mode::empty()).during_on(step, "open", rule.path)?;
        sys::landlock_allow(&ruleset, &place, rule.rights).during_on(step, "allow", rule.path)?;
    }
    sys::landlock_restrict(&ruleset, landlock.flags).during(step, "restrict itself")
}

fn reaper(_: &Setup, landlock: &Landlock, step: Step) -> Result<(), Failure> {
    let handled = Handled {
        files: landlock.files,
        network: landlock.reaper_network,
        scopes: landlock.scopes,
    };
    sys::landlock_ruleset(&handled, landlock.size)
        .and_then(|ruleset| sys::landlock_restrict(&ruleset, 0))
        .during(step, "landlock without any rule")
}
