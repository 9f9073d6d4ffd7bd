//! Builds the reaper, a static program for musl, and leaves it where the library embeds it from.
//!
//! It has a target directory of its own below this script's, and an environment without the outer
//! build's flags and wrappers: a profile, a linker or a lint run of the host's target must not
//! leak into it.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = "pinfold-reaper";

/// The reaper is copied into each jail's memory: a bound on what may creep in.
const PROGRAM_LIMIT_BYTES: u64 = 200 * 1024;

/// What of the environment reaches the inner build: where tools are, and how packages are fetched.
const KEPT: [&str; 11] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "CARGO_HOME",
    "SSL_CERT_FILE",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
];
const KEPT_PREFIXES: [&str; 4] = [
    "CARGO_NET_",
    "CARGO_HTTP_",
    "CARGO_SOURCE_",
    "CARGO_REGISTR",
];

/// Of a linker for another machine, by its target: `CARGO_TARGET_…_LINKER`.
const KEPT_LINKER: (&str, &str) = ("CARGO_TARGET_", "_LINKER");

/// For size: the reaper waits all its life, and its pages are part of every jail.
const PROFILE: [(&str, &str); 6] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let reaper = here.join("reaper");
    for watched in [
        "reaper/src",
        "reaper/Cargo.toml",
        "../Cargo.lock",
        "build.rs",
    ] {
        println!("cargo::rerun-if-changed={}", here.join(watched).display());
    }
    let target = target()?;
    demand_target(&target)?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    let build = out.join("reaper-build");
    run_cargo(&reaper, &target, &build)?;
    let built = build.join(&target).join("release").join(PROGRAM);
    let bytes = fs::metadata(&built)?.len();
    if bytes > PROGRAM_LIMIT_BYTES {
        return Err(format!(
            "{PROGRAM} has {bytes} bytes, {PROGRAM_LIMIT_BYTES} are the most it may have"
        )
        .into());
    }
    fs::copy(&built, out.join(PROGRAM))?;
    Ok(())
}

fn target() -> Result<String, Box<dyn Error>> {
    let architecture = variable("CARGO_CFG_TARGET_ARCH")?;
    match architecture.to_str() {
        Some(known @ ("x86_64" | "aarch64")) => Ok(format!("{known}-unknown-linux-musl")),
        _ => Err(format!("no reaper for {}", architecture.display()).into()),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a build script runs the compiler"
)]
fn demand_target(target: &str) -> Result<(), Box<dyn Error>> {
    let rustc = variable("RUSTC")?;
    let asked = Command::new(&rustc)
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .map_err(|error| format!("run {}: {error}", rustc.display()))?;
    let directory = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    if asked.status.success() && Path::new(&directory).is_dir() {
        return Ok(());
    }
    Err(format!(
        "the Rust target {target} is missing, for which the reaper is built: run \
         `rustup target add {target}`"
    )
    .into())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a build script runs the compiler"
)]
fn run_cargo(reaper: &Path, target: &str, build: &Path) -> Result<(), Box<dyn Error>> {
    let cargo = variable("CARGO")?;
    let kept = env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| {
            KEPT.contains(&name)
                || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                || (name.starts_with(KEPT_LINKER.0) && name.ends_with(KEPT_LINKER.1))
        })
    });
    let status = Command::new(&cargo)
        .current_dir(reaper)
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--target",
            target,
        ])
        .args([
            "--package",
            PROGRAM,
            "--bin",
            PROGRAM,
            "--features",
            "program",
        ])
        .env_clear()
        .envs(kept)
        .envs(PROFILE)
        .env("CARGO_TARGET_DIR", build)
        .env("CARGO_ENCODED_RUSTFLAGS", remaps(reaper))
        .status()
        .map_err(|error| format!("run {}: {error}", cargo.display()))?;
    if !status.success() {
        return Err(format!("build {PROGRAM} for {target}: cargo ended with {status}").into());
    }
    Ok(())
}

/// Has the compiler write none of this machine's paths into the program, for it becomes a part of others that are
/// the same wherever they are built.
fn remaps(reaper: &Path) -> OsString {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")));
    let top = reaper.ancestors().nth(2).map(Path::to_owned);
    let mut flags = OsString::new();
    for (path, name) in [(home, "/usr/src/cargo"), (top, "/usr/src/pinfold")] {
        let Some(path) = path else { continue };
        if !flags.is_empty() {
            flags.push("\x1f");
        }
        flags.push("--remap-path-prefix=");
        flags.push(path);
        flags.push("=");
        flags.push(name);
    }
    flags
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("cargo has not set {name}"))
}
