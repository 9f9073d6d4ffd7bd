//! What the tests run inside a jail, and outside for comparison: a static program that does what
//! its arguments say, in order, and prints what came of each, as the act and `ok` or an errno.
//!
//! `rustc` alone builds it, for musl.

use std::env;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_ulong, c_void};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::Command;

fn main() {
    for argument in env::args().skip(1) {
        let (act, rest) = argument.split_once(':').unwrap_or((&argument, ""));
        if !speak(act, rest) {
            match attempt(act, rest) {
                Ok(()) => println!("{argument} ok"),
                Err(error) => println!("{argument} {}", error.raw_os_error().unwrap_or(-1)),
            }
        }
        io::stdout().flush().unwrap();
    }
}

/// Acts that print something of their own, or do not come back.
fn speak(act: &str, rest: &str) -> bool {
    match act {
        "say" => println!("{rest}"),
        "env" => env::vars().for_each(|(name, value)| println!("{name}={value}")),
        "args" => env::args().for_each(|argument| println!("{argument}")),
        "clocks" => {
            let mut seconds = [CLOCK_MONOTONIC, CLOCK_BOOTTIME].map(|clock| {
                let mut now = [0_i64; 2];
                assert_eq!(unsafe { clock_gettime(clock, now.as_mut_ptr()) }, 0);
                now[0].to_string()
            });
            // The first word of what sysinfo(2) says; there are less than 256 bytes of it.
            let mut info = [0_i64; 32];
            assert_eq!(unsafe { sysinfo(info.as_mut_ptr()) }, 0);
            seconds[1] += &format!(" {}", info[0]);
            println!("clocks {}", seconds.join(" "));
        }
        "processors" => {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:"));
            println!("{}", line.unwrap().replace('\t', " "));
        }
        "cwd" => println!("{}", env::current_dir().unwrap().display()),
        "cat" => match fs::read_to_string(rest) {
            Ok(text) => print!("{text}"),
            Err(error) => println!("cat:{rest} {}", error.raw_os_error().unwrap_or(-1)),
        },
        "ls" => {
            let entries = fs::read_dir(rest)
                .unwrap()
                .map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            println!("{}", names.join(" "));
        }
        "fds" => {
            let open = (0..1024).filter(|fd| unsafe { fcntl(*fd, F_GETFD) } != -1);
            println!(
                "{}",
                open.map(|fd| fd.to_string()).collect::<Vec<_>>().join(" ")
            );
        }
        "wait" => loop {
            std::thread::park();
        },
        "exit" => std::process::exit(rest.parse().unwrap()),
        "abort" => std::process::abort(),
        "orphans" => orphans(rest.parse().unwrap()),
        _ => return false,
    }
    true
}

/// Processes that leave their parent, their session and their standard streams.
fn orphans(count: u32) {
    for _ in 0..count {
        if unsafe { fork() } == 0 {
            unsafe { setsid() };
            if unsafe { fork() } == 0 {
                (0..3).for_each(|fd| assert_eq!(unsafe { close(fd) }, 0));
                loop {
                    std::thread::park();
                }
            }
            std::process::exit(0);
        }
    }
}

fn attempt(act: &str, rest: &str) -> io::Result<()> {
    match act {
        "read" => File::open(rest).map(drop),
        "create" => OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(rest)
            .map(drop),
        "write" => OpenOptions::new().write(true).open(rest).map(drop),
        "remove" => fs::remove_file(rest),
        "mkdir" => fs::create_dir(rest),
        "rename" => {
            let (from, to) = rest.split_once(',').unwrap();
            fs::rename(from, to)
        }
        "fifo" => {
            let path = CString::new(rest).unwrap();
            check(unsafe { mkfifo(path.as_ptr(), 0o600) }.into())
        }
        "entropy" => {
            const RNDGETENTCNT: c_ulong = 0x8004_5200;
            let device = File::open(rest)?;
            let mut count: c_int = 0;
            check(unsafe { ioctl(device.as_raw_fd(), RNDGETENTCNT, &raw mut count) }.into())
        }
        "landlock" => {
            // LANDLOCK_CREATE_RULESET_VERSION
            let version = unsafe { syscall(444, std::ptr::null::<c_void>(), 0_usize, 1_u32) };
            match version >= rest.parse().unwrap() {
                true => Ok(()),
                false => Err(io::ErrorKind::Unsupported.into()),
            }
        }
        "link" => std::os::unix::fs::symlink("/etc/passwd", rest),
        "listen" => UnixListener::bind(rest).map(drop),
        "fill" => fill(rest),
        "execute" => execute(rest),
        "spawn" => match Command::new(rest).arg("say:spawned").output()?.stdout {
            said if said == b"spawned\n" => Ok(()),
            _ => Err(io::ErrorKind::Other.into()),
        },
        "make-code" => make_code(PROT_READ | PROT_WRITE | PROT_EXEC, None),
        "turn-to-code" => make_code(PROT_READ | PROT_WRITE, Some(PROT_READ | PROT_EXEC)),
        "execute-memory" => execute_memory(),
        "tcp" => TcpStream::connect(rest).map(drop),
        "tcp-self" => {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            TcpStream::connect(listener.local_addr()?).map(drop)
        }
        "connect" => UnixStream::connect(rest).map(drop),
        "abstract" => UnixStream::connect_addr(&SocketAddr::from_abstract_name(rest)?).map(drop),
        "socket" => {
            let mut numbers = rest.split(',').map(|number| number.parse().unwrap());
            let mut next = || numbers.next().unwrap();
            check(unsafe { socket(next(), next(), next()) }.into())
        }
        "signal" => check(unsafe { kill(rest.parse().unwrap(), 0) }.into()),
        "signal-child" => {
            let mut child = Command::new(env::args().next().unwrap()).arg("wait").spawn()?;
            child.kill()?;
            child.wait().map(drop)
        }
        "mount" => {
            let target = CString::new(rest).unwrap();
            let none = std::ptr::null();
            let kind = c"tmpfs".as_ptr();
            check(unsafe { mount(kind, target.as_ptr(), kind, 0, none) }.into())
        }
        "unshare" => check(unsafe { unshare(rest.parse().unwrap()) }.into()),
        "hostname" => check(unsafe { sethostname(rest.as_ptr().cast(), rest.len()) }.into()),
        "setuid" => check(unsafe { setuid(rest.parse().unwrap()) }.into()),
        "mknod" => {
            let path = CString::new(rest).unwrap();
            const CHARACTER_DEVICE: u32 = 0o020_600;
            const NULL_DEVICE: u64 = 0x103;
            check(unsafe { mknod(path.as_ptr(), CHARACTER_DEVICE, NULL_DEVICE) }.into())
        }
        "chown" => {
            let path = CString::new(rest).unwrap();
            check(unsafe { chown(path.as_ptr(), 0, 0) }.into())
        }
        "nice" => check(unsafe { setpriority(0, 0, rest.parse().unwrap()) }.into()),
        "run-on" => {
            let mut set = [0_u64; 16];
            for number in rest.split(',').map(|number| number.parse::<usize>().unwrap()) {
                set[number / 64] |= 1 << (number % 64);
            }
            check(unsafe { sched_setaffinity(0, size_of_val(&set), set.as_ptr()) }.into())
        }
        "forks" => {
            let mut made = 0;
            let refused = loop {
                match unsafe { fork() } {
                    0 => loop {
                        std::thread::park();
                    },
                    -1 => break io::Error::last_os_error(),
                    _ if made > 1000 => return Ok(()),
                    _ => made += 1,
                }
            };
            Err(refused)
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Writes until there is no room, then says how many KiB went in.
fn fill(path: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let block = [0; 1024];
    for written in 0.. {
        if let Err(error) = file.write_all(&block) {
            println!("wrote {written} KiB");
            return Err(error);
        }
        if written > 256 * 1024 {
            break;
        }
    }
    Ok(())
}

/// Copies itself there and executes the copy, which says so.
fn execute(path: &str) -> io::Result<()> {
    fs::copy("/proc/self/exe", path).or_else(|_| fs::copy(env::args().next().unwrap(), path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    let ran = Command::new(path).arg("say:executed").status()?;
    if ran.success() {
        Ok(())
    } else {
        Err(io::ErrorKind::Other.into())
    }
}

/// A page with these rights, which are then exchanged for others.
fn make_code(rights: c_int, others: Option<c_int>) -> io::Result<()> {
    const PRIVATE_ANONYMOUS: c_int = 0x22;
    let page = unsafe { mmap(std::ptr::null_mut(), 4096, rights, PRIVATE_ANONYMOUS, -1, 0) };
    if page.addr() == usize::MAX {
        return Err(io::Error::last_os_error());
    }
    match others {
        Some(others) => check(unsafe { mprotect(page, 4096, others) }.into()),
        None => Ok(()),
    }
}

const PROT_READ: c_int = 1;
const PROT_WRITE: c_int = 2;
const PROT_EXEC: c_int = 4;

fn execute_memory() -> io::Result<()> {
    let name: &CStr = c"code";
    let file = unsafe { memfd_create(name.as_ptr(), 0) };
    check(file.into())?;
    let path = format!("/proc/self/fd/{file}");
    fs::write(&path, fs::read(env::args().next().unwrap())?)?;
    // Executed in place: a child would find the file busy as long as this process may write to it.
    let error = Command::new(format!("/proc/self/fd/{file}"))
        .arg("say:executed")
        .exec();
    Err(error)
}

fn check(returned: c_long) -> io::Result<()> {
    if returned == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

const F_GETFD: c_int = 1;
const CLOCK_MONOTONIC: c_int = 1;
const CLOCK_BOOTTIME: c_int = 7;

unsafe extern "C" {
    fn chown(path: *const c_char, owner: u32, group: u32) -> c_int;
    fn clock_gettime(clock: c_int, time: *mut i64) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn fork() -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn memfd_create(name: *const c_char, flags: u32) -> c_int;
    fn mkfifo(path: *const c_char, mode: u32) -> c_int;
    fn mknod(path: *const c_char, mode: u32, device: u64) -> c_int;
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn mmap(
        at: *mut c_void,
        length: usize,
        rights: c_int,
        flags: c_int,
        fd: c_int,
        offset: i64,
    ) -> *mut c_void;
    fn mprotect(at: *mut c_void, length: usize, rights: c_int) -> c_int;
    fn sched_setaffinity(pid: c_int, size: usize, set: *const u64) -> c_int;
    fn sethostname(name: *const c_char, length: usize) -> c_int;
    fn setpriority(which: c_int, who: u32, priority: c_int) -> c_int;
    fn setsid() -> c_int;
    fn setuid(uid: u32) -> c_int;
    fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn sysinfo(info: *mut i64) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn unshare(flags: c_int) -> c_int;
}
