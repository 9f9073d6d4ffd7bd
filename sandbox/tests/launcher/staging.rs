//! Traps in a plugin's directory, and the memory that stages take.

use std::fs;
use std::io::{Seek, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use pinfold_sandbox::protocol::FailureKind;

use crate::machine::{Machine, Setup, has_root};

/// Puts a trap into a plugin's directory, and gives what the launcher says of it.
fn trapped(trap: impl FnOnce(&std::path::Path)) -> String {
    let machine = Machine::start();
    let directory = machine.add_plugin("hello");
    machine
        .stage("hello")
        .expect("without the trap it is staged");
    trap(&directory);
    let failure = machine.stage("hello").unwrap_err();
    assert_eq!(failure.kind, FailureKind::Stage, "{failure}");
    failure.message
}

fn assert_says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} in {message}");
    }
}

#[test]
fn symbolic_links_are_refused_wherever_they_lead() {
    if !has_root("symbolic_links_are_refused_wherever_they_lead") {
        return;
    }
    let message = trapped(|directory| symlink("/etc/shadow", directory.join("link")).unwrap());
    assert_says(&message, &["\"link\"", "symbolic link"]);
    let message = trapped(|directory| symlink("probe", directory.join("inner")).unwrap());
    assert_says(&message, &["\"inner\"", "symbolic link"]);
    let message = trapped(|directory| {
        let moved = directory.with_file_name("moved");
        fs::rename(directory, &moved).unwrap();
        symlink(&moved, directory).unwrap();
    });
    assert_says(&message, &["hello"]);
}

#[test]
fn fifos_and_sockets_are_refused_and_hold_nobody_up() {
    if !has_root("fifos_and_sockets_are_refused_and_hold_nobody_up") {
        return;
    }
    let message = trapped(|directory| {
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o644);
        nix::unistd::mkfifo(&directory.join("fifo"), mode).unwrap();
    });
    assert_says(&message, &["\"fifo\"", "FIFO"]);
    let message = trapped(|directory| {
        std::os::unix::net::UnixListener::bind(directory.join("socket")).unwrap();
    });
    assert_says(&message, &["\"socket\" is a socket"]);
}

#[test]
fn too_many_too_deep_and_too_large_are_refused_with_the_limit() {
    if !has_root("too_many_too_deep_and_too_large_are_refused_with_the_limit") {
        return;
    }
    let message = trapped(|directory| {
        for number in 0..4096 {
            fs::write(directory.join(number.to_string()), "").unwrap();
        }
    });
    assert_says(&message, &["over 4096 files and directories"]);
    let message = trapped(|directory| {
        fs::create_dir_all(directory.join(["d"; 17].join("/"))).unwrap();
    });
    assert_says(&message, &["over 16 directories deep"]);
    let message = trapped(|directory| {
        let file = fs::File::create(directory.join("z-huge")).unwrap();
        file.set_len(64 * 1024 * 1024).unwrap();
    });
    assert_says(&message, &["\"z-huge\" has 67108864 bytes", "64MiB"]);
}

#[test]
fn what_the_daemon_may_not_read_is_not_read_for_it() {
    if !has_root("what_the_daemon_may_not_read_is_not_read_for_it") {
        return;
    }
    let message = trapped(|directory| {
        let secret = directory.join("secret");
        fs::write(&secret, "root's alone").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    });
    assert_says(&message, &["\"secret\"", "ermission denied"]);
}

#[test]
fn a_mount_in_the_directory_is_refused() {
    if !has_root("a_mount_in_the_directory_is_refused") {
        return;
    }
    // The launcher has a mount table of its own, so a mount made now would not be seen. But in `/`
    // there is one already: `proc` is a directory on another file system.
    let machine = Machine::start();
    let path = |name: &str| machine.path(name).display().to_string();
    let text = fs::read_to_string(machine.path("launcher.toml"))
        .unwrap()
        .replace(&path("plugins"), "/")
        .replace(&path("state"), &path("other-state"));
    let config = machine.path("other.toml");
    fs::write(&config, text).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    let launcher = std::path::Path::new(env!("CARGO_BIN_EXE_pinfold-launcher"));
    let (client, mut child) =
        pinfold_sandbox::client::spawn(launcher, &config, std::iter::empty::<&str>()).unwrap();
    let request = pinfold_sandbox::protocol::Request::Stage {
        plugin: crate::machine::id("proc"),
    };
    let error = client.call(&request, crate::machine::PATIENCE).unwrap_err();
    assert_says(&error.to_string(), &["/proc", "cross-device"]);
    drop(client);
    child.wait().unwrap();
}

#[test]
fn a_file_that_changes_under_the_copy_is_staged_whole_or_refused() {
    if !has_root("a_file_that_changes_under_the_copy_is_staged_whole_or_refused") {
        return;
    }
    let machine = Machine::start();
    let directory = machine.add_plugin("hello");
    let path = directory.join("growing");
    const SIZE: u64 = 8 * 1024 * 1024;
    fs::write(&path, vec![b'a'; usize::try_from(SIZE).unwrap()]).unwrap();
    let stop = AtomicBool::new(false);
    let (mut staged, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::File::options().write(true).open(&path).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.set_len(SIZE / 2).unwrap();
                file.set_len(SIZE + 1).unwrap();
                file.rewind().unwrap();
                file.write_all(b"changed").unwrap();
            }
        });
        for _ in 0..20 {
            match machine.stage("hello") {
                Ok((_, root)) => {
                    staged += 1;
                    let copy = rustix::fs::statat(&root, "growing", rustix::fs::AtFlags::empty());
                    let size = u64::try_from(copy.unwrap().st_size).unwrap();
                    assert!([SIZE, SIZE / 2, SIZE + 1].contains(&size), "{size}");
                }
                Err(failure) => {
                    refused += 1;
                    assert_eq!(failure.kind, FailureKind::Stage);
                    assert_says(&failure.message, &["\"growing\" had", "when it was read"]);
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(staged + refused, 20);
    assert!(refused > 0, "the race was never run into");
}

#[test]
fn many_requests_at_once_are_all_answered() {
    if !has_root("many_requests_at_once_are_all_answered") {
        return;
    }
    use pinfold_sandbox::protocol::{Incoming, Request};
    let machine = Machine::start();
    machine.add_plugin("hello");
    for id in 1..=50 {
        let plugin = crate::machine::id("hello");
        machine.client.send(id, &Request::Stage { plugin }).unwrap();
    }
    let mut answered: Vec<u32> = (0..50)
        .map(|_| match machine.client.receive().unwrap() {
            Incoming::Reply { id, result } => {
                result.unwrap();
                id
            }
            other => panic!("{other:?}"),
        })
        .collect();
    answered.sort_unstable();
    assert_eq!(answered, (1..=50).collect::<Vec<u32>>());
}

/// A launcher whose stages may take so much memory.
fn with_memory(size: &str) -> Machine {
    Machine::with(Setup {
        config: &format!("stages-memory = \"{size}\"\n"),
        ..Setup::default()
    })
}

/// The plugins that have stages, by name.
fn staged(machine: &Machine) -> Vec<String> {
    let stages = machine.posture(None).stages.into_iter();
    let mut names: Vec<String> = stages.map(|stage| stage.plugin).collect();
    names.sort();
    names
}

#[test]
fn what_removed_plugins_have_left_makes_room_and_what_is_there_or_runs_stays() {
    if !has_root("what_removed_plugins_have_left_makes_room_and_what_is_there_or_runs_stays") {
        return;
    }
    let machine = with_memory("12MiB");
    let _launched = machine.run("runs", &["wait"], "").unwrap();
    fs::remove_dir_all(machine.path("plugins").join("runs")).unwrap();
    // Three of them fit beside that one, a fourth does not.
    let add = |name: &str| {
        let directory = machine.path("plugins").join(name);
        fs::create_dir(&directory).unwrap();
        let content = name.repeat(3 * 1024 * 1024 / name.len());
        fs::write(directory.join("large"), content).unwrap();
        directory
    };
    for number in 0..6 {
        let name = format!("gone-{number}");
        let directory = add(&name);
        machine.stage(&name).unwrap();
        fs::remove_dir_all(directory).unwrap();
    }
    for name in ["a", "b", "c"] {
        add(name);
        machine.stage(name).unwrap();
    }
    add("d");
    let failure = machine.stage("d").unwrap_err();
    assert_eq!(failure.kind, FailureKind::Host, "{failure}");
    assert_says(&failure.message, &["no room", "stages-memory"]);
    assert_eq!(staged(&machine), ["a", "b", "c", "runs"]);
    fs::remove_dir_all(machine.path("plugins").join("a")).unwrap();
    machine.stage("d").unwrap();
    assert_eq!(staged(&machine), ["b", "c", "d", "runs"]);
}

#[test]
fn files_of_one_byte_count_as_the_memory_that_they_take() {
    if !has_root("files_of_one_byte_count_as_the_memory_that_they_take") {
        return;
    }
    let machine = with_memory("8MiB");
    let directory = machine.path("plugins").join("many");
    fs::create_dir(&directory).unwrap();
    let add = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            fs::write(directory.join(number.to_string()), "a").unwrap();
        }
    };
    add(0..1000);
    machine.stage("many").unwrap();
    // A page each, and what the kernel has of each.
    let counted = machine.posture(None).stages[0].bytes;
    assert!(counted >= 1000 * (4096 + 1024), "{counted}");
    add(1000..2000);
    let failure = machine.stage("many").unwrap_err();
    assert_eq!(failure.kind, FailureKind::Host, "{failure}");
    assert_says(&failure.message, &["no room", "stages-memory"]);
}
