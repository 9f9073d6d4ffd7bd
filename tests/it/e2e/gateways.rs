//! The gateways that `make bench` compares do the same work: one request, the same answer.

use std::path::Path;

use pinfold_tests::bench::group::Groups;
use pinfold_tests::bench::process::{LIMIT, Process};
use pinfold_tests::bench::request::Server;
use pinfold_tests::{binary, go_fixture, scratch};
use serde_json::Value;

use super::process;
use super::setup::Setup;

/// The one request; the limit answers no other. The status of the answer, and its JSON.
fn request(server: &Server) -> (u16, Value) {
    let text = "x".repeat(100);
    let path = format!("/api/plugins/bench/open?text={text}");
    let answer = server.get(&path).unwrap();
    (answer.status, answer.json().unwrap())
}

/// The answer of a program that says first where it listens, and ends as `end` has it.
fn answer_of(mut program: Process, end: impl FnOnce(u32)) -> (u16, Value) {
    let address = program.line(LIMIT).unwrap().parse().unwrap();
    let answer = request(&Server::Tcp(address));
    end(program.id());
    program.end().unwrap();
    answer
}

#[test]
fn every_gateway_that_is_measured_gives_the_same_answer() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().plugin("bench", "goatflow-bench").start();
    let super::http::Server::Tcp(address) = daemon.http() else {
        panic!("the gateway listens at an address");
    };
    let ours = request(&Server::Tcp(*address));
    assert_eq!((ours.0, &ours.1["_method"]), (200, &Value::from("GET")));

    // A plugin's name is its file's.
    let place = scratch();
    let program = place.path().join("bench");
    std::os::unix::fs::symlink(go_fixture("goatflow-bench"), &program).unwrap();
    let mut go = std::process::Command::new(go_fixture("host"));
    go.args(["-listen", "127.0.0.1:0"]).arg(&program);
    let go = Process::start("the Go gateway", go).unwrap();
    let terminate = |pid| process::signal(pid, nix::sys::signal::Signal::SIGTERM);
    assert_eq!(answer_of(go, terminate), ours);
    // It ends with its standard input.
    assert_eq!(answer_of(subject(&program), |_| ()), ours);
}

/// The limit, as the benchmark starts it.
fn subject(plugin: &Path) -> Process {
    let group = Groups::none(binary("bench")).make().unwrap();
    let command = group.subject("gateway", plugin.to_str().unwrap());
    Process::start("the limit", command).unwrap()
}
