//! How instances end, and what is told of it.

use pinfold_sandbox::protocol::{ExitCause, KillHow};

use crate::machine::{Machine, has_root, lines_until, output};

/// Runs a plugin that ends by itself, and gives the cause.
fn end_of(machine: &Machine, plugin: &str, args: &[&str], more: &str) -> ExitCause {
    let launched = machine.run(plugin, args, more).unwrap();
    machine.exited(launched.instance)
}

#[test]
fn exit_codes_and_signals_are_told_apart() {
    if !has_root("exit_codes_and_signals_are_told_apart") {
        return;
    }
    let machine = Machine::start();
    let launched = machine.run("code", &["say=here", "exit=3"], "").unwrap();
    assert_eq!(output(launched.stdout), "here\n");
    assert_eq!(machine.exited(launched.instance), ExitCause::Code(3));
    assert_eq!(
        end_of(&machine, "zero", &["exit=0"], ""),
        ExitCause::Code(0)
    );
    let segv = format!("signal={}", libc::SIGSEGV);
    assert_eq!(
        end_of(&machine, "segv", &[&segv], ""),
        ExitCause::Signal(libc::SIGSEGV)
    );
}

#[test]
fn a_call_that_no_plugin_may_make_ends_it_as_refused() {
    if !has_root("a_call_that_no_plugin_may_make_ends_it_as_refused") {
        return;
    }
    let machine = Machine::start();
    let cause = end_of(&machine, "mount", &["mount", "exit=0"], "");
    let ExitCause::SyscallRefused(Some(call)) = cause else {
        panic!("{cause:?}");
    };
    assert_eq!(call.name(), Some("mount"));
    assert_eq!(
        cause.to_string(),
        "made a system call that is refused: mount"
    );
    // The launcher's own filter refuses this one as well; the profile's answer stands.
    let told = end_of(&machine, "swapoff", &["swapoff", "exit=0"], "").to_string();
    assert_eq!(told, "made a system call that is refused: swapoff");
    // Where names are not wanted the kernel kills, and tells no more than that.
    let off = "[controls]\nsyscall-names = 'off'\n";
    let cause = end_of(&machine, "unnamed", &["mount", "exit=0"], off);
    assert_eq!(cause, ExitCause::SyscallRefused(None));
}

#[test]
fn a_file_over_its_limit_ends_the_plugin_with_the_limits_name() {
    if !has_root("a_file_over_its_limit_ends_the_plugin_with_the_limits_name") {
        return;
    }
    let machine = Machine::start();
    let more = "[limits]\nfile-size = \"1MiB\"\n";
    let ExitCause::Limit(limit) = end_of(&machine, "fill", &["fill=1"], more) else {
        panic!("another cause");
    };
    assert!(limit.contains("RLIMIT_FSIZE"), "{limit}");
}

#[test]
fn a_memory_hog_ends_as_out_of_memory_and_its_neighbour_goes_on() {
    if !has_root("a_memory_hog_ends_as_out_of_memory_and_its_neighbour_goes_on") {
        return;
    }
    let machine = Machine::start();
    let neighbour = machine.run("neighbour", &["wait"], "").unwrap();
    let more = "[limits]\nmemory = \"32MiB\"\ntmp = \"4MiB\"\n";
    let hog = ["hog=64", "exit=0"];
    assert_eq!(end_of(&machine, "hog", &hog, more), ExitCause::OutOfMemory);
    // The same program, given room, comes through: it is the limit that ended it.
    let room = "[limits]\nmemory = \"128MiB\"\n";
    assert_eq!(end_of(&machine, "room", &hog, room), ExitCause::Code(0));
    assert!(machine.stats(neighbour.instance).is_ok());
}

#[test]
fn a_child_out_of_memory_ends_the_whole_jail() {
    if !has_root("a_child_out_of_memory_ends_the_whole_jail") {
        return;
    }
    let machine = Machine::start();
    let more = "[limits]\nmemory = \"32MiB\"\ntmp = \"4MiB\"\n";
    let cause = end_of(&machine, "parent", &["child-hog=64", "wait"], more);
    assert_eq!(cause, ExitCause::OutOfMemory);
}

#[test]
fn a_fork_bomb_meets_its_limit_and_the_jail_dies_whole() {
    if !has_root("a_fork_bomb_meets_its_limit_and_the_jail_dies_whole") {
        return;
    }
    let machine = Machine::start();
    let more = "[limits]\nprocesses = 32\n";
    let launched = machine
        .run("bomb", &["forks", "say=done", "wait"], more)
        .unwrap();
    let lines = lines_until(launched.stdout, "done");
    // The plugin itself is the thirty-second.
    assert_eq!(lines, ["forks=31 Resource temporarily unavailable"]);
    let stats = machine.stats(launched.instance).unwrap();
    assert_eq!(stats.tasks_current, Some(33), "32 and the jail's process 1");
    assert!(stats.tasks_refused >= Some(1));
    machine.kill(launched.instance, KillHow::Kill).unwrap();
    assert_eq!(machine.exited(launched.instance), ExitCause::Killed);
}

#[test]
fn a_plugin_that_is_asked_to_end_ends_with_its_daemonised_children() {
    if !has_root("a_plugin_that_is_asked_to_end_ends_with_its_daemonised_children") {
        return;
    }
    let machine = Machine::start();
    let launched = machine
        .run("daemon", &["daemon", "say=up", "wait"], "")
        .unwrap();
    let instance = launched.instance;
    lines_until(launched.stdout, "up");
    machine.kill(instance, KillHow::Terminate).unwrap();
    assert_eq!(machine.exited(instance), ExitCause::Killed);
}

#[test]
fn a_plugin_that_ignores_sigterm_is_ended_by_force() {
    if !has_root("a_plugin_that_ignores_sigterm_is_ended_by_force") {
        return;
    }
    let machine = Machine::start();
    let launched = machine
        .run("stubborn", &["ignore-term", "say=up", "wait"], "")
        .unwrap();
    let instance = launched.instance;
    lines_until(launched.stdout, "up");
    machine.kill(instance, KillHow::Terminate).unwrap();
    assert!(machine.stats(instance).is_ok(), "it goes on");
    machine.kill(instance, KillHow::Kill).unwrap();
    assert_eq!(machine.exited(instance), ExitCause::Killed);
    assert!(machine.stats(instance).is_err());
}

#[test]
fn statistics_tell_use_and_limits() {
    if !has_root("statistics_tell_use_and_limits") {
        return;
    }
    let machine = Machine::start();
    let more = "[limits]\nmemory = \"64MiB\"\n";
    let launched = machine
        .run("stats", &["hog=8", "say=up", "wait"], more)
        .unwrap();
    lines_until(launched.stdout, "up");
    let stats = machine.stats(launched.instance).unwrap();
    assert_eq!(stats.memory_limit_bytes, Some(64 << 20));
    assert!(stats.memory_current_bytes > Some(8 << 20), "{stats:?}");
    assert!(stats.memory_peak_bytes >= stats.memory_current_bytes);
    assert_eq!(stats.tasks_current, Some(2));
    assert!(stats.cpu_usage_us > Some(0), "{stats:?}");
    assert_eq!(stats.oom_kills, Some(0));
}
