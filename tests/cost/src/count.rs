//! Counting instructions: a work-load in a process of its own, under valgrind's callgrind.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use crate::WorkLoad;
use crate::baseline::MadeWith;

/// What callgrind calls the one function that it counts in.
const REGION: &str = "pinfold_cost::count::counted_region*";

/// The C library copies memory in the way that suits the processor best. It is told to take the one
/// that each x86-64 processor has, so that counts made on one are those of another.
const SAME_COPY_EVERYWHERE: &str =
    "glibc.cpu.hwcaps=-AVX2,-AVX,-AVX512F,-AVX512VL,-AVX512BW,-ERMS,-FSRM,-AVX_Fast_Unaligned_Load";

/// Does the work as often as its instructions are counted over. Nothing else that this program does
/// is counted.
pub fn do_counted(load: &WorkLoad) {
    let mut work = load.prepare();
    counted_region(&mut work, load.times);
}

#[inline(never)]
fn counted_region(work: &mut dyn FnMut(u64), times: u64) {
    work(times);
    // A call at the very end would be compiled to a jump out of this function.
    black_box(times);
}

/// Instructions of doing the work once, on average.
///
/// # Errors
/// Where valgrind is missing, or the work fails under it.
#[expect(
    clippy::disallowed_methods,
    reason = "valgrind runs this program's other half"
)]
pub fn instructions(load: &WorkLoad) -> anyhow::Result<u64> {
    let directory = tempfile::tempdir().context("a directory for callgrind's output")?;
    let this = std::env::current_exe().context("the path of this program")?;
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--vgdb=no", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={REGION}"))
        .arg(format!(
            "--callgrind-out-file={}",
            directory.path().join("out").display()
        ))
        .arg(this)
        .args(["run", load.name])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GLIBC_TUNABLES", SAME_COPY_EVERYWHERE)
        .stdin(Stdio::null())
        .output()
        .context("start valgrind")?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(
        done.status.success(),
        "{} under valgrind: {}\n{said}",
        load.name,
        done.status
    );
    let Some(total) = collected(&said) else {
        bail!(
            "valgrind does not say what it counted for {}:\n{said}",
            load.name
        );
    };
    ensure!(
        total > 0,
        "callgrind found no {REGION} in this program: is it stripped?"
    );
    Ok(total / load.times.max(1))
}

/// The total, of a line such as `==42== Collected : 123456`.
fn collected(said: &str) -> Option<u64> {
    let mut totals = said.lines().filter_map(|line| {
        let (_, total) = line.split_once("Collected :")?;
        total.split_whitespace().next()?.parse().ok()
    });
    totals.next()
}

/// Instructions of each of these work-loads.
///
/// # Errors
/// As [`instructions`].
pub fn count(loads: &[WorkLoad]) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for load in loads {
        counts.insert(load.name.to_owned(), instructions(load)?);
    }
    Ok(counts)
}

/// What counts depend on beside the code.
#[must_use]
pub fn made_with() -> MadeWith {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has_avx2 = flags
        .lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|line| line.split_whitespace().any(|flag| flag == "avx2"));
    MadeWith {
        rustc: env!("COMPILED_BY").to_owned(),
        valgrind: first_line("valgrind", "--version"),
        libc: first_line("getconf", "GNU_LIBC_VERSION"),
        processor: format!(
            "{}{}",
            std::env::consts::ARCH,
            if has_avx2 { " with AVX2" } else { "" }
        ),
    }
}

#[expect(clippy::disallowed_methods, reason = "programs that say their version")]
fn first_line(program: &str, argument: &str) -> String {
    let said = Command::new(program).arg(argument).output();
    let said = said.map(|said| said.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    said.lines().next().unwrap_or("unknown").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_is_read_from_what_callgrind_says() {
        let said = "==7== Events    : Ir\n==7== Collected : 1234567\n==7== \n";
        assert_eq!(collected(said), Some(1_234_567));
        assert_eq!(collected("==7== nothing"), None);
    }
}
