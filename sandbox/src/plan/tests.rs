use pinfold_reaper::plan::{Fault, Identities, Limit, Listener, Operation, Plan, Rule, Wish};
use pinfold_reaper::step::Step;
use proptest::prelude::*;

use super::*;

fn settings() -> Settings {
    Settings {
        identities: Identities::Root {
            plugin: 1_900_000_001,
            reaper: 1_900_000_002,
        },
        tasks: 3,
        mounts: 9,
        network: true,
        loopback: true,
        cgroup_namespace: true,
        processes: 128,
        oom_score_adj: 500,
        proc: Wish::Required,
        whole_proc: true,
        memfd_noexec: Wish::Preferred,
        user_namespace: Wish::Off,
        landlock: Wish::Required,
        write_xor_execute: Wish::Preferred,
        time_namespace: Wish::Preferred,
        core_scheduling: Wish::Required,
        filter_listener: true,
        fault: Some(Fault {
            step: Step::R9,
            errno: 1,
        }),
    }
}

const LANDLOCK: Landlock = Landlock {
    files: 0x1_ffff,
    network: 0,
    reaper_network: 3,
    scopes: 3,
    size: 24,
    flags: 4,
};

fn sample() -> Vec<u8> {
    let mut plan = PlanWriter::new(&settings()).unwrap();
    plan.limit(7, 256);
    plan.directory("tmp", 0o755).unwrap();
    plan.tmpfs("tmp", 1 << 20, 64, 0o1777).unwrap();
    plan.file("etc/hosts", 0o444, b"127.0.0.1 localhost\n")
        .unwrap();
    plan.link("dev/fd", "/proc/self/fd").unwrap();
    plan.mount("plugin", 2).unwrap();
    plan.argument("/plugin/hello").unwrap();
    plan.argument("").unwrap();
    plan.variable("HOME", "/tmp").unwrap();
    plan.host_name("hello").unwrap();
    plan.working_directory("/app").unwrap();
    plan.entry("/plugin/hello").unwrap();
    plan.filter(&[6, 0, 0, 0, 0, 0, 0xff, 0x7f]).unwrap();
    plan.landlock(&LANDLOCK);
    plan.landlock_rule("/plugin", 12).unwrap();
    plan.listener(3128);
    plan.listener(65535);
    plan.finish().unwrap()
}

#[test]
fn the_reaper_reads_what_was_written() {
    let bytes = sample();
    let plan = Plan::parse(&bytes).unwrap();
    assert_eq!(*plan.settings(), settings());
    assert_eq!(plan.landlock(), Some(LANDLOCK));
    let rule = Rule {
        path: c"/plugin",
        rights: 12,
    };
    assert_eq!(plan.rules().collect::<Vec<_>>(), [rule]);
    assert_eq!(
        plan.limits().collect::<Vec<_>>(),
        [Limit {
            resource: 7,
            value: 256
        }]
    );
    assert_eq!(
        plan.operations().collect::<Vec<_>>(),
        [
            Operation::Directory {
                path: c"tmp",
                mode: 0o755
            },
            Operation::Tmpfs {
                path: c"tmp",
                size: 1 << 20,
                inodes: 64,
                mode: 0o1777
            },
            Operation::File {
                path: c"etc/hosts",
                mode: 0o444,
                content: b"127.0.0.1 localhost\n"
            },
            Operation::Link {
                path: c"dev/fd",
                target: c"/proc/self/fd"
            },
            Operation::Mount {
                path: c"plugin",
                handle: 2
            },
        ]
    );
    assert_eq!(
        plan.arguments().collect::<Vec<_>>(),
        [c"/plugin/hello", c""]
    );
    assert_eq!(plan.variables().collect::<Vec<_>>(), [c"HOME=/tmp"]);
    assert_eq!(plan.host_name(), c"hello");
    assert_eq!(plan.working_directory(), c"/app");
    assert_eq!(plan.entry(), c"/plugin/hello");
    assert_eq!(plan.filter().len(), 8);
    let listener = |number, port| Listener { number, port };
    assert_eq!(
        plan.listeners().collect::<Vec<_>>(),
        [listener(0, 3128), listener(1, 65535)]
    );
}

#[test]
fn user_mode_settings_survive() {
    let user = Settings {
        identities: Identities::User { inside: 1000 },
        fault: None,
        ..settings()
    };
    assert_eq!(Settings::from_bytes(&user.to_bytes()), Some(user));
}

#[test]
fn a_cut_plan_is_refused_at_every_length() {
    let bytes = sample();
    for length in 0..bytes.len() {
        assert!(Plan::parse(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_zero_byte_or_too_much_of_something_is_refused() {
    let mut plan = PlanWriter::new(&settings()).unwrap();
    assert_eq!(
        plan.argument("a\0b"),
        Err(PlanError::ZeroByte { what: "argument" })
    );
    assert_eq!(plan.filter(&[0; 7]), Err(PlanError::Filter { bytes: 7 }));
    for _ in 0..=ARGUMENTS_LIMIT {
        plan.argument("x").unwrap();
    }
    assert!(matches!(
        plan.finish(),
        Err(PlanError::TooMany {
            what: "arguments",
            ..
        })
    ));
    let mut plan = PlanWriter::new(&settings()).unwrap();
    for _ in 0..=LISTENERS_LIMIT {
        plan.listener(1);
    }
    assert!(matches!(
        plan.finish(),
        Err(PlanError::TooMany {
            what: "listeners",
            ..
        })
    ));
    let crowded = Settings {
        mounts: MOUNTS_LIMIT + 1,
        ..settings()
    };
    assert!(PlanWriter::new(&crowded).is_err());
}

proptest! {
    #[test]
    fn reading_never_panics(at in 0..300_usize, byte: u8, cut in 0..400_usize) {
        let mut bytes = sample();
        let length = bytes.len();
        bytes[at % length] = byte;
        let bytes = &bytes[..cut.min(length)];
        if let Ok(plan) = Plan::parse(bytes) {
            let _ = plan.operations().count() + plan.variables().count();
        }
    }
}
