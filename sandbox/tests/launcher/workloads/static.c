/* What a static program in C does of the system, by its library alone: with static.rs, what the
 * syscall profile `static` is for. Each part says "ok: NAME"; the last line is "done". */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DO(what)                                                                                   \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            printf("failed: line %d: %s: %s\n", __LINE__, #what, strerror(errno));                 \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static char base[256];

static void files(void) {
    const char *tmp = getenv("TMPDIR");
    snprintf(base, sizeof base, "%s/files-XXXXXX", tmp ? tmp : "/tmp");
    DO(mkdtemp(base));
    char was[256];
    DO(getcwd(was, sizeof was));
    DO(chdir(base) == 0);
    FILE *file = fopen("one", "w+");
    DO(file && fputs("hello\n", file) >= 0 && fflush(file) == 0);
    int fd = fileno(file);
    struct stat about;
    DO(fstat(fd, &about) == 0 && stat("one", &about) == 0 && lstat("one", &about) == 0);
    DO(fchmod(fd, 0600) == 0 && chmod("one", 0640) == 0);
    DO(access("one", R_OK) == 0 && faccessat(AT_FDCWD, "one", R_OK, 0) == 0);
    DO(ftruncate(fd, 4096) == 0 && truncate("one", 2048) == 0);
    DO(pwrite(fd, "a", 1, 0) == 1);
    char got[8];
    DO(pread(fd, got, 1, 0) == 1 && lseek(fd, 0, SEEK_SET) == 0);
    struct iovec parts[2] = {{got, 1}, {got + 1, 1}};
    DO(writev(fd, parts, 2) == 2 && pwritev(fd, parts, 2, 0) == 2);
    DO(lseek(fd, 0, SEEK_SET) == 0 && readv(fd, parts, 2) == 2 && preadv(fd, parts, 2, 0) == 2);
    DO(fsync(fd) == 0 && fdatasync(fd) == 0 && flock(fd, LOCK_EX) == 0);
    DO(posix_fallocate(fd, 0, 8192) == 0);
    DO(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL) == 0);
    struct timespec times[2] = {{1, 0}, {1, 0}};
    DO(futimens(fd, times) == 0 && utimensat(AT_FDCWD, "one", times, 0) == 0);
    int copy = open("copy", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    DO(copy >= 0);
    off_t from = 0, to = 0;
    DO(copy_file_range(fd, &from, copy, &to, 100, 0) == 100);
    DO(sendfile(copy, fd, &from, 100) == 100);
    int other = dup(copy);
    DO(other >= 0 && dup2(copy, other) == other && dup3(copy, other, O_CLOEXEC) == other);
    DO(fcntl(other, F_SETFL, O_NONBLOCK) == 0 && close(other) == 0 && close(copy) == 0);
    char *view = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    DO(view != MAP_FAILED && munmap(view, 4096) == 0);
    DO(fclose(file) == 0 && rename("one", "two") == 0);
    DO(link("two", "hard") == 0 && symlink("two", "soft") == 0);
    DO(readlink("soft", got, sizeof got) == 3 && mkdir("inner", 0755) == 0);
    int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DO(here >= 0 && mkdirat(here, "other", 0755) == 0 && renameat(here, "other", here, "more") == 0);
    DO(unlinkat(here, "more", AT_REMOVEDIR) == 0 && readlinkat(here, "soft", got, sizeof got) == 3);
    DO(linkat(here, "two", here, "again", 0) == 0 && symlinkat("two", here, "link") == 0);
    DO(fchmodat(here, "two", 0600, 0) == 0 && fstatat(here, "two", &about, 0) == 0);
    DO(fchdir(here) == 0 && close(here) == 0);
    DIR *directory = opendir(".");
    int entries = 0;
    DO(directory);
    while (readdir(directory))
        entries++;
    DO(closedir(directory) == 0 && entries == 9);
    struct statvfs space;
    DO(statvfs(".", &space) == 0);
    const char *names[] = {"hard", "soft", "again", "link", "copy", "two"};
    for (size_t i = 0; i < 6; i++)
        DO(unlink(names[i]) == 0);
    DO(rmdir("inner") == 0 && chdir(was) == 0 && rmdir(base) == 0);
    umask(umask(077));
}

static void *echo(void *listener) {
    char got[16];
    int peer = accept4(*(int *)listener, NULL, NULL, SOCK_CLOEXEC);
    DO(peer >= 0);
    ssize_t length = recv(peer, got, sizeof got, 0);
    DO(length > 0 && send(peer, got, (size_t)length, MSG_NOSIGNAL) == length);
    close(peer);
    peer = accept(*(int *)listener, NULL, NULL);
    DO(peer >= 0);
    close(peer);
    return NULL;
}

static void sockets(void) {
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    const char *tmp = getenv("TMPDIR");
    snprintf(local.sun_path, sizeof local.sun_path, "%s/socket-%d", tmp ? tmp : "/tmp", getpid());
    struct sockaddr_in loop = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    for (int round = 0; round < 2; round++) {
        struct sockaddr *address = round ? (struct sockaddr *)&loop : (struct sockaddr *)&local;
        socklen_t length = round ? sizeof loop : sizeof local;
        int listener = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int one = 1;
        DO(listener >= 0 && setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
        DO(bind(listener, address, length) == 0 && listen(listener, 8) == 0);
        DO(getsockname(listener, address, &length) == 0);
        pthread_t server;
        DO(pthread_create(&server, NULL, echo, &listener) == 0);
        int client = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        DO(connect(client, address, length) == 0);
        struct sockaddr_storage peer;
        socklen_t size = sizeof peer, option = sizeof one;
        DO(getpeername(client, (struct sockaddr *)&peer, &size) == 0);
        DO(getsockopt(client, SOL_SOCKET, SO_ERROR, &one, &option) == 0);
        struct iovec part = {"hello", 5};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        DO(sendmsg(client, &message, 0) == 5);
        char got[16];
        part.iov_base = got;
        DO(recvmsg(client, &message, 0) == 5);
        int waiting = 0;
        DO(ioctl(client, FIONREAD, &waiting) == 0 && ioctl(client, FIONBIO, &(int){1}) == 0);
        DO(shutdown(client, SHUT_RDWR) == 0);
        close(client);
        client = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        DO(connect(client, address, length) == 0);
        DO(pthread_join(server, NULL) == 0);
        close(client);
        close(listener);
    }
    unlink(local.sun_path);
    int pair[2];
    DO(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) == 0);
    struct iovec part = {"x", 1};
    struct mmsghdr many[2] = {{.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}},
                              {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}}};
    char got[2];
    DO(sendmmsg(pair[0], many, 2, 0) == 2);
    part.iov_base = got;
    DO(recvmmsg(pair[1], many, 2, 0, NULL) == 2);
    close(pair[0]);
    close(pair[1]);
}

static void events(void) {
    int ends[2], set = epoll_create1(EPOLL_CLOEXEC), counter = eventfd(0, EFD_CLOEXEC);
    DO(pipe(ends) == 0);
    close(ends[0]);
    close(ends[1]);
    DO(pipe2(ends, O_CLOEXEC) == 0 && set >= 0 && counter >= 0);
    struct epoll_event event = {.events = EPOLLIN};
    DO(epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event) == 0);
    DO(write(ends[1], "x", 1) == 1 && epoll_wait(set, &event, 1, 1000) == 1);
    sigset_t none;
    sigemptyset(&none);
    DO(epoll_pwait(set, &event, 1, 1000, &none) == 1);
    struct pollfd polled = {.fd = ends[0], .events = POLLIN};
    struct timespec moment = {1, 0};
    DO(poll(&polled, 1, 1000) == 1 && ppoll(&polled, 1, &moment, NULL) == 1);
    fd_set read_set;
    FD_ZERO(&read_set);
    FD_SET(ends[0], &read_set);
    struct timeval second = {1, 0};
    DO(select(ends[0] + 1, &read_set, NULL, NULL, &second) == 1);
    DO(pselect(ends[0] + 1, &read_set, NULL, NULL, &moment, NULL) == 1);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec soon = {.it_value = {0, 1000000}}, left;
    DO(timer >= 0 && timerfd_settime(timer, 0, &soon, NULL) == 0);
    DO(timerfd_gettime(timer, &left) == 0);
    uint64_t times;
    DO(read(timer, &times, sizeof times) == sizeof times);
    int unused = epoll_create(1);
    close(unused);
}

static volatile sig_atomic_t told;

static void tell(int number) {
    (void)number;
    told++;
}

static void signals(void) {
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    DO(sigaltstack(&stack, NULL) == 0);
    struct sigaction action = {.sa_handler = tell, .sa_flags = SA_ONSTACK};
    DO(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGALRM, &action, NULL) == 0);
    DO(raise(SIGUSR1) == 0 && kill(getpid(), SIGUSR1) == 0);
    DO(pthread_kill(pthread_self(), SIGUSR1) == 0 && told >= 3);
    sigset_t mask, pending, empty;
    sigemptyset(&empty);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    sigaddset(&mask, SIGALRM);
    DO(sigprocmask(SIG_BLOCK, &mask, NULL) == 0);
    struct itimerval soon = {.it_value = {0, 1000}}, left;
    DO(setitimer(ITIMER_REAL, &soon, NULL) == 0 && getitimer(ITIMER_REAL, &left) == 0);
    sigsuspend(&empty);
    alarm(0);
    struct timespec moment = {1, 0};
    union sigval value = {0};
    DO(sigqueue(getpid(), SIGUSR2, value) == 0 && sigpending(&pending) == 0);
    DO(sigtimedwait(&mask, NULL, &moment) == SIGUSR2);
    int file = signalfd(-1, &mask, SFD_CLOEXEC);
    struct signalfd_siginfo about;
    DO(file >= 0 && kill(getpid(), SIGUSR2) == 0 && read(file, &about, sizeof about) > 0);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    struct itimerspec once = {.it_value = {0, 1000000}}, rest;
    DO(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    DO(timer_settime(timer, 0, &once, NULL) == 0 && timer_gettime(timer, &rest) == 0);
    DO(sigtimedwait(&mask, NULL, &moment) == SIGUSR2 && timer_getoverrun(timer) == 0);
    DO(timer_delete(timer) == 0);
}

static void *work(void *lock) {
    pthread_setname_np(pthread_self(), "worker");
    pthread_mutex_lock(lock);
    struct timespec moment = {0, 100000};
    nanosleep(&moment, NULL);
    pthread_mutex_unlock(lock);
    sched_yield();
    return NULL;
}

static void threads(void) {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_t running[8];
    for (int i = 0; i < 8; i++)
        DO(pthread_create(&running[i], NULL, work, &lock) == 0);
    for (int i = 0; i < 8; i++)
        DO(pthread_join(running[i], NULL) == 0);
    char *large = malloc(4 << 20);
    DO(large && (large = realloc(large, 16 << 20)));
    memset(large, 1, 16 << 20);
    DO(madvise(large + 4096 - (uintptr_t)large % 4096, 4096, MADV_DONTNEED) == 0);
    free(large);
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char in[2];
    DO(mprotect(pages, 4096, PROT_NONE) == 0 && mincore(pages, 8192, in) == 0);
    DO(munmap(pages, 8192) == 0);
    cpu_set_t set;
    DO(sched_getaffinity(0, sizeof set, &set) == 0);
}

static void questions(void) {
    struct utsname name;
    struct sysinfo about;
    struct rusage use;
    struct rlimit limit;
    DO(uname(&name) == 0 && sysinfo(&about) == 0 && getrusage(RUSAGE_SELF, &use) == 0);
    DO(getrlimit(RLIMIT_NOFILE, &limit) == 0 && getpid() != getppid());
    uid_t uids[3];
    gid_t gids[3], groups[64];
    DO(getuid() == geteuid() && getgid() == getegid() && getgroups(64, groups) >= 0);
    DO(getresuid(&uids[0], &uids[1], &uids[2]) == 0 && getresgid(&gids[0], &gids[1], &gids[2]) == 0);
    DO(getpgrp() >= 0 && getsid(0) >= 0 && getpgid(0) >= 0 && gettid() > 0);
    char random[16];
    DO(getrandom(random, sizeof random, 0) == sizeof random);
    DO(getpriority(PRIO_PROCESS, 0) <= 19);
    /* musl has none. */
    DO(sched_getscheduler(0) >= 0 || errno == ENOSYS);
    struct timespec now, moment = {0, 1000};
    DO(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) == 0);
    DO(clock_getres(CLOCK_MONOTONIC, &now) == 0);
    DO(clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL) == 0);
    char title[16];
    DO(prctl(PR_GET_NAME, title) == 0);
}

static void processes(char *self) {
    pid_t child = fork();
    DO(child >= 0);
    if (child == 0) {
        DO(setsid() >= 0);
        char *arguments[] = {self, "child", NULL};
        execv(self, arguments);
        _exit(1);
    }
    int status;
    DO(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    child = fork();
    if (child == 0) {
        setpgid(0, 0);
        pause();
    }
    siginfo_t about;
    /* Both may come first. */
    DO(setpgid(child, child) == 0);
    DO(kill(child, SIGKILL) == 0 && waitid(P_PID, (id_t)child, &about, WEXITED) == 0);
}

int main(int count, char **arguments) {
    if (count > 1 && strcmp(arguments[1], "child") == 0)
        return 7;
    setvbuf(stdout, NULL, _IOLBF, 0);
    files();
    puts("ok: files");
    sockets();
    puts("ok: sockets");
    events();
    puts("ok: events");
    signals();
    puts("ok: signals");
    threads();
    puts("ok: threads");
    questions();
    puts("ok: questions");
    processes("/proc/self/exe");
    puts("ok: processes");
    puts("done");
    return 0;
}
