//! A profile without IP, for a jail whose loopback is down.

use super::constants::value;
use super::profile::{Condition, Decision, Group, GroupAction, Profile, Rule, Width};
use super::{Action, Errno};

/// The call by which an address family is chosen, in its first argument.
const SOCKET: &str = "socket";

impl Profile {
    /// Refuses sockets for IPv4 and IPv6 (EAFNOSUPPORT, as a kernel without IP answers), whatever the
    /// profile says of them but where it kills for them.
    pub fn refuse_internet(&mut self) {
        self.has_internet = false;
        for group in &mut self.groups {
            let Group { action, calls, .. } = group;
            let of_group = match *action {
                GroupAction::Fixed(action) | GroupAction::Optional { on: action, .. } => action,
            };
            for call in calls.iter_mut().filter(|call| call.name == SOCKET) {
                let (rules, otherwise) = match &call.decision {
                    Decision::Group => (Vec::new(), of_group),
                    Decision::Fixed(own) => (Vec::new(), *own),
                    Decision::Rules { rules, otherwise } => (rules.clone(), *otherwise),
                };
                call.decision = Decision::Rules {
                    rules: without_internet(rules, otherwise),
                    otherwise,
                };
            }
        }
    }
}

/// Before each rule that does not kill, the same for IP alone, which refuses; and so for what no rule
/// decides on.
fn without_internet(rules: Vec<Rule>, otherwise: Action) -> Vec<Rule> {
    let refusal = Action::Errno(Errno::Eafnosupport);
    let refused = |mut when: Vec<Condition>| {
        when.push(internet());
        Rule {
            when,
            action: refusal,
        }
    };
    let mut all = Vec::with_capacity(rules.len() * 2 + 1);
    for rule in rules {
        if rule.action != Action::Kill && rule.action != refusal {
            all.push(refused(rule.when.clone()));
        }
        all.push(rule);
    }
    if otherwise != Action::Kill && otherwise != refusal {
        all.push(refused(Vec::new()));
    }
    all
}

fn internet() -> Condition {
    let families = ["AF_INET", "AF_INET6"];
    Condition {
        arg: 0,
        width: Width::Low32,
        mask: Width::Low32.bits(),
        values: families.into_iter().filter_map(value).collect(),
    }
}
