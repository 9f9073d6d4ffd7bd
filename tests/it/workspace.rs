//! The shape of this repository: which crate may use which, where `unsafe` may stand, how files are
//! called and how long they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pinfold_tests::repository;
use serde::Deserialize;

/// What each crate may use of this workspace. Arrows go one way.
const MAY_USE: &[(&str, &[&str])] = &[
    ("pinfold-policy", &[]),
    ("pinfold-reaper", &[]),
    // The reaper is embedded, and shares the form of its plan.
    ("pinfold-sandbox", &["pinfold-policy", "pinfold-reaper"]),
    ("pinfold-gob", &[]),
    ("pinfold-rpc", &["pinfold-gob"]),
    ("pinfold-hostapi", &["pinfold-policy"]),
    ("pinfold-gateway", &["pinfold-policy"]),
    (
        "pinfold",
        &[
            "pinfold-gateway",
            "pinfold-gob",
            "pinfold-hostapi",
            "pinfold-policy",
            "pinfold-rpc",
            "pinfold-sandbox",
        ],
    ),
    (
        "pinfold-cost",
        &[
            "pinfold-gateway",
            "pinfold-gob",
            "pinfold-hostapi",
            "pinfold-policy",
            "pinfold-rpc",
        ],
    ),
    (
        "pinfold-tests",
        &[
            "pinfold",
            "pinfold-gateway",
            "pinfold-gob",
            "pinfold-hostapi",
            "pinfold-policy",
            "pinfold-rpc",
            "pinfold-sandbox",
        ],
    ),
];

/// What the privileged launcher may link by its own choice.
const LAUNCHER_USES: &[&str] = &[
    "caps",
    "cgroups-rs",
    "ed25519-dalek",
    "landlock",
    "libc",
    "nix",
    "pinfold-policy",
    "pinfold-reaper",
    "rustix",
    "seccompiler",
    "serde",
    "sha2",
    "thiserror",
    "toml",
];

/// What those bring with them, as of now: a new one is seen here before it runs as root.
const LAUNCHER_LINKS: &[&str] = &[
    "aho-corasick",
    "bitflags",
    "block-buffer",
    "cfg-if",
    "const-oid",
    "cpufeatures",
    "crypto-common",
    "curve25519-dalek",
    "curve25519-dalek-derive",
    "digest",
    "ed25519",
    "hybrid-array",
    "linux-raw-sys",
    "log",
    "memchr",
    "memoffset",
    "proc-macro2",
    "quote",
    "regex",
    "regex-automata",
    "regex-syntax",
    "serde_core",
    "serde_derive",
    "serde_spanned",
    "signature",
    "subtle",
    "syn",
    "thiserror-impl",
    "toml_datetime",
    "toml_parser",
    "toml_writer",
    "typenum",
    "unicode-ident",
    "winnow",
    "zeroize",
];

/// Process 1 of a jail has these and no allocator.
const REAPER_LINKS: &[&str] = &["bitflags", "libc", "linux-raw-sys", "rustix"];

const LONGEST_FILE: usize = 700;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    path: Option<PathBuf>,
}

#[test]
fn crates_use_each_other_one_way() {
    let allowed: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    for package in packages() {
        let may_use = allowed.get(&*package.name).unwrap_or_else(|| {
            panic!(
                "{} is new: say in MAY_USE what it may use, as the design does",
                package.name
            )
        });
        for used in package
            .dependencies
            .iter()
            .filter(|used| used.path.is_some())
        {
            assert!(
                may_use.contains(&&*used.name),
                "{} may not use {}",
                package.name,
                used.name
            );
        }
    }
}

#[test]
fn versions_are_named_in_the_workspace_alone() {
    for package in packages() {
        let manifest: toml::Table =
            toml::from_str(&fs::read_to_string(&package.manifest_path).unwrap()).unwrap();
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(used) = manifest.get(table).and_then(|table| table.as_table()) else {
                continue;
            };
            for (name, how) in used {
                // Another folder of this repository has no version to name.
                let inherited = how.get("workspace").and_then(toml::Value::as_bool) == Some(true)
                    || (how.get("path").is_some() && how.get("version").is_none())
                    // A member cannot turn off what the workspace's line turns on.
                    || (&*package.name, &**name) == ("pinfold-reaper", "libc");
                assert!(
                    inherited,
                    "{}: {name} does not say `workspace = true`",
                    package.name
                );
            }
        }
    }
}

#[test]
fn the_launcher_links_what_was_agreed() {
    let launcher = packages()
        .into_iter()
        .find(|one| one.name == "pinfold-sandbox")
        .unwrap();
    let manifest: toml::Table =
        toml::from_str(&fs::read_to_string(launcher.manifest_path).unwrap()).unwrap();
    for name in manifest["dependencies"].as_table().unwrap().keys() {
        assert!(
            LAUNCHER_USES.contains(&&**name),
            "the launcher may not use {name}"
        );
    }
    let mut agreed = BTreeSet::from(["pinfold-sandbox"]);
    agreed.extend(LAUNCHER_USES);
    agreed.extend(LAUNCHER_LINKS);
    for name in links("pinfold-sandbox") {
        assert!(
            agreed.contains(&*name),
            "{name} would be linked into the launcher"
        );
    }
}

#[test]
fn the_reaper_links_the_kernels_interface_alone() {
    for name in links("pinfold-reaper") {
        assert!(
            name == "pinfold-reaper" || REAPER_LINKS.contains(&&*name),
            "{name} would be linked into the reaper"
        );
    }
}

#[test]
fn unsafe_stands_in_sys_of_the_sandbox_alone() {
    for package in packages() {
        if !package.manifest_path.starts_with(top().join("sandbox")) {
            let root = package.manifest_path.with_file_name("src").join("lib.rs");
            let forbids = fs::read_to_string(&root)
                .unwrap()
                .contains("#![forbid(unsafe_code)]");
            assert!(forbids, "{} lacks #![forbid(unsafe_code)]", root.display());
        }
    }
    for file in files("rs") {
        // The sandbox's tests try what a jail forbids, with the kernel's own calls.
        let in_sys = file.starts_with("sandbox/tests")
            || file.starts_with("sandbox")
                && file.iter().any(|part| part == "sys" || part == "sys.rs");
        for (number, line) in read(&file).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            // An attribute such as unsafe(no_mangle) states a promise to the linker and runs nothing.
            let found = ["unsafe {", "unsafe fn", "unsafe impl"]
                .iter()
                .any(|one| code.contains(one));
            let quoted = code.contains("\"unsafe");
            assert!(
                !found || quoted || in_sys,
                "{}:{}: unsafe outside the sandbox's sys",
                file.display(),
                number + 1
            );
        }
    }
}

#[test]
fn files_have_names_and_a_size() {
    for extension in ["rs", "go", "sh"] {
        for file in files(extension) {
            let name = file.file_stem().and_then(|name| name.to_str()).unwrap();
            assert!(
                !matches!(
                    name,
                    "mod" | "util" | "utils" | "common" | "helpers" | "misc"
                ),
                "{}: call it by what it holds",
                file.display()
            );
            let length = read(&file).lines().count();
            assert!(
                length <= LONGEST_FILE,
                "{} has {length} lines",
                file.display()
            );
        }
    }
}

/// Errors are printed as one chain: one that has a cause does not say it as well.
#[test]
fn no_error_says_its_cause_itself() {
    let mut found = 0;
    for file in files("rs") {
        let text = read(&file);
        let attributes = text.split(concat!("#[", "error(")).skip(1);
        for (message, of) in attributes.filter_map(|one| one.split_once(")]\n")) {
            let variant = of.lines().next().unwrap_or_default();
            let is_cause = variant.contains("#[from]") || variant.contains("#[source]");
            let says_it = message.contains("{source}")
                || is_cause && (message.contains("{0}") || message.contains(".0"));
            assert!(!says_it, "{}: {message} of {variant}", file.display());
            found += 1;
        }
    }
    assert!(found > 300, "{found}");
}

/// This workspace's own packages.
fn packages() -> Vec<Package> {
    let text = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    serde_json::from_str::<Metadata>(&text).unwrap().packages
}

/// The names of all packages in the program of one, without those only needed to build or test it.
fn links(package: &str) -> BTreeSet<String> {
    cargo(&[
        "tree",
        "--package",
        package,
        "--edges",
        "normal",
        "--prefix",
        "none",
    ])
    .lines()
    .filter_map(|line| line.split_whitespace().next())
    .map(str::to_owned)
    .collect()
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let done = Command::new(cargo)
        .args(arguments)
        .args(["--offline", "--locked"])
        .current_dir(top())
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).unwrap()
}

fn top() -> PathBuf {
    repository().canonicalize().unwrap()
}

fn read(file: &Path) -> String {
    fs::read_to_string(top().join(file)).unwrap()
}

/// The checkout's own files with this extension, relative to its top.
fn files(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![top()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if path.is_dir() {
                let theirs = matches!(name, "target" | "build" | "node_modules" | ".git");
                if !theirs && !path.is_symlink() {
                    directories.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path.strip_prefix(top()).unwrap().to_owned());
            }
        }
    }
    found
}
