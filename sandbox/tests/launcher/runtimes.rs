//! Runtimes: what of the host a policy gives a plugin to run on, and what of it is refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use pinfold_policy::{Control, Runtime};
use pinfold_sandbox::posture::ControlState;
use pinfold_sandbox::protocol::{ExitCause, FailureKind};

use crate::machine::{Machine, has_root, output};
use crate::skip::skip;
use crate::workloads;

/// Prints what becomes of one act each, and ends.
const SCRIPT: &str = r#"
import errno, os, shutil, subprocess, sys

def tried(name, act):
    try:
        print(name, act(), flush=True)
    except OSError as error:
        print(name, errno.errorcode[error.errno], flush=True)

def run(*command):
    return subprocess.run(command, capture_output=True).returncode

def write(path):
    return os.close(os.open(path, os.O_WRONLY | os.O_CREAT))

print("arguments", len(sys.argv), os.path.basename(sys.executable).startswith("python"))
tried("itself", lambda: run(sys.executable, "-I", "-c", ""))
tried("the-entry", lambda: run(sys.argv[0]))
tried("another-file", lambda: run("/plugin/other"))
tried("a-library", lambda: run(os.path.join(sys.argv[1], "libc.so.6")))
tried("by-the-loader", lambda: run(sys.argv[2], sys.executable, "-I", "-c", ""))
own = shutil.copy(sys.executable, os.environ["TMPDIR"])
tried("a-copy", lambda: run(own, "-I", "-c", ""))
tried("a-copy-by-the-loader", lambda: run(sys.argv[2], own, "-I", "-c", ""))
tried("the-shell", lambda: run("/bin/sh", "-c", ""))
tried("write-interpreter", lambda: write(sys.executable))
tried("write-beside", lambda: write(sys.argv[1] + "/x"))
tried("write-entry", lambda: write(sys.argv[0]))
tried("another-directory", lambda: os.listdir("/usr/share"))
tried("etc", lambda: os.listdir("/etc/ssl/private"))
"#;

/// A plugin that is a script, with a policy that runs it on this runtime.
fn add_script(machine: &Machine, runtime: &Runtime, args: &[&str]) {
    let directory = machine.path("plugins/script");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("script.py"), SCRIPT).unwrap();
    fs::write(directory.join("other"), "#!/plugin/script.py\n").unwrap();
    fs::set_permissions(directory.join("other"), fs::Permissions::from_mode(0o755)).unwrap();
    add_policy(machine, &workloads::section(runtime), args, "");
}

fn add_policy(machine: &Machine, runtime: &str, args: &[&str], more: &str) {
    let text = format!(
        "schema = 1\ndialect = \"goatflow\"\nentry = \"script.py\"\nargs = {args:?}\n\
         profile = \"python\"\n[trust]\nunsigned = true\n{runtime}{more}"
    );
    let path = machine.path("policies/script.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
}

fn python(test: &str) -> Option<Runtime> {
    if !has_root(test) {
        return None;
    }
    workloads::python(test)?.runtime
}

#[test]
fn a_script_runs_on_the_runtime_of_its_policy_and_nothing_else_of_it_is_executed() {
    let test = "a_script_runs_on_the_runtime_of_its_policy_and_nothing_else_of_it_is_executed";
    let Some(runtime) = python(test) else {
        return;
    };
    let machine = Machine::start();
    let controls = machine.posture(None).controls;
    let is_confined = |one: &ControlState| one.id == Control::Landlock && one.state.satisfies();
    if !controls.iter().any(is_confined) {
        skip(test, "landlock", "the kernel has no Landlock");
        return;
    }
    let libraries = runtime.paths[0].as_str();
    let loader = runtime.loader.as_deref().unwrap();
    add_script(&machine, &runtime, &[libraries, loader]);
    let (digest, _) = machine.stage("script").unwrap();
    let launched = machine.launch_with("script", digest, &[]).unwrap();
    assert!(
        !launched.missing.contains(&"landlock".to_owned()),
        "{:?}",
        launched.missing
    );
    let text = output(launched.stdout);
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "arguments 3 True",
            "itself 0",
            "the-entry EACCES",
            "another-file EACCES",
            "a-library EACCES",
            // The loader maps the program like a library, which Landlock does not see; not from where
            // the plugin can write.
            "by-the-loader 0",
            "a-copy EACCES",
            "a-copy-by-the-loader 127",
            "the-shell ENOENT",
            "write-interpreter EACCES",
            "write-beside EROFS",
            "write-entry EROFS",
            "another-directory ENOENT",
            "etc ENOENT",
        ],
        "{}",
        output(launched.stderr)
    );
    assert_eq!(machine.exited(launched.instance), ExitCause::Code(0));
}

#[test]
fn a_posture_shows_each_path_of_the_runtime_with_its_owner() {
    let test = "a_posture_shows_each_path_of_the_runtime_with_its_owner";
    let Some(mut runtime) = python(test) else {
        return;
    };
    let machine = Machine::start();
    runtime.paths.push("/usr/share/not-there".into());
    add_script(&machine, &runtime, &[]);
    let posture = machine.posture(Some("script"));
    let interpreter = runtime.interpreter.as_deref().unwrap();
    let of = |path: &str| posture.runtime.iter().find(|one| one.path == path).unwrap();
    let executed = of(interpreter);
    assert!(
        executed.is_executed && executed.found.owner == Some(0),
        "{executed:?}"
    );
    assert_eq!(executed.found.mode.as_deref(), Some("0755"));
    let read = of(&runtime.paths[0]);
    assert!(
        !read.is_executed && read.found.problem.is_empty(),
        "{read:?}"
    );
    let absent = of("/usr/share/not-there");
    assert!(absent.found.problem.contains("not-there") && absent.found.owner.is_none());
    assert_eq!(posture.runtime.len(), runtime.paths.len() + 2);
    assert!(machine.posture(None).runtime.is_empty());
}

/// The refusal of a launch whose policy has this runtime.
fn refused(machine: &Machine, runtime: &str) -> String {
    add_policy(machine, runtime, &[], "");
    let (digest, _) = machine.stage("script").unwrap();
    let failure = machine.launch_with("script", digest, &[]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Policy, "{failure}");
    failure.to_string()
}

#[test]
fn a_runtime_that_others_can_change_or_no_plugin_may_see_is_refused_with_its_path() {
    let test = "a_runtime_that_others_can_change_or_no_plugin_may_see_is_refused_with_its_path";
    if !has_root(test) {
        return;
    }
    let machine = Machine::start();
    let program = machine.add_plugin("script").join("probe");
    fs::write(machine.path("plugins/script/script.py"), "").unwrap();
    // Not beneath /tmp, where a jail has a directory of its own.
    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(place.path(), 0o755);
    let path = |name: &str| place.path().join(name).display().to_string();
    fs::copy(program, path("program")).unwrap();
    mode(Path::new(&path("program")), 0o755);
    fs::create_dir(path("tree")).unwrap();
    fs::write(path("tree/plain"), "").unwrap();
    symlink("program", path("link")).unwrap();
    symlink("tree", path("way")).unwrap();
    let state = machine.path("state").display().to_string();
    let runtime = |interpreter: &str, more: &str| {
        format!("[runtime]\ninterpreter = {interpreter:?}\npaths = [{more}]\n")
    };
    let quoted = |path: &str| format!("{path:?}");
    let (program, tree) = (path("program"), path("tree"));
    for (text, named, why) in [
        (runtime(&path("link"), ""), path("link"), "symbolic link"),
        (runtime(&path("way/plain"), ""), path("way"), "(os error"),
        (runtime(&path("absent"), ""), path("absent"), "No such file"),
        (
            runtime(&path("tree/plain"), ""),
            path("tree/plain"),
            "no program",
        ),
        (runtime(&tree, ""), tree.clone(), "no program"),
        (
            runtime(&program, &quoted(&program)),
            program.clone(),
            "is a program",
        ),
        (
            runtime(&program, &quoted(&path("link"))),
            path("link"),
            "(os error",
        ),
        (
            runtime(&program, "\"/etc/ssl\""),
            "/etc/ssl".into(),
            "any jail",
        ),
        (runtime(&program, "\"/tmp\""), "/tmp".into(), "of its own"),
        (
            runtime(&program, &quoted(&state)),
            state.clone(),
            "of its own",
        ),
        // The uids' leases lie in it.
        (
            runtime(&program, "\"/var/lib\""),
            "/var/lib".into(),
            "no plugin sees",
        ),
    ] {
        let refused = refused(&machine, &text);
        assert!(
            refused.contains(&named) && refused.contains(why),
            "{refused}"
        );
    }
    mode(Path::new(&tree), 0o775);
    let text = runtime(&program, &quoted(&tree));
    let failure = refused(&machine, &text);
    assert!(
        failure.contains("can be written by group or others"),
        "{failure}"
    );
    mode(Path::new(&tree), 0o755);
    std::os::unix::fs::chown(&program, Some(1), None).unwrap();
    let failure = refused(&machine, &text);
    assert!(failure.contains("belongs to uid 1"), "{failure}");
}

#[test]
fn a_program_with_shared_libraries_runs_by_the_loader_of_its_policy() {
    let test = "a_program_with_shared_libraries_runs_by_the_loader_of_its_policy";
    let Some(runtime) = python(test) else {
        return;
    };
    let machine = Machine::start();
    let entry = machine.path("plugins/script/script.py");
    fs::create_dir_all(entry.parent().unwrap()).unwrap();
    fs::copy("/usr/bin/env", &entry).unwrap();
    let linked = Runtime {
        interpreter: None,
        args: vec![],
        ..runtime
    };
    add_policy(&machine, &workloads::section(&linked), &["--version"], "");
    let (digest, _) = machine.stage("script").unwrap();
    let launched = machine.launch_with("script", digest, &[]).unwrap();
    let text = output(launched.stdout);
    assert!(text.starts_with("env (GNU coreutils)"), "{text}");
    assert_eq!(machine.exited(launched.instance), ExitCause::Code(0));
    // Without it there is nothing that could load the program.
    add_policy(&machine, "", &["--version"], "");
    let failure = machine.launch_with("script", digest, &[]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Plugin, "{failure}");
}
