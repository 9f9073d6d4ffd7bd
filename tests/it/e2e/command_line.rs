//! The command line `pinfold` on an installation, whether its daemon runs or not.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use pinfold_tests::binary;
use serde_json::Value;

/// The command, for who wants to start it otherwise. No answer is to be had from its standard input.
pub(super) fn command(base: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("pinfold"));
    command.arg("--dev-dir").arg(base).args(arguments);
    command.stdin(Stdio::null());
    command.env_remove("GOATFLOW_REQUIRE_SIGNATURES");
    command
}

/// Runs it to its end.
pub(super) fn pinfold(base: &Path, arguments: &[&str]) -> Output {
    command(base, arguments).output().unwrap()
}

/// Status and everything printed, for people.
pub(super) fn said(output: &Output) -> String {
    let [out, error] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    format!("{}: {out}{error}", output.status)
}

/// The result of one that is to succeed.
#[track_caller]
pub(super) fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The same, as JSON.
#[track_caller]
pub(super) fn json(output: &Output) -> Value {
    serde_json::from_str(&printed(output)).unwrap()
}
