//! docs/security/attacks.md, made of the table.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use pinfold_tests::repository;

use super::attempt::{Group, groups};

const HEAD: &str = "# Attacks

What a hostile plugin tries, what stops it, and what would if that did not. `make attacks` runs every line in a jail and
once more without one, or without the broker, and writes this page; `make test` runs them all too, and fails where one
comes to anything else than what is here. The table is `tests/attacks/attempts.txt`.

* **inside**: what comes of it: the kernel's error, `killed` (the filter ends the process), what the whole jail ended of
  (the call that it made, or the limit that it met), or words of the refusal. **not held** is an attempt that succeeds.
* **held by**, and **behind it** what would refuse it by itself; `-` is nothing. What is behind is judged, not tried: alone
  were tried Landlock, write-xor-execute and the user namespace (`sandbox/tests/jail/layers.rs`).
* **outside**: what comes of it as root without a jail; for what goes through the broker, on the plain database, with a
  plain client, under a plain host. *answered* means that the kernel's own code answers, with another
  error than the jail's; *done where* that it depends on the machine.

What a jail is made of is in [jail.md](../jail.md), what is defended and what not in [threat-model.md](threat-model.md),
and which historic escapes these lines stand for in [known-attacks.md](known-attacks.md).
";

/// Before what depends on the machine.
const LAST_RUN: &str = "\n## Last run\n";

fn path() -> PathBuf {
    repository().join("docs/security/attacks.md")
}

/// All of the page that is the same on every machine.
fn rendered(groups: &[Group]) -> String {
    let all = || groups.iter().flat_map(|group| &group.attempts);
    let (count, held) = (all().count(), all().filter(|one| one.is_held()).count());
    let mut page = format!("{HEAD}\n{count} attempts, {held} held.\n");
    for group in groups {
        write!(
            page,
            "\n## {}\n\n| id | tries | inside | held by | behind it | outside |\n|---|---|---|---|---|---|\n",
            group.name
        )
        .expect("a string takes everything");
        for one in &group.attempts {
            let inside = match one.is_held() {
                true => one.inside.to_string(),
                false => format!("**{}**", one.inside),
            };
            writeln!(
                page,
                "| `{}` | {} | {inside} | {} | {} | {} |",
                one.id, one.tries, one.by, one.behind, one.outside
            )
            .expect("a string takes everything");
        }
    }
    page
}

/// Writes the page after a run in which everything was as it has to be.
pub(super) fn write(groups: &[Group], not_shown: &[String]) {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut page = rendered(groups);
    page += LAST_RUN;
    write!(
        page,
        "\nLinux {}. Not shown outside there: {}.\n",
        kernel.trim(),
        not_shown.join(", ")
    )
    .expect("a string takes everything");
    fs::write(path(), page).unwrap();
}

#[test]
fn the_page_agrees_with_the_table() {
    let written = fs::read_to_string(path()).unwrap();
    let fixed = written.split(LAST_RUN).next().unwrap();
    assert!(
        fixed == rendered(&groups()),
        "docs/security/attacks.md is not what tests/attacks/attempts.txt says: make attacks"
    );
}
