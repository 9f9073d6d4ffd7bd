/* Runs a program under a filter and says which system calls it was allowed to make.
 *
 *   tracer FILTER PROGRAM ARGUMENT...
 *
 * FILTER is an array of struct sock_filter whose "allow" is "ask whoever holds the listener"
 * (seccomp_unotify(2)): this program is that one, notes the number and lets the call go on. What the
 * filter refuses is refused and not noted. The numbers are the last line of its standard output,
 * "calls: N N ...", written when the program and all that it started have ended; its status is the
 * program's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sock_filter filter[4096];
static struct sock_fprog program = {.filter = filter};
static char **command;
static char stack[256 * 1024] __attribute__((aligned(16)));

static void fail(const char *what) {
    fprintf(stderr, "tracer: %s: %s\n", what, strerror(errno));
    exit(125);
}

/* Shares the table of descriptors with its parent, in which the listener therefore appears. */
static int traced(void *nothing) {
    (void)nothing;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        _exit(124);
    long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                            &program);
    if (listener < 0)
        _exit(124);
    execv(command[0], command);
    _exit(123);
}

int main(int count, char **arguments) {
    if (count < 3)
        return 125;
    command = arguments + 2;
    int file = open(arguments[1], O_RDONLY | O_CLOEXEC);
    if (file < 0)
        fail(arguments[1]);
    ssize_t length = read(file, filter, sizeof filter);
    if (length <= 0 || length % sizeof filter[0] != 0)
        fail("filter");
    program.len = (unsigned short)(length / sizeof filter[0]);
    close(file);
    int next = fcntl(0, F_DUPFD_CLOEXEC, 3);
    close(next);

    pid_t child = clone(traced, stack + sizeof stack, CLONE_FILES | SIGCHLD, NULL);
    if (child < 0)
        fail("clone");
    while (fcntl(next, F_GETFD) < 0) {
        int status;
        if (waitpid(child, &status, WNOHANG) == child)
            fail("the filter was not installed");
        usleep(1000);
    }
    int end = (int)syscall(SYS_pidfd_open, child, 0);
    if (end < 0)
        fail("pidfd_open");
    static unsigned char seen[2048];
    int status = 0;
    struct pollfd polled[] = {{.fd = next, .events = POLLIN}, {.fd = end, .events = POLLIN}};
    for (;;) {
        if (poll(polled, 2, -1) <= 0)
            continue;
        /* Before Linux 6.11 one that has ended is under its filter until it is waited for. */
        if (polled[1].revents != 0) {
            waitpid(child, &status, 0);
            polled[1].fd = -1;
        }
        if (!(polled[0].revents & POLLIN)) {
            /* Hung up: nobody is left under the filter. */
            if (polled[0].revents != 0)
                break;
            continue;
        }
        struct seccomp_notif call = {0};
        if (ioctl(next, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0)
            continue;
        if (call.data.nr >= 0 && (size_t)call.data.nr < sizeof seen)
            seen[call.data.nr] = 1;
        struct seccomp_notif_resp answer = {
            .id = call.id,
            .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE,
        };
        ioctl(next, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
    if (polled[1].fd >= 0)
        waitpid(child, &status, 0);
    printf("calls:");
    for (size_t number = 0; number < sizeof seen; number++)
        if (seen[number])
            printf(" %zu", number);
    printf("\n");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
