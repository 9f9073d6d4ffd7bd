//! The launcher as its daemon sees it: real requests, real jails, real kernel.

#[path = "launcher/machine.rs"]
mod machine;

use pinfold_sandbox::protocol::{ExitCause, KillHow};

use machine::{Machine, has_root, output};

#[test]
fn a_program_runs_and_its_exit_code_is_told() {
    if !has_root("a_program_runs_and_its_exit_code_is_told") {
        return;
    }
    let machine = Machine::start();
    let launched = machine.run("hello", &["say=here", "exit=3"], "").unwrap();
    assert_eq!(output(launched.stdout), "here\n");
    assert_eq!(machine.exited(launched.instance), ExitCause::Code(3));
    assert!(machine.kill(launched.instance, KillHow::Kill).is_err());
}
