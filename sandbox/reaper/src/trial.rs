//! The program of a trial launch: what the launcher lets run in a whole jail before it believes in its
//! jails. It does what a plugin must not be able to do, and says what came of each act; the launcher
//! knows what should have.
//!
//! It is the reaper's own program with an argument. It has no right that the jail does not give it.

use core::net::{Ipv4Addr, SocketAddrV4};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::sys;
use crate::sys::acts;

/// The argument that asks for a trial.
pub const ARGUMENT: &str = "trial";

/// Host name of the jail of a trial: its plugin's id.
pub const PLUGIN: &str = "trial";

/// The file in its run directory for which it waits before its last act: it has been looked at.
pub const LOOKED_AT: &str = "looked-at";

/// Bytes of one account: the act, then its outcome, little endian.
pub const ACCOUNT_BYTES: usize = 9;

/// Most processes that a trial makes; a jail of one permits far fewer.
pub const PROCESSES_LIMIT: i64 = 64;

macro_rules! acts {
    ($($variant:ident $number:literal $about:literal;)*) => {
        /// One act. Its outcome is a number, or a negative errno.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Act {
            $(#[doc = $about] $variant = $number,)*
        }

        impl Act {
            /// Every act, in the order in which they are done.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// What it is, in words.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)* }
            }
        }
    };
}

acts! {
    ProcessId 1 "its process id";
    UserId 2 "its user id";
    NoNewPrivileges 3 "no_new_privs";
    FilterMode 4 "mode of the filter";
    Capabilities 5 "capabilities that it holds";
    Bounding 6 "capabilities that it could get";
    HostName 7 "whether the host name is the jail's";
    Descriptors 8 "descriptors beyond the standard streams";
    CoreLimit 9 "limit on core dumps";
    HostFile 10 "open /etc/shadow";
    HostTree 11 "open /sys";
    WriteRoot 12 "create a file in /";
    WriteStage 13 "create a file in /plugin";
    WriteTmp 14 "create a file in /tmp";
    ExecuteTmp 15 "execute a file in /tmp";
    ProcKernel 16 "open /proc/sys";
    ProcOther 17 "open /proc/1";
    SignalReaper 18 "signal process 1";
    LinkInRun 19 "make a link in /run/plugin";
    MakeCode 20 "map memory that is writable and executable";
    Loopback 21 "bind to 127.0.0.1";
    Outside 22 "reach 192.0.2.1";
    OtherFamily 23 "make a socket of the virtual machine's family";
    NewNamespace 24 "make a user namespace";
    IoUring 25 "set up an io_uring";
    Uptime 26 "seconds since boot";
    Processes 27 "processes that it can make";
    Tripwire 28 "mount";
}

/// Does every act and says what came of it. The last one should be the end.
pub fn run() -> ! {
    for act in Act::ALL {
        let outcome = perform(*act);
        let mut account = [0; ACCOUNT_BYTES];
        let [number, rest @ ..] = &mut account;
        *number = *act as u8;
        *rest = outcome.to_le_bytes();
        rustix::io::write(sys::fixed(1), &account).unwrap_or_default();
    }
    sys::exit(0)
}

fn perform(act: Act) -> i64 {
    match act {
        Act::ProcessId => rustix::process::getpid().as_raw_nonzero().get().into(),
        Act::UserId => rustix::process::getuid().as_raw().into(),
        Act::NoNewPrivileges => of(rustix::thread::no_new_privs().map(i64::from)),
        Act::FilterMode => of(acts::filter_mode()),
        Act::Capabilities => of(rustix::thread::capabilities(None).map(|sets| {
            let held = sets.effective | sets.permitted | sets.inheritable;
            held.bits().count_ones().into()
        })),
        Act::Bounding => (0..u64::BITS)
            .map(|capability| i64::from(acts::is_bounding(capability)))
            .sum(),
        Act::HostName => {
            let names = rustix::system::uname();
            i64::from(names.nodename().to_bytes() == PLUGIN.as_bytes())
        }
        Act::Descriptors => (3..64).map(|fd| i64::from(acts::is_open(fd))).sum(),
        Act::CoreLimit => {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
            limit
                .maximum
                .map_or(-1, |most| i64::try_from(most).unwrap_or(-1))
        }
        Act::HostFile => open(c"/etc/shadow"),
        Act::HostTree => open(c"/sys"),
        Act::WriteRoot => create(c"/trial"),
        Act::WriteStage => create(c"/plugin/other"),
        Act::WriteTmp => create(c"/tmp/trial"),
        // An empty file: if nothing else refuses, it has no format.
        Act::ExecuteTmp => {
            let none = [core::ptr::null()];
            failed(sys::execute(c"/tmp/trial", &none, &none))
        }
        Act::ProcKernel => open(c"/proc/sys"),
        Act::ProcOther => open(c"/proc/1"),
        Act::SignalReaper => done(acts::may_signal(1)),
        Act::LinkInRun => done(rustix::fs::symlinkat(c"/", CWD, c"/run/plugin/link")),
        Act::MakeCode => done(acts::map_code()),
        Act::Loopback => done(datagrams().and_then(|socket| {
            rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))
        })),
        Act::Outside => done(datagrams().and_then(|socket| {
            // Of no network (RFC 5737); nothing is sent.
            let address = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 9);
            rustix::net::connect(&socket, &address)
        })),
        Act::OtherFamily => {
            let family = AddressFamily::from_raw(VSOCK);
            let flags = SocketFlags::CLOEXEC;
            done(rustix::net::socket_with(family, SocketType::STREAM, flags, None).map(drop))
        }
        Act::NewNamespace => done(sys::unshare(rustix::thread::UnshareFlags::NEWUSER)),
        Act::IoUring => done(acts::io_uring()),
        Act::Uptime => of(sys::seconds_of(libc::CLOCK_BOOTTIME)
            .map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX))),
        Act::Processes => processes(),
        Act::Tripwire => {
            wait_until_looked_at();
            done(acts::mount())
        }
    }
}

/// Longest wait, some seconds, in steps of [`acts::pause`]: after it the launcher has given up.
const PAUSES: u32 = 20_000;

fn wait_until_looked_at() {
    for _ in 0..PAUSES {
        if open_path(c"/run/plugin/looked-at") == 0 {
            return;
        }
        acts::pause();
    }
    sys::exit(0)
}

fn open_path(path: &core::ffi::CStr) -> i64 {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    done(rustix::fs::openat(CWD, path, flags, Mode::empty()).map(drop))
}

/// `AF_VSOCK` (linux/socket.h).
const VSOCK: u16 = 40;

fn datagrams() -> Result<rustix::fd::OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)
}

/// Children that end at once and are not waited for, so that each stays one of the jail's tasks.
fn processes() -> i64 {
    let mut made = 0;
    while made < PROCESSES_LIMIT {
        match acts::fork_and_end() {
            Ok(()) => made += 1,
            Err(Errno::AGAIN) => return made,
            Err(errno) => return failed(errno),
        }
    }
    made
}

fn open(path: &core::ffi::CStr) -> i64 {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    done(rustix::fs::openat(CWD, path, flags, Mode::empty()).map(drop))
}

fn create(path: &core::ffi::CStr) -> i64 {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    done(rustix::fs::openat(CWD, path, flags, Mode::from_raw_mode(0o700)).map(drop))
}

fn done(result: Result<(), Errno>) -> i64 {
    of(result.map(|()| 0))
}

fn of(result: Result<i64, Errno>) -> i64 {
    result.unwrap_or_else(failed)
}

fn failed(errno: Errno) -> i64 {
    -i64::from(errno.raw_os_error())
}
