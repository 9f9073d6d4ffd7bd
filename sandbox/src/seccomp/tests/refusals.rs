//! What is no profile, and what the error says.

use crate::seccomp::{Action, Arch, ConditionFault, Errno, Profile, ProfileError, syscall_number};

/// A profile of one group, with its text between.
fn with_group(group: &str) -> Result<Profile, ProfileError> {
    Profile::parse(
        &format!(
            "schema = 1\nname = \"mine\"\narch = [\"x86_64\", \"aarch64\"]\ndefault = \"enosys\"\n\
             [[group]]\nname = \"@one\"\nwhy = \"A test.\"\n{group}\n[use]\ninclude = [\"@one\"]\n"
        ),
        "mine",
    )
}

/// The error of a profile that must be refused, as people read it.
fn refused(group: &str) -> String {
    let error = with_group(group).expect_err(group);
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[test]
fn a_small_profile_is_taken() {
    let profile = with_group("action = \"allow\"\ncalls = [\"read\"]").unwrap();
    assert_eq!(profile.name(), "mine");
    assert_eq!(profile.groups()[0].why(), "A test.");
    assert_eq!(profile.default_action(), Action::Errno(Errno::Enosys));
    assert!(profile.find("write").is_none());
}

#[test]
fn unknown_names_are_refused_with_group_and_call() {
    assert_eq!(
        refused("action = \"allow\"\ncalls = [\"opennat\"]"),
        "profile `mine`, group `@one`: no system call is named `opennat` (`openat`?)"
    );
    assert_eq!(
        refused("action = \"sometimes\"\ncalls = [\"read\"]"),
        "profile `mine`, group `@one`: action `sometimes` is not known"
    );
    assert!(refused("action = \"allow\"\ncalls = [\"read\"]\ncolour = 1").contains("colour"));
    assert!(refused("action = \"allow\"\ncalls = [0]").contains("expected a string"));
}

#[test]
fn double_mentions_are_refused() {
    assert_eq!(
        refused("action = \"allow\"\ncalls = [\"read\", \"write\", \"read\"]"),
        "profile `mine`: `read` is in group `@one` and again in `@one`"
    );
    let twice = with_group(
        "action = \"allow\"\ncalls = [\"read\"]\n\
         [[group]]\nname = \"@two\"\nwhy = \"Too.\"\naction = \"eperm\"\ncalls = [\"read\"]",
    );
    assert!(matches!(twice, Err(ProfileError::UnusedGroup { group, .. }) if group == "@two"));
    assert!(
        refused(
            "action = \"allow\"\ncalls = [\"read\"]\n\
         [[group]]\nname = \"@one\"\nwhy = \"Too.\"\naction = \"eperm\"\ncalls = [\"write\"]",
        )
        .contains("stands twice")
    );
}

#[test]
fn groups_without_reason_calls_or_proper_name_are_refused() {
    let text = |name: &str, why: &str, calls: &str, include: &str| {
        Profile::parse(
            &format!(
                "schema = 1\nname = \"mine\"\narch = [\"x86_64\"]\ndefault = \"eperm\"\n[[group]]\n\
                 name = \"{name}\"\nwhy = \"{why}\"\naction = \"allow\"\ncalls = [{calls}]\n\
                 [use]\ninclude = [{include}]\n"
            ),
            "mine",
        )
    };
    assert!(text("@one", "Why.", "\"read\"", "\"@one\"").is_ok());
    let no_reason = text("@one", " ", "\"read\"", "\"@one\"");
    assert!(matches!(no_reason, Err(ProfileError::NoReason { .. })));
    let empty = text("@one", "Why.", "", "\"@one\"");
    assert!(matches!(empty, Err(ProfileError::EmptyGroup { .. })));
    let unused = text("@one", "Why.", "\"read\"", "");
    assert!(matches!(unused, Err(ProfileError::UnusedGroup { .. })));
    let unknown = text("@one", "Why.", "\"read\"", "\"@one\", \"@two\"");
    assert!(matches!(unknown, Err(ProfileError::UnknownGroup { group, .. }) if group == "@two"));
    let used_twice = text("@one", "Why.", "\"read\"", "\"@one\", \"@one\"");
    assert!(matches!(used_twice, Err(ProfileError::UsedTwice { .. })));
    let name = text("one", "Why.", "\"read\"", "\"one\"");
    assert!(matches!(name, Err(ProfileError::GroupName { .. })));
}

#[test]
fn heads_of_other_files_are_refused() {
    let text = |schema, name, arch, default| {
        Profile::parse(
            &format!(
                "schema = {schema}\nname = \"{name}\"\narch = [{arch}]\ndefault = \"{default}\"\n\
                 [[group]]\nname = \"@one\"\nwhy = \"Why.\"\naction = \"allow\"\ncalls = [\"read\"]\n\
                 [use]\ninclude = [\"@one\"]\n"
            ),
            "mine",
        )
    };
    assert!(text(1, "mine", "\"x86_64\"", "enosys").is_ok());
    let schema = text(2, "mine", "\"x86_64\"", "enosys");
    assert!(matches!(
        schema,
        Err(ProfileError::Schema { schema: 2, .. })
    ));
    let name = text(1, "yours", "\"x86_64\"", "enosys");
    assert!(matches!(name, Err(ProfileError::Name { .. })));
    let arch = text(1, "mine", "\"vax\"", "enosys");
    assert!(matches!(arch, Err(ProfileError::UnknownArch { .. })));
    assert!(matches!(
        text(1, "mine", "", "enosys"),
        Err(ProfileError::NoArch { .. })
    ));
    let open = text(1, "mine", "\"x86_64\"", "allow");
    assert!(matches!(open, Err(ProfileError::OpenDefault { .. })));
    let long = Profile::parse(&"#".repeat(70_000), "mine");
    assert!(matches!(
        long,
        Err(ProfileError::TooLong { bytes: 70_000, .. })
    ));
    let absent = Profile::builtin("lenient");
    assert!(matches!(absent, Err(ProfileError::NotShipped { .. })));
    assert_eq!(
        Profile::builtin("pyhton").unwrap_err().to_string(),
        "no syscall profile `pyhton` is shipped (`python`?)"
    );
}

/// A group with one call under one argument test.
fn with_condition(condition: &str) -> String {
    format!(
        "action = \"allow\"\n[[group.call]]\nname = \"kill\"\nwhen = [{{ {condition} }}]\n\
         else = \"eperm\""
    )
}

#[test]
fn argument_tests_that_cannot_be_meant_are_refused() {
    assert!(with_group(&with_condition("arg = 1, width = 32, equals = 9")).is_ok());
    let fault = |condition: &str| match with_group(&with_condition(condition)) {
        Err(ProfileError::Condition { fault, call, .. }) if call == "kill" => fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        fault("arg = 6, width = 32, equals = 9"),
        ConditionFault::NoSuchArgument
    );
    assert_eq!(
        fault("arg = 1, width = 16, equals = 9"),
        ConditionFault::Width
    );
    assert_eq!(fault("arg = 1, width = 32"), ConditionFault::Values);
    assert_eq!(
        fault("arg = 1, width = 32, in = []"),
        ConditionFault::Values
    );
    assert_eq!(
        fault("arg = 1, width = 32, equals = 1, in = [1]"),
        ConditionFault::Values
    );
    assert_eq!(
        fault("arg = 1, width = 32, equals = -1"),
        ConditionFault::Negative(-1)
    );
    assert_eq!(
        fault("arg = 1, width = 32, equals = 0x100000000"),
        ConditionFault::TooWide(0x1_0000_0000)
    );
    assert_eq!(
        fault("arg = 1, width = 32, mask = 3, equals = 4"),
        ConditionFault::NeverTrue(4)
    );
    assert_eq!(
        fault("arg = 1, width = 32, equals = \"AF_UNIX | AF_CARRIER_PIGEON\""),
        ConditionFault::UnknownConstant("AF_CARRIER_PIGEON".to_owned())
    );
    let many: Vec<String> = (0..33).map(|n| n.to_string()).collect();
    assert_eq!(
        fault(&format!("arg = 1, width = 32, in = [{}]", many.join(", "))),
        ConditionFault::TooManyValues {
            count: 33,
            limit: 32
        }
    );
}

#[test]
fn calls_with_two_or_no_decisions_are_refused() {
    let call = |text: &str| {
        refused(&format!(
            "action = \"allow\"\n[[group.call]]\nname = \"kill\"\n{text}"
        ))
    };
    let when = "when = [{ arg = 1, width = 32, equals = 9 }]";
    assert!(call("").ends_with("call `kill`: needs `action`, `when` or `rule`"));
    assert!(call(when).ends_with("needs `else`"));
    assert!(call("when = []\nelse = \"eperm\"").ends_with("decides nothing"));
    assert!(call(&format!("action = \"eperm\"\n{when}")).contains("excludes"));
    assert!(
        call(&format!(
            "else = \"eperm\"\n{when}\nrule = [{{ {when}, action = \"allow\" }}]"
        ))
        .contains("`when` excludes `rule`")
    );
}

#[test]
fn optional_groups_say_what_they_are_while_off() {
    assert!(
        with_group("action = \"off\"\noff = \"eperm\"\non = \"allow\"\ncalls = [\"mlock\"]")
            .is_ok()
    );
    assert!(refused("action = \"off\"\ncalls = [\"mlock\"]").contains("needs `off` and `on`"));
    assert!(
        refused("action = \"off\"\noff = \"allow\"\non = \"allow\"\ncalls = [\"mlock\"]")
            .contains("must not be `allow`")
    );
    assert!(refused("action = \"allow\"\non = \"allow\"\ncalls = [\"mlock\"]").contains("belong"));
}

#[test]
fn what_no_profile_may_allow_is_refused_however_it_is_written() {
    for call in [
        "mount",
        "bpf",
        "io_uring_setup",
        "userfaultfd",
        "ptrace",
        "keyctl",
        "perf_event_open",
        "unshare",
        "setns",
        "clone3",
        "open_by_handle_at",
        "kexec_load",
        "init_module",
    ] {
        let plain = refused(&format!("action = \"allow\"\ncalls = [\"{call}\"]"));
        assert!(plain.contains("must not be allowed"), "{call}: {plain}");
        let accepted = refused(&format!(
            "action = \"allow\"\ncalls = [\"{call}\"]\ni-accept-the-risk = \"I know.\""
        ));
        assert!(
            accepted.contains("must not be allowed"),
            "{call}: {accepted}"
        );
        let optional = refused(&format!(
            "action = \"off\"\noff = \"eperm\"\non = \"allow\"\ncalls = [\"{call}\"]"
        ));
        assert!(
            optional.contains("must not be allowed"),
            "{call}: {optional}"
        );
        let tested = refused(&format!(
            "action = \"eperm\"\n[[group.call]]\nname = \"{call}\"\nelse = \"eperm\"\n\
             rule = [{{ when = [{{ arg = 0, width = 64, equals = 0 }}], action = \"allow\" }}]"
        ));
        assert!(tested.contains("must not be allowed"), "{call}: {tested}");
        let otherwise = refused(&format!(
            "action = \"eperm\"\n[[group.call]]\nname = \"{call}\"\nelse = \"allow\"\n\
             when = [{{ arg = 0, width = 64, equals = 0 }}]"
        ));
        assert!(
            otherwise.contains("must not be allowed"),
            "{call}: {otherwise}"
        );
        // Refusing it in another way is a profile's own matter.
        assert!(with_group(&format!("action = \"eperm\"\ncalls = [\"{call}\"]")).is_ok());
    }
}

#[test]
fn clone_is_allowed_only_without_new_namespaces() {
    let clone = |condition: &str| {
        with_group(&format!(
            "action = \"allow\"\n[[group.call]]\nname = \"clone\"\nelse = \"eperm\"\n\
             when = [{{ arg = 0, {condition} }}]"
        ))
    };
    assert!(clone("width = 64, mask = 0x7e020000, equals = 0").is_ok());
    assert!(clone("width = 32, mask = 0x7e020000, equals = 0").is_ok());
    assert!(clone("width = 64, equals = 0x3d0f00").is_ok());
    for hole in [
        "width = 64, mask = 0x7e000000, equals = 0",
        "width = 64, mask = 0x7e020000, equals = \"CLONE_NEWUSER\"",
        "width = 64, equals = 0x10000011",
    ] {
        assert!(
            matches!(clone(hole), Err(ProfileError::HardDenied { .. })),
            "{hole}"
        );
    }
    assert!(refused("action = \"allow\"\ncalls = [\"clone\"]").contains("namespaces"));
}

#[test]
fn sockets_are_allowed_only_by_harmless_family_and_type() {
    let socket = |family: &str, kind: &str| {
        with_group(&format!(
            "action = \"allow\"\n[[group.call]]\nname = \"socket\"\nelse = \"eperm\"\n\
             when = [{{ arg = 0, {family} }}, {{ arg = 1, {kind} }}]"
        ))
    };
    let stream = "width = 32, mask = \"SOCK_TYPE_MASK\", equals = \"SOCK_STREAM\"";
    assert!(socket("width = 32, in = [\"AF_UNIX\", \"AF_INET\"]", stream).is_ok());
    // The numbers are AF_TIPC and AF_BLUETOOTH, and one that no kernel has yet.
    for family in [
        "\"AF_VSOCK\"",
        "\"AF_PACKET\"",
        "\"AF_NETLINK\"",
        "\"AF_ALG\"",
        "\"AF_XDP\"",
        "30",
        "31",
        "200",
    ] {
        let hole = socket(&format!("width = 32, in = [\"AF_UNIX\", {family}]"), stream);
        assert!(
            matches!(hole, Err(ProfileError::HardDenied { .. })),
            "{family}"
        );
    }
    let unix = "width = 32, equals = \"AF_UNIX\"";
    for (family, kind) in [
        (unix, "width = 32, equals = \"SOCK_RAW\""),
        (
            unix,
            "width = 32, mask = \"SOCK_TYPE_MASK\", equals = \"SOCK_PACKET\"",
        ),
        (unix, "width = 32, mask = \"SOCK_TYPE_MASK\", equals = 4"),
        (unix, "width = 32, mask = 1, equals = 1"),
        ("width = 32, mask = 1, equals = 0", stream),
    ] {
        assert!(
            matches!(socket(family, kind), Err(ProfileError::HardDenied { .. })),
            "{kind}"
        );
    }
    assert!(refused("action = \"allow\"\ncalls = [\"socket\"]").contains("address family"));
}

#[test]
fn what_the_default_refuses_needs_an_accepted_risk() {
    assert!(refused("action = \"allow\"\ncalls = [\"mbind\"]").contains("i-accept-the-risk"));
    assert!(
        refused("action = \"allow\"\ncalls = [\"mbind\"]\ni-accept-the-risk = \" \"")
            .contains("i-accept-the-risk")
    );
    let accepted =
        with_group("action = \"allow\"\ncalls = [\"mbind\"]\ni-accept-the-risk = \"NUMA.\"");
    assert!(accepted.is_ok());
}

#[test]
fn a_profile_may_build_on_a_shipped_one() {
    let text = |include: &str, call: &str| {
        format!(
            "schema = 1\nname = \"mine\"\narch = [\"x86_64\"]\ndefault = \"enosys\"\n[[group]]\n\
             name = \"@mine\"\nwhy = \"A test.\"\naction = \"allow\"\ncalls = [\"{call}\"]\n\
             [use]\nbase = \"default\"\ninclude = [{include}]\n"
        )
    };
    let profile = Profile::parse(
        &text("\"@memory\", \"@tripwire\", \"@mine\"", "cachestat"),
        "mine",
    )
    .unwrap();
    let names: Vec<_> = profile.groups().iter().map(|group| group.name()).collect();
    assert_eq!(names, ["@memory", "@tripwire", "@mine"]);
    assert!(profile.find("mmap").is_some() && profile.find("read").is_none());
    let twice = Profile::parse(&text("\"@memory\", \"@mine\"", "mmap"), "mine");
    assert!(matches!(
        twice,
        Err(ProfileError::MentionedTwice { first, second, .. })
            if first == "@memory" && second == "@mine"
    ));
}

/// A profile that keeps less of the default's `@time-read`, whose calls are `clock_gettime`,
/// `clock_getres`, `clock_nanosleep`, `gettimeofday`, `time` and `nanosleep`.
fn narrowing(narrow: &str) -> Result<Profile, ProfileError> {
    Profile::parse(
        &format!(
            "schema = 1\nname = \"mine\"\narch = [\"x86_64\", \"aarch64\"]\ndefault = \"enosys\"\n\
             {narrow}\n[use]\nbase = \"default\"\n\
             include = [\"@time-read\", \"@threads\", \"@refused\"]\n"
        ),
        "mine",
    )
}

#[test]
fn a_group_of_the_base_may_be_narrowed_and_says_what_is_left_out() {
    let profile = narrowing(
        "[[narrow]]\ngroup = \"@time-read\"\nwhy = \"It sleeps.\"\nkeep = [\"nanosleep\"]\n\
         [[narrow.also]]\nneeded-by = \"another machine\"\ncalls = [\"clock_gettime\"]\n\
         [[narrow]]\ngroup = \"@threads\"\nwhy = \"None.\"\nkeep = [\"clone\"]\n",
    )
    .unwrap();
    let [time, threads] = profile.narrowed() else {
        panic!("{:?}", profile.narrowed());
    };
    assert_eq!((time.group(), time.why()), ("@time-read", "It sleeps."));
    assert_eq!(
        time.dropped(),
        ["clock_getres", "clock_nanosleep", "gettimeofday", "time"]
    );
    assert_eq!(time.also()[0].needed_by, "another machine");
    assert_eq!(time.also()[0].calls, ["clock_gettime"]);
    assert!(profile.find("gettimeofday").is_none());
    assert!(profile.find("clock_gettime").is_some() && profile.find("unshare").is_some());
    // What the group refuses stays refused with its own answer, and the flags are still tested.
    assert!(!threads.dropped().contains(&"clone3".to_owned()));
    assert!(profile.find("clone3").is_some() && profile.find("futex").is_none());
    let new_user_namespace = [0x1000_0011, 0, 0, 0, 0, 0];
    let clone = syscall_number(Arch::X86_64, "clone").unwrap();
    assert_eq!(
        profile.decide(Arch::X86_64, clone, &new_user_namespace),
        Action::Errno(Errno::Eperm)
    );
}

#[test]
fn a_group_that_is_narrowed_wrongly_is_refused_by_name() {
    let head = |group: &str, keep: &str| {
        format!("[[narrow]]\ngroup = \"{group}\"\nwhy = \"Why.\"\nkeep = [{keep}]\n")
    };
    let one = head("@time-read", "\"time\"");
    let all = "\"clock_gettime\", \"clock_getres\", \"clock_nanosleep\", \"gettimeofday\", \
               \"time\", \"nanosleep\"";
    for (text, expected) in [
        (format!("{one}{one}"), "it is narrowed twice"),
        (
            head("@refused", ""),
            "only a group that allows can be narrowed",
        ),
        (head("@time-read", all), "nothing is left out"),
        (
            head("@time-read", "\"time\", \"time\""),
            "a call is kept twice",
        ),
        (head("@time-read", "\"tine\""), "it has no `tine` (`time`?)"),
        (head("@time-read", "\"read\""), "it has no `read`"),
        (head("@io", ""), "there is no group `@io` to use"),
        (one.replace("Why.", " "), "`why` is empty"),
        (
            format!("{one}[[narrow.also]]\nneeded-by = \" \"\ncalls = [\"nanosleep\"]\n"),
            "`needed-by` is empty",
        ),
        (
            format!("{one}[[narrow.also]]\nneeded-by = \"x\"\ncalls = []\n"),
            "`also` without calls",
        ),
        (
            format!("{one}[[narrow.also]]\nneeded-by = \"x\"\ncalls = [\"time\"]\n"),
            "a call is kept twice",
        ),
    ] {
        let error = narrowing(&text).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
    let own = "[[group]]\nname = \"@time-read\"\nwhy = \"Mine.\"\naction = \"allow\"\n\
               calls = [\"time\", \"nanosleep\"]\n";
    let error = narrowing(&format!("{own}{one}")).unwrap_err().to_string();
    assert!(error.contains("this profile's own"), "{error}");
}
