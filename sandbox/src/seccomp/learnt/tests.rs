use super::*;
use crate::seccomp::syscall_number;

fn names(calls: &[&str]) -> BTreeSet<String> {
    calls.iter().map(|&call| call.to_owned()).collect()
}

fn learn(profile: &str, made: &[&str]) -> Learnt {
    let profile = Profile::builtin(profile).unwrap();
    let lesson = Lesson {
        profile: &profile,
        own: None,
        name: "hello-learnt",
        of: "hello",
        made: &names(made),
        arch: Arch::X86_64,
    };
    lesson.propose().unwrap()
}

#[test]
fn each_line_of_the_floor_has_a_reason_and_its_profiles_allow_its_calls() {
    let floor = floor();
    for one in &floor {
        assert!(!one.needed_by.trim().is_empty() && !one.profiles.is_empty());
        for name in &one.profiles {
            let allowed = allowed(&Profile::builtin(name).unwrap());
            for call in &one.calls {
                assert!(syscall_number(Arch::X86_64, call).is_some(), "{call}");
                let needs = "a floor is of what the profile allows";
                assert!(allowed.contains(call), "{name} {call}: {needs}");
            }
        }
    }
    for name in Profile::builtin_names() {
        assert!(
            floor
                .iter()
                .any(|one| one.profiles.iter().any(|p| p == name)),
            "{name}"
        );
    }
}

#[test]
fn a_learnt_profile_allows_what_was_made_and_the_floor_and_nothing_more() {
    for base in Profile::builtin_names() {
        let made = ["openat", "read", "epoll_ctl", "socket", "ioctl"];
        let learnt = learn(base, &made);
        let now = allowed(&learnt.profile);
        let mut expected = names(&made);
        expected.extend(learnt.kept.iter().flat_map(|(_, calls)| calls.clone()));
        let before = allowed(&Profile::builtin(base).unwrap());
        expected.retain(|call| before.contains(call));
        assert_eq!(now, expected, "{base}");
        assert!(now.contains("execve") && now.contains("rt_sigreturn"));
        let left: BTreeSet<String> = learnt.left_out.iter().cloned().collect();
        assert_eq!(&before - &now, left);
        // Conditions stay what they were.
        let socket = syscall_number(Arch::X86_64, "socket").unwrap();
        let decide = |args| learnt.profile.decide(Arch::X86_64, socket, &args);
        assert_eq!(decide([1, 1, 0, 0, 0, 0]), Action::Allow);
        assert!(matches!(decide([16, 3, 0, 0, 0, 0]), Action::Errno(_)));
        // And so does what is refused or killed for.
        for (call, action) in [("bpf", Action::Kill), ("clone3", learnt_clone3(base))] {
            let number = syscall_number(Arch::X86_64, call).unwrap();
            assert_eq!(learnt.profile.decide(Arch::X86_64, number, &[0; 6]), action);
        }
        learnt.profile.compile(Arch::X86_64).unwrap();
        learnt.profile.compile(Arch::Aarch64).unwrap_err();
    }
}

fn learnt_clone3(base: &str) -> Action {
    let number = syscall_number(Arch::X86_64, "clone3").unwrap();
    Profile::builtin(base)
        .unwrap()
        .decide(Arch::X86_64, number, &[0; 6])
}

#[test]
fn what_was_made_and_is_not_allowed_is_not_proposed() {
    let learnt = learn("go", &["read", "ptrace", "epoll_wait"]);
    let now = allowed(&learnt.profile);
    assert!(now.contains("read"));
    assert!(!now.contains("ptrace") && !now.contains("epoll_wait"));
}

#[test]
fn a_learnt_profile_is_learnt_from_again_and_stays_what_it_is() {
    let first = learn("go", &["openat", "read", "getpid"]);
    let lesson = Lesson {
        profile: &first.profile,
        own: Some(&first.text),
        name: "hello-learnt2",
        of: "hello",
        made: &names(&["openat", "read", "getpid"]),
        arch: Arch::X86_64,
    };
    let second = lesson.propose().unwrap();
    assert_eq!(allowed(&second.profile), allowed(&first.profile));
    assert!(second.left_out.is_empty());
    let fewer = Lesson {
        made: &names(&["read"]),
        ..lesson
    };
    assert_eq!(fewer.propose().unwrap().left_out, ["openat"]);
}

#[test]
fn groups_of_a_profiles_own_are_kept_as_far_as_they_were_used() {
    let text = r#"
schema  = 1
name    = "mine"
arch    = ["x86_64"]
default = "eperm"
[[group]]
name   = "@statistics"
why    = "It asks what is cached."
action = "allow"
calls  = ["cachestat", "mseal"]
[[group]]
name   = "@never"
why    = "Not made."
action = "allow"
calls  = ["statmount"]
[[group]]
name   = "@no"
why    = "Refused."
action = "eperm"
calls  = ["listmount"]
[use]
base    = "default"
include = ["@io", "@memory", "@process", "@socket", "@statistics", "@never", "@no", "@optional-watch"]
enable  = ["@optional-watch"]
"#;
    let profile = Profile::parse(text, "mine").unwrap();
    let made = names(&["read", "cachestat"]);
    let lesson = Lesson {
        profile: &profile,
        own: Some(text),
        name: "less",
        of: "hello",
        made: &made,
        arch: Arch::X86_64,
    };
    let learnt = lesson.propose().unwrap();
    let groups: Vec<&str> = learnt.profile.groups().iter().map(Group::name).collect();
    assert!(groups.contains(&"@statistics") && groups.contains(&"@no"));
    assert!(!groups.contains(&"@never"));
    let now = allowed(&learnt.profile);
    assert!(now.contains("cachestat") && !now.contains("mseal"));
    assert!(!now.contains("inotify_init1"));
    assert_eq!(learnt.profile.default_action(), profile.default_action());
    let watching = names(&["read", "inotify_init1"]);
    let learnt = Lesson {
        made: &watching,
        ..lesson
    }
    .propose()
    .unwrap();
    assert!(allowed(&learnt.profile).contains("inotify_init1"));
}

#[test]
fn the_page_has_every_line_of_the_floor() {
    let page = include_str!("../../../../docs/learn.md");
    for one in floor() {
        let calls: Vec<String> = one.calls.iter().map(|call| format!("`{call}`")).collect();
        let row = format!("| {} | {} |", calls.join(" "), one.needed_by);
        assert!(page.contains(&row), "docs/learn.md lacks {row}");
    }
}
