//! Go programs, built when a test first asks for them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::binary::{repository, target_dir};

/// Debian's Go 1.19, which numbers gob types otherwise than Go since 1.21.
pub(crate) const GO_1_19: &str = "/usr/lib/go-1.19/bin/go";

/// The oldest Go that the newest go-plugin compiles with.
const LEAST: (u32, u32) = (1, 24);

/// A Go program, compiled without C. It is built once and kept in `target/fixtures`, until its sources,
/// its compiler or its flags change; tests that ask at the same time wait for one build.
///
/// | name | is |
/// |---|---|
/// | `hello` | the reference plugin, `sdk/plugins/hello` |
/// | `host` | a Go host of goatflow plugins, `tests/fixtures/go/host` |
/// | `crowd` | a small plugin to have many of, `tests/fixtures/go/crowd` |
/// | `outside` | a server for plugins to reach, `tests/fixtures/go/outside` |
/// | `signer` | signs and verifies files with crypto/ed25519, `tests/fixtures/go/signer` |
/// | `goatflow-MODE` | a subject for the goatflow dialect: `g1` to `g4`, `bench`, or a fault from `main.go` or `lines.go` in `tests/fixtures/go/goatflow` |
/// | `peers-1.4`, `-1.5`, `-1.6`, `-1.8` | `tests/fixtures/go/peers` with that release of go-plugin |
/// | `peers-1.4-go1.19` | the same, by Go 1.19 |
///
/// Needs the ability `go` (and `go-1.19` for the last).
///
/// # Panics
///
/// Where it does not build, with what the compiler said.
#[must_use]
pub fn go_fixture(name: &str) -> PathBuf {
    let recipe = Recipe::of(name);
    let kept = target_dir().join("fixtures");
    fs::create_dir_all(&kept).expect("the target directory is writable");
    let lock = File::create(kept.join(format!("{name}.lock"))).expect("it is in target/fixtures");
    lock.lock().expect("a local file can be locked");

    let built = kept.join(name);
    let mark = kept.join(format!("{name}.sha256"));
    let digest = recipe.digest();
    if built.exists() && fs::read_to_string(&mark).is_ok_and(|found| found == digest) {
        return built;
    }
    let new = kept.join(format!("{name}.new"));
    recipe.build(&new);
    // A test may be running the old one: replace the name, not the file.
    fs::rename(&new, &built).expect("both are in target/fixtures");
    fs::write(&mark, digest).expect("it is in target/fixtures");
    built
}

/// The newest enough Go: on `PATH`, or where Go and Debian put it.
pub(crate) fn newest() -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&on_path).collect();
    places.push("/usr/local/go/bin".into());
    places.extend(
        (24..40)
            .rev()
            .map(|minor| format!("/usr/lib/go-1.{minor}/bin").into()),
    );
    places
        .into_iter()
        .map(|place| place.join("go"))
        .find(|go| version(go) >= Some(LEAST))
}

/// `go1.26.8` is `(1, 26)`.
fn version(go: &Path) -> Option<(u32, u32)> {
    let said = Command::new(go)
        .args(["env", "GOVERSION"])
        .env("GOTOOLCHAIN", "local")
        .output()
        .ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    let mut numbers = text.trim().strip_prefix("go")?.split('.');
    let number = |text: Option<&str>| text?.parse().ok();
    Some((number(numbers.next())?, number(numbers.next())?))
}

/// How one program is built.
struct Recipe {
    source: PathBuf,
    go: PathBuf,
    flags: Vec<String>,
}

impl Recipe {
    fn of(name: &str) -> Recipe {
        let here = repository().join("tests/fixtures/go");
        let go = || newest().expect("the test requires the ability go");
        let flag = |text: String| vec![text];
        let (source, go, flags) = if name == "hello" {
            (repository().join("sdk/plugins/hello"), go(), vec![])
        } else if let "host" | "outside" | "signer" = name {
            (here.join(name), go(), vec![])
        } else if name == "crowd" {
            (here.join(name), go(), flag("-ldflags=-s -w".into()))
        } else if let Some(mode) = name.strip_prefix("goatflow-") {
            (
                here.join("goatflow"),
                go(),
                flag(format!("-ldflags=-s -w -X main.mode={mode}")),
            )
        } else {
            let (modfile, go) = match name {
                "peers-1.4" => ("go-plugin-1.4.mod", go()),
                "peers-1.4-go1.19" => ("go-plugin-1.4.mod", GO_1_19.into()),
                "peers-1.5" => ("go-plugin-1.5.mod", go()),
                "peers-1.6" => ("go-plugin-1.6.mod", go()),
                "peers-1.8" => ("go.mod", go()),
                _ => panic!("no Go fixture is called {name}"),
            };
            (here.join("peers"), go, flag(format!("-modfile={modfile}")))
        };
        Recipe { source, go, flags }
    }

    /// Of all that goes into the program, in hexadecimal.
    fn digest(&self) -> String {
        let mut sum = Sha256::new();
        let mut files: Vec<PathBuf> = fs::read_dir(&self.source)
            .expect("the fixture's sources are in the checkout")
            .map(|entry| entry.expect("the directory can be read").path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        for file in files {
            sum.update(file.as_os_str().as_encoded_bytes());
            sum.update(fs::read(&file).expect("the fixture's sources can be read"));
        }
        let version = Command::new(&self.go)
            .arg("version")
            .output()
            .expect("Go can be started");
        sum.update(version.stdout);
        sum.update(self.flags.join("\n"));
        sum.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    fn build(&self, output: &Path) {
        let done = Command::new(&self.go)
            .current_dir(&self.source)
            .args(["build", "-trimpath", "-buildvcs=false"])
            .args(&self.flags)
            .arg("-o")
            .arg(output)
            .arg(".")
            .env("CGO_ENABLED", "0")
            .env("GOTOOLCHAIN", "local")
            .env_remove("GOFLAGS")
            .stdin(Stdio::null())
            .output()
            .expect("Go can be started");
        assert!(
            done.status.success(),
            "build {}: {}",
            self.source.display(),
            String::from_utf8_lossy(&done.stderr)
        );
    }
}
