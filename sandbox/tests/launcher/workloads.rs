//! Programs of each runtime that do what plugins do, and what they ask of the kernel meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use pinfold_policy::Runtime;
use pinfold_sandbox::protocol::ExitCause;
use pinfold_sandbox::seccomp::{Action, Arch, Profile, syscall_name};

use crate::machine::{Machine, output};
use crate::skip::skip;

/// A program and the policy under which it works.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// What it is, for messages.
    pub(crate) name: &'static str,
    /// The file that becomes the plugin's entry.
    pub(crate) entry: PathBuf,
    /// What of the host it needs.
    pub(crate) runtime: Option<Runtime>,
    /// What the policy says of how it is run, beside that and the profile.
    pub(crate) more: &'static str,
}

/// What came of one.
#[derive(Debug)]
pub(crate) struct Worked {
    pub(crate) output: String,
    pub(crate) cause: ExitCause,
}

impl Worked {
    /// Asserts that it came to its end.
    pub(crate) fn assert_done(&self, what: &str) {
        let is_done = self.output.lines().any(|line| line == "done");
        assert!(
            is_done && self.cause == ExitCause::Code(0),
            "{what}: {self:?}"
        );
    }
}

/// Runs a workload as a plugin under a profile.
pub(crate) fn work(machine: &Machine, workload: &Workload, profile: &str) -> Worked {
    let directory = machine.path("plugins").join("worker");
    fs::create_dir_all(&directory).unwrap();
    install(&workload.entry, &directory.join("entry"));
    let runtime = workload.runtime.as_ref().map(section).unwrap_or_default();
    let more = format!("{runtime}[controls]\n{}", workload.more);
    launch(machine, &policy("entry", &[], profile, &more))
}

/// Runs a workload as a plugin under a profile, and says which system calls it was allowed and made.
pub(crate) fn trace(machine: &Machine, workload: &Workload, profile: &Profile) -> BTreeSet<String> {
    let directory = machine.path("plugins").join("worker");
    fs::create_dir_all(&directory).unwrap();
    install(tracer(), &directory.join("tracer"));
    install(&workload.entry, &directory.join("entry"));
    fs::write(directory.join("filter"), asking(profile)).unwrap();
    let profiles = machine.path("data/profiles");
    fs::create_dir_all(&profiles).unwrap();
    fs::set_permissions(&profiles, fs::Permissions::from_mode(0o755)).unwrap();
    let around = profiles.join("around.toml");
    fs::write(&around, AROUND).unwrap();
    fs::set_permissions(&around, fs::Permissions::from_mode(0o644)).unwrap();
    // The tracer's is the one listener that there can be, and the tracer not what may be executed.
    let controls = "[controls]\nlandlock = \"off\"\nsyscall-names = \"off\"\n";
    let (arguments, runtime) = traced(workload);
    let more = format!("{runtime}{controls}{}", workload.more);
    let policy = policy("tracer", &arguments, "around", &more);
    let worked = launch(machine, &policy);
    worked.assert_done(workload.name);
    let calls = worked
        .output
        .lines()
        .find_map(|line| line.strip_prefix("calls:"));
    let arch = Arch::native().unwrap();
    let numbers = calls.unwrap().split_whitespace();
    numbers
        .map(|number| {
            syscall_name(arch, number.parse().unwrap())
                .unwrap()
                .to_owned()
        })
        .collect()
}

/// What a tracer may do: everything of the default, and to set up its listener.
const AROUND: &str = r#"
schema = 1
name = "around"
arch = ["x86_64", "aarch64"]
default = "enosys"

[[group]]
name = "@tracer"
why = "It installs a filter of its own, and talks to its listener by ioctl."
action = "allow"
calls = ["seccomp", "ioctl", "prctl"]

[use]
base = "default"
include = [
  "@exit-signal", "@memory", "@threads", "@process", "@identity-read", "@system-read",
  "@time-read", "@io", "@event", "@file", "@socket", "@arch", "@refused", "@tripwire", "@tracer",
]
"#;

/// The filter of a profile with each "allow" turned into a question to whoever holds its listener.
fn asking(profile: &Profile) -> Vec<u8> {
    /// `BPF_RET | BPF_K` (linux/bpf_common.h).
    const RETURN: u16 = 0x06;
    /// `SECCOMP_RET_USER_NOTIF` (linux/seccomp.h).
    const ASK: u32 = 0x7fc0_0000;
    let program = profile.compile(Arch::native().unwrap()).unwrap();
    let bytes = program.instructions().iter().flat_map(|instruction| {
        let is_allow = instruction.code == RETURN && instruction.k == Action::Allow.return_value();
        let k = if is_allow { ASK } else { instruction.k };
        let mut bytes = instruction.code.to_ne_bytes().to_vec();
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(k.to_ne_bytes());
        bytes
    });
    bytes.collect()
}

/// What the tracer is told to run, and the runtime of it: with the interpreter's directory, since it is
/// the tracer that is executed first.
fn traced(workload: &Workload) -> (Vec<String>, String) {
    let mut arguments = vec!["/plugin/filter".to_owned()];
    let mut section_of = String::new();
    if let Some(runtime) = &workload.runtime {
        let interpreter = runtime.interpreter.as_ref().unwrap();
        let (directory, _) = interpreter.rsplit_once('/').unwrap();
        let mut around = runtime.clone();
        around.interpreter = None;
        around.args.clear();
        around.paths.push(directory.to_owned());
        section_of = section(&around);
        arguments.push(interpreter.clone());
        arguments.extend(runtime.args.iter().cloned());
    }
    arguments.push("/plugin/entry".to_owned());
    (arguments, section_of)
}

/// A runtime as a policy has it.
pub(crate) fn section(runtime: &Runtime) -> String {
    let mut policy = toml::Table::new();
    policy.insert("runtime".into(), toml::Value::try_from(runtime).unwrap());
    policy.to_string()
}

fn policy(entry: &str, args: &[String], profile: &str, more: &str) -> String {
    format!(
        "schema = 1\ndialect = \"goatflow\"\nentry = {entry:?}\nargs = {args:?}\n\
         profile = {profile:?}\n[trust]\nunsigned = true\n{more}"
    )
}

fn launch(machine: &Machine, policy: &str) -> Worked {
    let path = machine.path("policies/worker.toml");
    fs::write(&path, policy).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let (digest, _) = machine.stage("worker").unwrap();
    let launched = machine.launch_with("worker", digest, &[]).unwrap();
    // It may fill either of the two.
    let errors = std::thread::spawn(move || output(launched.stderr));
    let mut text = output(launched.stdout);
    text.push_str(&errors.join().unwrap());
    Worked {
        output: text,
        cause: machine.exited(launched.instance),
    }
}

fn install(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The source of a workload.
pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/launcher/workloads")
        .join(name)
}

fn tracer() -> &'static Path {
    static TRACER: OnceLock<PathBuf> = OnceLock::new();
    TRACER.get_or_init(|| {
        let built = build("tracer", |output| {
            let mut cc = command("cc");
            cc.args(["-static", "-O1", "-o"])
                .arg(output)
                .arg(source("tracer.c"));
            cc
        });
        built.expect("cc runs: Rust needs it to link")
    })
}

/// The static workload in C, linked by this compiler: `cc` for glibc, `musl-gcc` for musl.
pub(crate) fn static_c(test: &str, compiler: &'static str, name: &'static str) -> Option<Workload> {
    let built = build(name, |output| {
        let mut cc = command(compiler);
        cc.args(["-static", "-O1", "-o"])
            .arg(output)
            .arg(source("static.c"));
        cc
    });
    found(test, compiler, name, built)
}

/// The static workload in Rust.
pub(crate) fn static_rust(test: &str) -> Option<Workload> {
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let built = build("static-rust", |output| {
        let mut rustc = command("rustc");
        rustc.args(["--edition", "2024", "-O", "--target", &target, "-o"]);
        rustc.arg(output).arg(source("static.rs"));
        rustc
    });
    found(test, "rustc", "static-rust", built)
}

/// The workload in Go, without cgo.
pub(crate) fn go(test: &str) -> Option<Workload> {
    let built = build("go", |output| {
        let mut go = command("go");
        go.current_dir(source("go"))
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-mod=mod");
        go.args(["build", "-o"]).arg(output).arg(".");
        go
    });
    found(test, "go", "go", built)
}

fn found(
    test: &str,
    tool: &'static str,
    name: &'static str,
    built: Option<PathBuf>,
) -> Option<Workload> {
    let Some(entry) = built else {
        skip(test, tool, &format!("there is no {tool}"));
        return None;
    };
    Some(Workload {
        name,
        entry,
        runtime: None,
        more: "",
    })
}

/// The workload in Python, run by the system's CPython.
pub(crate) fn python(test: &str) -> Option<Workload> {
    let program = "/usr/bin/python3";
    let library = "import os; print(os.path.dirname(os.__file__))";
    let library = asked(program, &["-I", "-c", library]);
    let Some(mut runtime) = runtime(program, &["-I", "-B"]).filter(|_| library.is_some()) else {
        skip(test, "python3", "there is no /usr/bin/python3");
        return None;
    };
    runtime.paths.extend(library);
    Some(Workload {
        name: "python",
        entry: source("python.py"),
        runtime: Some(runtime),
        more: "",
    })
}

/// The workload in Node, run by the system's.
pub(crate) fn node(test: &str) -> Option<Workload> {
    let Some(runtime) = runtime("/usr/bin/node", &[]) else {
        skip(test, "node", "there is no /usr/bin/node");
        return None;
    };
    Some(Workload {
        name: "node",
        entry: source("node.js"),
        runtime: Some(runtime),
        // The default of the profile `node`, and here of every one.
        more: "write-xor-execute = \"off\"\n",
    })
}

/// The runtime of an interpreter that is linked against the system's C library; none where it is not
/// there.
fn runtime(interpreter: &str, args: &[&str]) -> Option<Runtime> {
    let real = |path: &str| {
        let path = fs::canonicalize(path).ok()?;
        Some(path.to_str()?.to_owned())
    };
    let loader = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let loader = loader.into_iter().find_map(real)?;
    let (libraries, _) = loader.rsplit_once('/')?;
    Some(Runtime {
        interpreter: Some(real(interpreter)?),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        paths: vec![libraries.to_owned()],
        loader: Some(loader),
    })
}

/// What a program prints; none where it is not there.
pub(crate) fn asked(program: &str, args: &[&str]) -> Option<String> {
    let output = command(program).args(args).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn command(program: &str) -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test builds the programs that it lets the launcher start"
    )]
    Command::new(program)
}

/// Builds a workload; none where there is no such compiler. Whole at once: other test runs may be
/// using the result.
fn build(name: &str, command: impl FnOnce(&Path) -> Command) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let built = target.join(format!("workload-{name}"));
    let own = std::thread::current().id();
    let fresh = target.join(format!("workload-{name}-{}-{own:?}", std::process::id()));
    match command(&fresh).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{name}: {error}"),
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {errors}");
            fs::rename(fresh, &built).unwrap();
            Some(built)
        }
    }
}
