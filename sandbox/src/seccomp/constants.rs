//! The names that argument tests may use instead of numbers.

/// The value of a named constant of the kernel's interface. All of them have the same value on
/// every architecture that profiles are compiled for.
#[must_use]
pub fn value(name: &str) -> Option<u64> {
    CONSTANTS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
}

/// `SOCK_TYPE_MASK` of the kernel (linux/net.h): the bits of a socket's type without flags.
const SOCK_TYPE_MASK: u64 = 0xf;

/// Written out, not taken from libc: the same file then compiles profiles for an architecture
/// that this program does not run on. A test compares with libc.
const CONSTANTS: &[(&str, u64)] = &[
    // clone(2)
    ("CLONE_PTRACE", 0x0000_2000),
    ("CLONE_UNTRACED", 0x0080_0000),
    ("CLONE_NEWNS", 0x0002_0000),
    ("CLONE_NEWCGROUP", 0x0200_0000),
    ("CLONE_NEWUTS", 0x0400_0000),
    ("CLONE_NEWIPC", 0x0800_0000),
    ("CLONE_NEWUSER", 0x1000_0000),
    ("CLONE_NEWPID", 0x2000_0000),
    ("CLONE_NEWNET", 0x4000_0000),
    // mmap(2)
    ("MAP_HUGETLB", 0x0004_0000),
    // socket(2)
    ("AF_UNIX", 1),
    ("AF_INET", 2),
    ("AF_INET6", 10),
    ("AF_NETLINK", 16),
    ("AF_PACKET", 17),
    ("AF_ALG", 38),
    ("AF_VSOCK", 40),
    ("AF_XDP", 44),
    ("SOCK_STREAM", 1),
    ("SOCK_DGRAM", 2),
    ("SOCK_RAW", 3),
    ("SOCK_SEQPACKET", 5),
    ("SOCK_PACKET", 10),
    ("SOCK_TYPE_MASK", SOCK_TYPE_MASK),
    ("IPPROTO_TCP", 6),
    ("IPPROTO_UDP", 17),
    // ioctl(2)
    ("FIONREAD", 0x541b),
    ("FIONBIO", 0x5421),
    ("FIOCLEX", 0x5451),
    ("FIONCLEX", 0x5450),
    ("TCGETS", 0x5401),
    ("TIOCGWINSZ", 0x5413),
    ("TIOCGPGRP", 0x540f),
    ("TIOCSTI", 0x5412),
    ("TIOCLINUX", 0x541c),
    // prctl(2)
    ("PR_SET_PDEATHSIG", 1),
    ("PR_GET_PDEATHSIG", 2),
    ("PR_GET_DUMPABLE", 3),
    ("PR_SET_NAME", 15),
    ("PR_GET_NAME", 16),
    ("PR_GET_SECCOMP", 21),
    ("PR_CAPBSET_READ", 23),
    ("PR_SET_TIMERSLACK", 29),
    ("PR_GET_TIMERSLACK", 30),
    ("PR_SET_NO_NEW_PRIVS", 38),
    ("PR_GET_NO_NEW_PRIVS", 39),
    ("PR_SET_THP_DISABLE", 41),
    ("PR_GET_THP_DISABLE", 42),
    ("PR_SET_VMA", 0x5356_4d41),
    // arch_prctl(2)
    ("ARCH_SET_GS", 0x1001),
    ("ARCH_SET_FS", 0x1002),
    ("ARCH_GET_FS", 0x1003),
    ("ARCH_GET_GS", 0x1004),
    // personality(2): asks, changes nothing
    ("PER_QUERY", 0xffff_ffff),
];

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! assert_as_in_libc {
        ($($name:ident)*) => {
            $(
                // Some are signed, some not, of either width.
                let expected = u64::try_from(libc::$name).unwrap();
                assert_eq!(value(stringify!($name)), Some(expected), "{}", stringify!($name));
            )*
        };
    }

    #[test]
    fn constants_are_those_of_libc() {
        assert_as_in_libc!(
            CLONE_PTRACE CLONE_UNTRACED CLONE_NEWNS CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC
            CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET MAP_HUGETLB AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET
            AF_ALG AF_VSOCK AF_XDP SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_SEQPACKET IPPROTO_TCP
            IPPROTO_UDP FIONREAD FIONBIO FIOCLEX FIONCLEX TCGETS TIOCGWINSZ TIOCGPGRP TIOCSTI
            TIOCLINUX PR_SET_PDEATHSIG PR_GET_PDEATHSIG PR_GET_DUMPABLE PR_SET_NAME PR_GET_NAME
            PR_GET_SECCOMP PR_CAPBSET_READ PR_SET_TIMERSLACK PR_GET_TIMERSLACK PR_SET_NO_NEW_PRIVS
            PR_GET_NO_NEW_PRIVS PR_SET_THP_DISABLE PR_GET_THP_DISABLE PR_SET_VMA
        );
    }
}
