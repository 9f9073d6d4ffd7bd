//! Kernels that lack a control: a filter around the launcher answers as they would. What is preferred
//! is then missing with step and reason, what is required ends the launch with the same words.

use std::collections::BTreeMap;

use super::ability;
use super::harness::{has_landlock, launch, spec};
use pinfold_policy::{Control, Wanted};
use pinfold_sandbox::jail::JailSpec;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// A call, where its first argument is this one, and what comes of it.
struct Answer {
    call: libc::c_long,
    first: Option<i32>,
    errno: i32,
}

/// Runs in a thread whose calls, and those of what it starts, are answered so.
fn with<T: Send + 'static>(answers: Vec<Answer>, act: impl FnOnce() -> T + Send + 'static) -> T {
    let confined = move || {
        for Answer { call, first, errno } in answers {
            let condition = |first: i32| {
                let value = u64::try_from(first).unwrap();
                let (width, equal) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
                SeccompCondition::new(0, width, equal, value).unwrap()
            };
            let rules = first.map(|first| SeccompRule::new(vec![condition(first)]).unwrap());
            let rules = BTreeMap::from([(call, rules.into_iter().collect())]);
            let refused = SeccompAction::Errno(errno.try_into().unwrap());
            let arch = std::env::consts::ARCH.try_into().unwrap();
            let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).unwrap();
            let program: BpfProgram = filter.try_into().unwrap();
            apply_filter(&program).unwrap();
        }
        act()
    };
    std::thread::spawn(confined).join().unwrap()
}

/// Linux before 5.13 and 6.3, of a distribution whose users may make no user namespaces.
fn old_kernel() -> Vec<Answer> {
    vec![
        Answer {
            call: libc::SYS_landlock_create_ruleset,
            first: None,
            errno: libc::ENOSYS,
        },
        Answer {
            call: libc::SYS_prctl,
            first: Some(libc::PR_SET_MDWE),
            errno: libc::EINVAL,
        },
        Answer {
            call: libc::SYS_unshare,
            first: Some(libc::CLONE_NEWUSER),
            errno: libc::EPERM,
        },
    ]
}

const USERS: &str = "C5 user namespace: new user namespace: operation not permitted (EPERM)";
const LANDLOCK: &str =
    "C8 landlock: ask for the version of landlock: function not implemented (ENOSYS)";
const MAKING_CODE: &str = "C9 write-xor-execute: refuse to make code: invalid argument (EINVAL)";

#[test]
fn what_is_preferred_is_missing_with_step_and_reason() {
    if !ability::root("what_is_preferred_is_missing_with_step_and_reason") {
        return;
    }
    let mut missing = with(old_kernel(), || launch(&spec(&["exit:0"])).unwrap().missing);
    missing.retain(|(control, _)| *control != Control::MemfdNoexec);
    missing.sort();
    let expected = [
        (Control::UserNamespace, USERS),
        (Control::Landlock, LANDLOCK),
        (Control::WriteXorExecute, MAKING_CODE),
    ];
    assert_eq!(
        missing,
        expected.map(|(control, why)| (control, why.to_owned()))
    );
    let wanted = JailSpec {
        user_namespace: Wanted::Off,
        landlock: Wanted::Off,
        write_xor_execute: Wanted::Off,
        ..spec(&["exit:0"])
    };
    let mut missing = with(old_kernel(), move || launch(&wanted).unwrap().missing);
    missing.retain(|(control, _)| *control != Control::MemfdNoexec);
    assert_eq!(missing, [], "what is off is not missed");
}

#[test]
fn what_is_required_ends_the_launch_with_step_and_reason() {
    if !ability::root("what_is_required_ends_the_launch_with_step_and_reason") {
        return;
    }
    let required = |change: fn(&mut JailSpec)| {
        let mut spec = spec(&["exit:0"]);
        change(&mut spec);
        with(old_kernel(), move || launch(&spec).unwrap_err().to_string())
    };
    assert_eq!(
        required(|spec| spec.user_namespace = Wanted::Required),
        USERS
    );
    assert_eq!(required(|spec| spec.landlock = Wanted::Required), LANDLOCK);
    assert_eq!(
        required(|spec| spec.write_xor_execute = Wanted::Required),
        MAKING_CODE
    );
}

#[test]
fn landlock_that_cannot_be_put_in_force_is_told_of_plugin_and_reaper() {
    let test = "landlock_that_cannot_be_put_in_force_is_told_of_plugin_and_reaper";
    if !ability::root(test)
        || !ability::has(test, "landlock", has_landlock(1), "this kernel has none")
    {
        return;
    }
    let refusing = || {
        vec![Answer {
            call: libc::SYS_landlock_restrict_self,
            first: None,
            errno: libc::E2BIG,
        }]
    };
    let missing = with(refusing(), || launch(&spec(&["exit:0"])).unwrap().missing);
    let mut told: Vec<String> = missing
        .into_iter()
        .filter(|(control, _)| *control == Control::Landlock)
        .map(|(_, why)| why)
        .collect();
    told.sort();
    let plugin = "C8 landlock: restrict itself: argument list too long (E2BIG)";
    let reaper = "R16 give up: landlock without any rule: argument list too long (E2BIG)";
    assert_eq!(told, [plugin, reaper]);
    let mut spec = spec(&["exit:0"]);
    spec.landlock = Wanted::Required;
    let refused = with(refusing(), move || launch(&spec).unwrap_err().to_string());
    assert!([plugin, reaper].contains(&refused.as_str()), "{refused}");
}

#[test]
fn a_place_that_landlock_cannot_grant_ends_the_launch_whatever_is_wished() {
    let test = "a_place_that_landlock_cannot_grant_ends_the_launch_whatever_is_wished";
    if !ability::root(test)
        || !ability::has(test, "landlock", has_landlock(1), "this kernel has none")
    {
        return;
    }
    let refusing = vec![Answer {
        call: libc::SYS_landlock_add_rule,
        first: None,
        errno: libc::EINVAL,
    }];
    // Preferred.
    let refused = with(refusing, || {
        launch(&spec(&["exit:0"])).unwrap_err().to_string()
    });
    assert_eq!(refused, "C8 landlock: allow /: invalid argument (EINVAL)");
}
