//! What a reviewer does: `pinfold policy check`, `show`, `diff`, `explain` and `schema`, as built, on an
//! installation that no daemon has seen.

mod answers;
mod check;
mod mounts;
mod posture;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use pinfold_tests::scratch;
use serde_json::Value;
use tempfile::TempDir;

use super::command_line::command;

const MANIFEST: &str = "name: hello
version: 1.0.0
runtime: grpc
binary: hello
resources:
  memory_mb: 64
  permissions:
    - {type: db, access: read, scope: [items]}
    - {type: cache, access: readwrite}
    - {type: http, scope: [api.example.com]}
";

/// Line numbers of this text are in the tests.
const POLICY: &str = r#"schema = 1
dialect = "goatflow"
entry = "hello"
[trust]
unsigned = true
[permissions]
db = [
  { tables = ["items", "notes"], access = "read" },
]
cache = "read"
http = [{ hosts = ["api.example.com"], methods = ["GET"] }]
plugin-call = ["stats/sum"]
[limits]
memory = "64MiB"
[controls]
landlock = "required"
[env]
COLOUR = "blue"
"#;

/// An installation with one plugin, `hello`.
struct Installation {
    place: TempDir,
}

impl Installation {
    fn new() -> Self {
        let installation = Self { place: scratch() };
        let owner = nix::unistd::User::from_uid(nix::unistd::geteuid())
            .unwrap()
            .unwrap();
        let mut text = format!("daemon-user = {:?}\n", owner.name);
        for (key, path) in [
            ("plugin-dir", "plugins"),
            ("policy-dir", "etc/policy.d"),
            ("keys-dir", "etc/keys.d"),
            ("state-dir", "state"),
            ("data-dir", "etc/data"),
        ] {
            text += &format!("{key} = {:?}\n", installation.path(path));
            installation.directory(path);
        }
        installation.directory("etc/data/profiles");
        installation.write("etc/launcher.toml", &text);
        installation.write("plugins/hello/plugin.yaml", MANIFEST);
        installation.write("plugins/hello/hello", "#!/bin/sh\n");
        let program = installation.path("plugins/hello/hello");
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        installation.policy(POLICY);
        installation
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn directory(&self, name: &str) {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        let mut path = path.as_path();
        while path != self.place.path() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
            path = path.parent().unwrap();
        }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        let parent = Path::new(name).parent().unwrap();
        self.directory(parent.to_str().unwrap());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    }

    fn policy(&self, text: &str) -> PathBuf {
        self.write("etc/policy.d/hello.toml", text)
    }

    fn pinfold(&self, arguments: &[&str]) -> Output {
        let mut command = command(self.place.path(), arguments);
        command.current_dir(self.place.path()).output().unwrap()
    }

    /// Exit status and JSON of a command of `pinfold policy`.
    fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.pinfold(&[&["--json", "policy"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        let value = serde_json::from_slice(&output.stdout);
        (
            output.status.code().unwrap(),
            value.unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}")),
        )
    }

    /// Exit status and what is for people, on both streams.
    fn people(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.pinfold(&[&["policy"], arguments].concat());
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(text).unwrap(),
        )
    }
}
