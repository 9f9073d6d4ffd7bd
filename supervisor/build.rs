//! Has the daemon's relocations linked in the packed form, where whoever runs it can read that.
//!
//! A position-independent program is relocated when it starts, and the table for it is read then: a
//! megabyte in the usual form, some kilobytes in the packed one, which glibc knows since 2.36. Such a
//! program does not start with an older one, so that it is made only where this machine has one, and
//! for this machine.

use std::env;
use std::process::Command;

/// The first glibc that relocates from packed tables.
const GLIBC: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is_native = env::var_os("TARGET") == env::var_os("HOST");
    let is_gnu = env::var_os("CARGO_CFG_TARGET_ENV").is_some_and(|found| found == "gnu");
    if is_native && is_gnu && glibc().is_some_and(|found| found >= GLIBC) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's glibc: getconf(1).
#[expect(clippy::disallowed_methods, reason = "a build starts programs itself")]
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let text = String::from_utf8(output.ok()?.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
