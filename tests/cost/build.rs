//! Leaves the compiler's version in the program: counts of instructions depend on it.
#![expect(
    clippy::disallowed_methods,
    reason = "the compiler says its version when it is run"
)]

use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("--version").output();
    let version = said
        .ok()
        .and_then(|said| String::from_utf8(said.stdout).ok())
        .unwrap_or_default();
    println!("cargo::rustc-env=COMPILED_BY={}", version.trim());
    println!("cargo::rerun-if-changed=build.rs");
}
