//! System call names and their numbers on each architecture.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::Arch;

/// The number of the call with this kernel name on this architecture; `None` where the
/// architecture does not have it, or no call has this name.
#[must_use]
pub fn number(arch: Arch, name: &str) -> Option<u32> {
    TABLES[index(arch)].by_name.get(name).copied()
}

/// The kernel's name of a call number, for the causes of exits, `explain` and posture.
#[must_use]
pub fn syscall_name(arch: Arch, number: u32) -> Option<&'static str> {
    TABLES[index(arch)].by_number.get(&number).copied()
}

/// The call that a name was probably meant to be.
#[must_use]
pub fn nearest_syscall(name: &str) -> Option<&'static str> {
    pinfold_policy::nearest(name, names())
}

/// Every call name of the table, sorted.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    rows().map(|(name, _)| name)
}

struct Table {
    by_name: HashMap<&'static str, u32>,
    by_number: HashMap<u32, &'static str>,
}

const TEXT: &str = include_str!("../../profiles/syscalls.txt");

static TABLES: LazyLock<[Table; 2]> = LazyLock::new(|| [table(0), table(1)]);

/// The column of an architecture in the table file.
const fn index(arch: Arch) -> usize {
    match arch {
        Arch::X86_64 => 0,
        Arch::Aarch64 => 1,
    }
}

fn table(column: usize) -> Table {
    let mut table = Table {
        by_name: HashMap::new(),
        by_number: HashMap::new(),
    };
    for (name, numbers) in rows() {
        if let Some(number) = numbers[column] {
            table.by_name.insert(name, number);
            table.by_number.insert(number, name);
        }
    }
    table
}

fn rows() -> impl Iterator<Item = (&'static str, [Option<u32>; 2])> {
    TEXT.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut fields = line.split(' ');
            let mut field = || {
                fields
                    .next()
                    .expect("each row of the compiled-in table has 3 fields")
            };
            let name = field();
            let mut number = || match field() {
                "-" => None,
                text => Some(
                    text.parse()
                        .expect("the compiled-in table holds decimal numbers"),
                ),
            };
            (name, [number(), number()])
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// libc's constants are the second source; they are of the architecture that the tests run
    /// on. The list is every call that the default profile decides on and libc names.
    macro_rules! assert_as_in_libc {
        ($($name:ident)*) => {
            $(
                let expected = u32::try_from(libc::$name).unwrap();
                let name = stringify!($name).strip_prefix("SYS_").unwrap();
                assert_eq!(number(Arch::native().unwrap(), name), Some(expected), "{name}");
            )*
        };
    }

    #[test]
    fn numbers_are_those_of_libc() {
        assert_as_in_libc!(
            SYS_accept SYS_accept4 SYS_acct SYS_add_key SYS_adjtimex SYS_bind SYS_bpf SYS_brk
            SYS_capget SYS_capset SYS_chdir SYS_chroot SYS_clock_adjtime SYS_clock_getres
            SYS_clock_gettime SYS_clock_nanosleep SYS_clock_settime SYS_clone SYS_clone3 SYS_close
            SYS_close_range SYS_connect SYS_copy_file_range SYS_delete_module SYS_dup SYS_dup3
            SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2
            SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_faccessat SYS_faccessat2
            SYS_fadvise64 SYS_fallocate SYS_fanotify_init SYS_fanotify_mark SYS_fchdir SYS_fchmod
            SYS_fchmodat SYS_fchown SYS_fchownat SYS_fcntl SYS_fdatasync SYS_fgetxattr
            SYS_finit_module SYS_flistxattr SYS_flock SYS_fremovexattr SYS_fsconfig SYS_fsetxattr
            SYS_fsmount SYS_fsopen SYS_fspick SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate
            SYS_futex SYS_futex_waitv SYS_get_mempolicy SYS_get_robust_list SYS_getcpu SYS_getcwd
            SYS_getdents64 SYS_getegid SYS_geteuid SYS_getgid SYS_getgroups SYS_getitimer
            SYS_getpeername SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority SYS_getrandom
            SYS_getresgid SYS_getresuid SYS_getrusage SYS_getsid SYS_getsockname SYS_getsockopt
            SYS_gettid SYS_gettimeofday SYS_getuid SYS_getxattr SYS_init_module
            SYS_inotify_add_watch SYS_inotify_init1 SYS_inotify_rm_watch SYS_io_uring_enter
            SYS_io_uring_register SYS_io_uring_setup SYS_ioctl SYS_ioprio_set SYS_kcmp
            SYS_kexec_load SYS_keyctl SYS_kill SYS_landlock_add_rule SYS_landlock_create_ruleset
            SYS_landlock_restrict_self SYS_lgetxattr SYS_linkat SYS_listen SYS_listxattr
            SYS_llistxattr SYS_lremovexattr SYS_lseek SYS_lsetxattr SYS_madvise SYS_mbind
            SYS_membarrier SYS_memfd_create SYS_memfd_secret SYS_migrate_pages SYS_mincore
            SYS_mkdirat SYS_mknodat SYS_mlock SYS_mlock2 SYS_mlockall SYS_mmap SYS_mount
            SYS_mount_setattr SYS_move_mount SYS_move_pages SYS_mprotect SYS_mq_open SYS_mremap
            SYS_mseal SYS_msgget SYS_msync SYS_munlock SYS_munlockall SYS_munmap
            SYS_name_to_handle_at SYS_nanosleep SYS_newfstatat SYS_open_by_handle_at SYS_open_tree
            SYS_openat SYS_openat2 SYS_perf_event_open SYS_personality SYS_pidfd_getfd
            SYS_pidfd_open SYS_pidfd_send_signal SYS_pipe2 SYS_pivot_root SYS_pkey_alloc SYS_ppoll
            SYS_prctl SYS_pread64 SYS_preadv SYS_preadv2 SYS_prlimit64 SYS_process_madvise
            SYS_process_mrelease SYS_process_vm_readv SYS_process_vm_writev SYS_pselect6
            SYS_ptrace SYS_pwrite64 SYS_pwritev SYS_pwritev2 SYS_quotactl SYS_quotactl_fd SYS_read
            SYS_readlinkat SYS_readv SYS_reboot SYS_recvfrom SYS_recvmmsg SYS_recvmsg
            SYS_removexattr SYS_renameat2 SYS_request_key SYS_restart_syscall SYS_rseq
            SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigqueueinfo
            SYS_rt_sigreturn SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo
            SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_sched_getaffinity
            SYS_sched_getparam SYS_sched_getscheduler SYS_sched_setaffinity SYS_sched_setattr
            SYS_sched_yield SYS_seccomp SYS_semget SYS_sendfile SYS_sendmmsg SYS_sendmsg
            SYS_sendto SYS_set_mempolicy SYS_set_mempolicy_home_node SYS_set_robust_list
            SYS_set_tid_address SYS_setdomainname SYS_setfsgid SYS_setfsuid SYS_setgid
            SYS_setgroups SYS_sethostname SYS_setitimer SYS_setns SYS_setpgid SYS_setpriority
            SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid SYS_setsid SYS_setsockopt
            SYS_settimeofday SYS_setuid SYS_setxattr SYS_shmget SYS_shutdown SYS_sigaltstack
            SYS_signalfd4 SYS_socket SYS_socketpair SYS_splice SYS_statfs SYS_statx SYS_swapoff
            SYS_swapon SYS_symlinkat SYS_sysinfo SYS_syslog SYS_tee SYS_tgkill SYS_timer_create
            SYS_timerfd_create SYS_times SYS_tkill SYS_truncate SYS_umask SYS_umount2 SYS_uname
            SYS_unlinkat SYS_unshare SYS_userfaultfd SYS_utimensat SYS_vhangup SYS_vmsplice
            SYS_wait4 SYS_waitid SYS_write SYS_writev
        );
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn numbers_of_the_older_x86_calls_are_those_of_libc() {
        assert_as_in_libc!(
            SYS_access SYS_alarm SYS_arch_prctl SYS_chmod SYS_chown SYS_creat SYS_dup2
            SYS_epoll_create SYS_epoll_wait SYS_eventfd SYS_fork SYS_getdents SYS_getpgrp
            SYS_getrlimit SYS_inotify_init SYS_ioperm SYS_iopl SYS_kexec_file_load SYS_lchown
            SYS_link SYS_lstat SYS_mkdir SYS_mknod SYS_modify_ldt SYS_open SYS_pause SYS_pipe
            SYS_poll SYS_readlink SYS_rename SYS_renameat SYS_rmdir SYS_select SYS_setrlimit
            SYS_stat SYS_symlink SYS_sync_file_range SYS_time SYS_unlink SYS_utime SYS_utimes
            SYS_vfork SYS_fchmodat2
        );
    }

    #[test]
    fn no_number_stands_twice() {
        for arch in Arch::ALL {
            let numbers = rows().filter(|(_, row)| row[index(arch)].is_some()).count();
            assert_eq!(TABLES[index(arch)].by_number.len(), numbers, "{arch}");
        }
    }

    #[test]
    fn a_call_that_an_architecture_lacks_has_no_number_there() {
        assert_eq!(number(Arch::Aarch64, "open"), None);
        assert_eq!(number(Arch::Aarch64, "openat"), Some(56));
        assert_eq!(syscall_name(Arch::Aarch64, 56), Some("openat"));
        assert_eq!(syscall_name(Arch::X86_64, 56), Some("clone"));
        assert_eq!(syscall_name(Arch::X86_64, 100_000), None);
        assert_eq!(number(Arch::X86_64, "umount"), None);
    }
}
