//! The compiled default profile in the kernel: installed on a thread of the tests, or on a process
//! of its own where it kills.
#![expect(
    clippy::disallowed_methods,
    reason = "the test starts itself as a process to be killed"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use rustix::fs::MemfdFlags;

use crate::seccomp::{Arch, Profile, Program, launcher_filter};

/// Puts the calling thread under the default profile, for good.
fn confine() {
    let profile = Profile::builtin("default").unwrap();
    install(&profile.compile(Arch::native().unwrap()).unwrap());
}

fn install(program: &Program) {
    let filter: Vec<_> = program
        .instructions()
        .iter()
        .map(|i| seccompiler::sock_filter {
            code: i.code,
            jt: i.jt,
            jf: i.jf,
            k: i.k,
        })
        .collect();
    seccompiler::apply_filter(&filter).unwrap();
}

/// Runs something twice: free, and on a thread under the profile.
fn free_and_confined<T: Send + 'static>(act: fn() -> T) -> (T, T) {
    let free = std::thread::spawn(act).join().unwrap();
    let confined = std::thread::spawn(move || {
        confine();
        act()
    });
    (free, confined.join().unwrap())
}

#[test]
fn netlink_sockets_are_refused() {
    let (free, confined) = free_and_confined(|| {
        socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::empty(),
            None,
        )
        .map(drop)
    });
    assert_eq!(free, Ok(()));
    assert_eq!(confined, Err(Errno::EAFNOSUPPORT));
}

#[test]
fn memory_files_are_as_on_an_old_kernel() {
    let (free, confined) =
        free_and_confined(|| rustix::fs::memfd_create("probe", MemfdFlags::CLOEXEC).map(drop));
    assert_eq!(free, Ok(()));
    assert_eq!(confined, Err(rustix::io::Errno::NOSYS));
}

#[test]
fn changing_affinity_is_refused() {
    let (free, confined) = free_and_confined(|| {
        let all = rustix::thread::sched_getaffinity(None).unwrap();
        rustix::thread::sched_setaffinity(None, &all)
    });
    assert_eq!(free, Ok(()));
    assert_eq!(confined, Err(rustix::io::Errno::PERM));
}

#[test]
fn an_ordinary_program_notices_nothing() {
    let (free, confined) = free_and_confined(work);
    assert_eq!(free, b"over TCP over a pair from a file".to_vec());
    assert_eq!(confined, free);
}

/// Threads (by clone3, then clone), files, sockets, time.
fn work() -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let peer = std::thread::spawn(move || {
        TcpStream::connect(address)
            .unwrap()
            .write_all(b"over TCP ")
            .unwrap();
    });
    let mut bytes = Vec::new();
    listener
        .accept()
        .unwrap()
        .0
        .read_to_end(&mut bytes)
        .unwrap();
    peer.join().unwrap();

    let (mut one, mut other) = UnixStream::pair().unwrap();
    one.write_all(b"over a pair ").unwrap();
    drop(one);
    other.read_to_end(&mut bytes).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "from a file").unwrap();
    bytes.extend(std::fs::read(&path).unwrap());
    bytes
}

/// Says to a test, started as a process of its own, what it is to do.
const ROLE: &str = "PINFOLD_TEST_SECCOMP_ROLE";

#[test]
fn the_wire_kills_with_sigsys() {
    let act = || {
        let nothing: Option<&str> = None;
        let error = nix::mount::mount(
            nothing,
            "/nonexistent",
            nothing,
            nix::mount::MsFlags::empty(),
            nothing,
        );
        assert!(error.is_err());
    };
    match std::env::var(ROLE).as_deref() {
        Ok("confined") => {
            confine();
            return act();
        }
        Ok(_) => return act(),
        Err(_) => {}
    }
    let run = |role| {
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "seccomp::tests::kernel::the_wire_kills_with_sigsys",
            ])
            .env(ROLE, role)
            .output()
            .unwrap()
            .status
    };
    assert!(run("free").success());
    assert_eq!(run("confined").signal(), Some(libc::SIGSYS));
}

#[test]
fn under_the_launchers_own_filter_what_it_denies_is_as_on_a_kernel_without_it() {
    let change_root = || nix::unistd::chroot("/nowhere");
    let free = std::thread::spawn(change_root).join().unwrap();
    let under = |also_profile: bool| {
        let thread = std::thread::spawn(move || {
            install(&launcher_filter(Arch::native().unwrap()));
            if also_profile {
                confine();
            }
            change_root()
        });
        thread.join().unwrap()
    };
    assert_ne!(free, Err(Errno::ENOSYS));
    assert_eq!(under(false), Err(Errno::ENOSYS));
    // Inside a jail the profile's own answer stands.
    assert_eq!(under(true), Err(Errno::EPERM));
}
