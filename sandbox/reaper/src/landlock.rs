//! Landlock (landlock(7)): C8 for the plugin, and nothing at all for the reaper in R16.
//!
//! The launcher has asked the kernel what it has, and planned exactly that; what the kernel then
//! refuses is a failure of the control and never a weaker set.

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::failure::{During, Failure};
use crate::message::Optional;
use crate::plan::{Landlock, Rule, Wish};
use crate::setup::Setup;
use crate::step::Step;
use crate::sys::{self, Handled};

/// C8: the plugin's file access, by path; its signals and abstract sockets end at itself.
///
/// Missing is only what the kernel has none of, or gives to nobody. That a place of the plan cannot be
/// granted ends the launch, whatever is wished: some of their names are the plugin's own choice.
pub(crate) fn confine_plugin(setup: &Setup) -> Result<(), Failure> {
    let step = Step::C8;
    setup.begin(step)?;
    let Some((landlock, wish)) = wished(setup) else {
        return Ok(());
    };
    let handled = Handled {
        files: landlock.files,
        network: landlock.network,
        scopes: landlock.scopes,
    };
    let made = sys::landlock_ruleset(&handled, landlock.size).during(step, "make a ruleset");
    let ruleset = match made {
        Ok(ruleset) => ruleset,
        Err(failure) => return setup.optional(wish, Optional::Landlock, failure),
    };
    for rule in setup.plan.rules() {
        grant(&ruleset, &rule, step)?;
    }
    sys::landlock_restrict(&ruleset, landlock.flags)
        .during(step, "restrict itself")
        .or_else(|failure| setup.optional(wish, Optional::Landlock, failure))
}

/// Of R16: the reaper opens nothing any more and signals nobody.
pub(crate) fn confine_reaper(setup: &Setup) -> Result<(), Failure> {
    let Some((landlock, wish)) = wished(setup) else {
        return Ok(());
    };
    let handled = Handled {
        files: landlock.files,
        network: landlock.reaper_network,
        scopes: landlock.scopes,
    };
    sys::landlock_ruleset(&handled, landlock.size)
        .and_then(|ruleset| sys::landlock_restrict(&ruleset, 0))
        .during(Step::R16, "landlock without any rule")
        .or_else(|failure| setup.optional(wish, Optional::Landlock, failure))
}

fn wished(setup: &Setup) -> Option<(Landlock, Wish)> {
    let wish = setup.plan.settings().landlock;
    let landlock = setup.plan.landlock().filter(|_| wish != Wish::Off)?;
    Some((landlock, wish))
}

fn grant(ruleset: &OwnedFd, rule: &Rule<'static>, step: Step) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::open(rule.path, flags, Mode::empty()) {
        Ok(place) => {
            sys::landlock_allow(ruleset, &place, rule.rights).during_on(step, "allow", rule.path)
        }
        // Nothing is granted where nothing is; what needed it fails by itself.
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno).during_on(step, "open", rule.path),
    }
}
