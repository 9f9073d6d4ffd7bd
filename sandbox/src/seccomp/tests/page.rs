//! docs/profiles.md: written from the profiles, so that it cannot say anything else.

use std::fmt::Write as _;
use std::path::Path;

use crate::seccomp::{Action, Decision, Group, GroupAction, Profile};

/// Writes the page anew instead of comparing it.
const WRITE: &str = "PINFOLD_PROFILES_WRITE";

const HEAD: &str = "\
# Syscall profiles

What a plugin may ask of the kernel is data: `sandbox/profiles/NAME.toml`, chosen by `profile = \"NAME\"` in its policy. This page is
written from those files (`PINFOLD_PROFILES_WRITE=1 cargo test -p pinfold-sandbox --lib seccomp::tests::page`).

Five are shipped. `default` lets an ordinary program of any language work. The others build on it and keep less of its groups: what
programs of one runtime make, as was seen by tracing the workloads in `sandbox/tests/launcher/workloads` in a jail, and what else is
needed, each with what needs it. Tests run these workloads under the profile, and find a call that is kept for nothing. What a
profile does not keep fails with ENOSYS, as on a kernel that is too old for it; what the default refuses or kills for, each refuses or
kills for too.

| profile | for | memory that is writable and executable |
|---|---|---|
| `default` | any program | refused from Linux 6.3 on |
| `go` | Go, with and without cgo | refused from Linux 6.3 on |
| `python` | CPython, with the interpreter in the policy's `[runtime]` | refused from Linux 6.3 on |
| `node` | Node, likewise | allowed: its compiler makes code |
| `static` | static programs in C (glibc, musl) and Rust | refused from Linux 6.3 on |

The last column is the default of the control `write-xor-execute`, which a policy can set. It is not the filter that refuses, but the kernel where it is
asked to (`PR_SET_MDWE`): before Linux 6.3 the control is missing, every profile lets such memory be made, and a policy that requires the control
starts nothing. A policy can also switch on the groups that are off here, by `syscall-groups = [\"@optional-watch\"]`.

A profile of one's own is `profiles/NAME.toml` in `data-dir`, owned by root. It may build on a shipped one:

```toml
schema  = 1
name    = \"mine\"
arch    = [\"x86_64\", \"aarch64\"]
default = \"enosys\"

[[narrow]]                       # less of a group of the base; only of one that allows
group = \"@event\"
why   = \"It waits by poll alone.\"
keep  = [\"poll\"]
  [[narrow.also]]                # kept for more than what was seen
  needed-by = \"aarch64, where poll is ppoll\"
  calls     = [\"ppoll\"]

[[group]]                        # a group of its own
name   = \"@statistics\"
why    = \"It asks what is cached of its files.\"
action = \"allow\"
calls  = [\"cachestat\"]

[use]
base    = \"default\"
include = [\"@exit-signal\", \"@memory\", \"@threads\", \"@process\", \"@io\", \"@event\", \"@file\", \"@statistics\", \"@refused\", \"@tripwire\"]
```

No profile can allow what the walls of a jail rest on: mounting, namespaces, other address families than Unix and Internet, raw
sockets, io_uring, ptrace, keyrings, bpf, perf, userfaultfd, modules, and what reaches hardware. Foreign architectures and x32
numbers kill whatever the profile says.

One that writes a rule of its own for `prlimit64` takes those of `default`: a plugin that makes its limit on core dumps 0 has the kernel
start the host's program (`kernel.core_pattern`) for its crash. `pinfold policy check` warns of a profile that permits it (`core-limit`).
";

/// A word for what becomes of a group's calls.
fn word(action: GroupAction) -> String {
    match action {
        GroupAction::Fixed(Action::Allow) => "allowed".into(),
        GroupAction::Fixed(Action::Kill) => "killed for".into(),
        GroupAction::Fixed(action) => format!("refused, {action}"),
        GroupAction::Optional { off, .. } => format!("off: refused, {off}"),
    }
}

fn code<'a>(calls: impl Iterator<Item = &'a str>) -> String {
    calls
        .map(|call| format!("`{call}`"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The calls of a group, and after them those that are decided on by themselves, with the reason.
fn calls(group: &Group) -> String {
    let is_plain = |decision: &Decision| *decision == Decision::Group;
    let plain = group
        .calls()
        .iter()
        .filter(|call| is_plain(call.decision()));
    let mut text = code(plain.map(|call| call.name()));
    for call in group
        .calls()
        .iter()
        .filter(|call| !is_plain(call.decision()))
    {
        let what = match call.decision() {
            Decision::Fixed(action) => action.to_string(),
            _ => "by its arguments".into(),
        };
        let why = call.why().map_or(String::new(), |why| format!(": {why}"));
        let gap = if text.is_empty() { "" } else { "<br>" };
        write!(text, "{gap}`{}` {what}{why}", call.name()).unwrap();
    }
    text
}

/// The calls of a group that allows, without those that it refuses all the same.
fn open(group: &Group) -> impl Iterator<Item = &str> {
    let is_refused = |decision: &Decision| matches!(decision, Decision::Fixed(_));
    let calls = group.calls().iter();
    calls
        .filter(move |call| !is_refused(call.decision()))
        .map(|call| call.name())
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    let default = Profile::builtin("default").unwrap();
    page.push_str("\n## default\n\n| group | answer | why | calls |\n|---|---|---|---|\n");
    for group in default.groups() {
        let (name, answer) = (group.name(), word(group.action()));
        let (why, calls) = (group.why(), calls(group));
        writeln!(page, "| `{name}` | {answer} | {why} | {calls} |").unwrap();
    }
    for name in Profile::builtin_names().filter(|name| *name != "default") {
        let profile = Profile::builtin(name).unwrap();
        let allowed = |group: &&Group| group.action() == GroupAction::Fixed(Action::Allow);
        let count = |profile: &Profile| -> usize {
            let groups = profile.groups().iter().filter(allowed);
            groups.map(|group| open(group).count()).sum()
        };
        write!(
            page,
            "\n## {name}\n\n{} calls of the default's {}; every other group as there.\n\n\
             | group | why | made by the workload | kept for more | left out |\n|---|---|---|---|---|\n",
            count(&profile),
            count(&default),
        )
        .unwrap();
        for group in profile.groups().iter().filter(allowed) {
            let narrowed = profile
                .narrowed()
                .iter()
                .find(|one| one.group() == group.name());
            let also = narrowed.map_or(&[][..], |one| one.also());
            let is_more = |call: &str| also.iter().any(|also| also.calls.iter().any(|c| c == call));
            let made = code(open(group).filter(|call| !is_more(call)));
            let more: Vec<String> = also
                .iter()
                .map(|also| {
                    format!(
                        "{}: {}",
                        code(also.calls.iter().map(String::as_str)),
                        also.needed_by
                    )
                })
                .collect();
            let left = narrowed.map_or(&[][..], |one| one.dropped());
            let why = narrowed.map_or("As in the default.", |one| one.why());
            writeln!(
                page,
                "| `{}` | {why} | {made} | {} | {} |",
                group.name(),
                more.join("<br>"),
                code(left.iter().map(String::as_str)),
            )
            .unwrap();
        }
    }
    page
}

#[test]
fn the_page_of_the_profiles_says_what_they_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/profiles.md");
    let page = page();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let documented = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        documented == page,
        "docs/profiles.md differs: write it anew with {WRITE}=1"
    );
}

#[test]
fn the_example_on_the_page_is_a_profile() {
    let example = HEAD
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let profile = Profile::parse(example.unwrap(), "mine").unwrap();
    assert!(profile.find("cachestat").is_some() && profile.find("epoll_wait").is_none());
}
