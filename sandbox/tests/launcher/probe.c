/* A plugin for the tests: does what its arguments say, one after the other, then sleeps or exits.
 * Built static: a jail has no loader. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void say(const char *what) {
    printf("%s\n", what);
    fflush(stdout);
}

static void fail(const char *what) {
    printf("%s: %s\n", what, strerror(errno));
    fflush(stdout);
    exit(99);
}

/* Listens on a path and echoes whatever the first bytes of each connection are. */
static int listen_on(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 1) != 0)
        fail("listen");
    return listener;
}

/* A TCP socket and the address of this port of loopback. */
static int tcp_socket(const char *port, struct sockaddr_in *address) {
    *address = (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_port = htons(atoi(port)),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int made = socket(AF_INET, SOCK_STREAM, 0);
    if (made < 0)
        fail("socket");
    return made;
}

static int listen_at(const char *port) {
    struct sockaddr_in address;
    int listener = tcp_socket(port, &address);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1) != 0)
        fail("listen");
    return listener;
}

/* Connects, says who it is, and prints what it is told. */
static void dial(const char *port) {
    struct sockaddr_in address;
    int peer = tcp_socket(port, &address);
    char buffer[256];
    if (connect(peer, (struct sockaddr *)&address, sizeof address) != 0)
        fail("dial");
    if (write(peer, "here\n", 5) != 5)
        fail("write");
    ssize_t count = read(peer, buffer, sizeof buffer - 1);
    buffer[count > 0 ? count : 0] = 0;
    say(buffer);
    close(peer);
}

static void serve(int listener) {
    char buffer[256];
    for (;;) {
        int peer = accept(listener, 0, 0);
        ssize_t count = read(peer, buffer, sizeof buffer);
        if (count > 0 && write(peer, buffer, count) != count)
            fail("write");
        close(peer);
    }
}

/* Tries to pass a descriptor to whoever connects; says what came of it. */
static void pass_rights(int listener) {
    int peer = accept(listener, 0, 0), passed = 0;
    char byte = 'x', space[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1,
                             .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &passed, sizeof passed);
    if (sendmsg(peer, &message, 0) < 0)
        printf("pass-rights: %s\n", strerror(errno));
    else
        printf("pass-rights: passed\n");
    fflush(stdout);
}

static void hog(size_t mebibytes) {
    for (size_t i = 0; i < mebibytes; i++) {
        char *piece = malloc(1 << 20);
        if (!piece)
            fail("malloc");
        memset(piece, (int)i, 1 << 20);
    }
}

int main(int count, char **arguments) {
    for (int i = 1; i < count; i++) {
        const char *act = arguments[i];
        const char *value = strchr(act, '=');
        value = value ? value + 1 : "";
        if (!strncmp(act, "exit=", 5))
            return atoi(value);
        else if (!strncmp(act, "signal=", 7)) {
            signal(atoi(value), SIG_DFL);
            raise(atoi(value));
        } else if (!strcmp(act, "swapoff"))
            syscall(SYS_swapoff, (char *)0);
        else if (!strcmp(act, "mount"))
            mount("none", "/tmp", "tmpfs", 0, 0);
        else if (!strncmp(act, "hog=", 4))
            hog(atoi(value));
        else if (!strncmp(act, "child-hog=", 10)) {
            if (fork() == 0) {
                hog(atoi(value));
                _exit(0);
            }
        } else if (!strncmp(act, "fill=", 5)) {
            /* Past RLIMIT_FSIZE. */
            static char block[1 << 16];
            int file = open("/tmp/fill", O_WRONLY | O_CREAT, 0600);
            while (write(file, block, sizeof block) > 0)
                ;
            fail("fill");
        } else if (!strcmp(act, "forks")) {
            int made = 0;
            for (; made < 10000; made++) {
                pid_t child = fork();
                if (child == 0) {
                    pause();
                    _exit(0);
                }
                if (child < 0)
                    break;
            }
            printf("forks=%d %s\n", made, strerror(errno));
            fflush(stdout);
        } else if (!strcmp(act, "daemon")) {
            /* A grandchild in a session of its own that ignores SIGTERM. */
            if (fork() == 0) {
                setsid();
                if (fork() == 0) {
                    signal(SIGTERM, SIG_IGN);
                    for (;;)
                        pause();
                }
                _exit(0);
            }
        } else if (!strcmp(act, "ignore-term"))
            signal(SIGTERM, SIG_IGN);
        else if (!strcmp(act, "env")) {
            for (char **variable = environ; *variable; variable++)
                say(*variable);
            say("env-end");
        } else if (!strncmp(act, "say=", 4))
            say(value);
        else if (!strncmp(act, "read=", 5)) {
            char buffer[512];
            int file = open(value, O_RDONLY);
            ssize_t length = file < 0 ? -1 : read(file, buffer, sizeof buffer - 1);
            if (length < 0)
                printf("read %s: %s\n", value, strerror(errno));
            else {
                buffer[length] = 0;
                printf("read %s: %s\n", value, buffer);
            }
            fflush(stdout);
        } else if (!strncmp(act, "append=", 7)) {
            int file = open(value, O_WRONLY | O_CREAT | O_APPEND, 0600);
            printf("append %s: %s\n", value,
                   file >= 0 && write(file, "x", 1) == 1 ? "done" : strerror(errno));
            fflush(stdout);
        } else if (!strncmp(act, "pour=", 5)) {
            /* FILE:KIBIBYTES, added to the file. */
            static char block[1024];
            char *size = strrchr(value, ':');
            *size++ = 0;
            int file = open(value, O_WRONLY | O_CREAT | O_APPEND, 0600);
            int left = atoi(size), broken = file < 0;
            while (!broken && left-- > 0)
                broken = write(file, block, sizeof block) != sizeof block;
            printf("pour %s: %s\n", value, broken ? strerror(errno) : "done");
            fflush(stdout);
        } else if (!strncmp(act, "litter=", 7)) {
            /* DIRECTORY:FILES, made in it. */
            char *count = strrchr(value, ':'), name[256];
            *count++ = 0;
            int made = 0;
            mkdir(value, 0700);
            for (; made < atoi(count); made++) {
                snprintf(name, sizeof name, "%s/%d", value, made);
                if (close(open(name, O_WRONLY | O_CREAT, 0600)) != 0)
                    break;
            }
            printf("litter %s: %s\n", value, made < atoi(count) ? "some" : "done");
            fflush(stdout);
        } else if (!strncmp(act, "symlink=", 8)) {
            if (symlink("/etc/passwd", value) != 0)
                fail("symlink");
        } else if (!strcmp(act, "watch")) {
            printf("watch: %s\n", inotify_init1(0) >= 0 ? "done" : strerror(errno));
            fflush(stdout);
        } else if (!strncmp(act, "file=", 5)) {
            if (close(open(value, O_WRONLY | O_CREAT, 0666)) != 0)
                fail("file");
        } else if (!strncmp(act, "full=", 5)) {
            /* Listens and never accepts. */
            listen_on(value);
        } else if (!strncmp(act, "rights=", 7)) {
            int listener = listen_on(value);
            say("ready");
            pass_rights(listener);
        } else if (!strncmp(act, "listen=", 7)) {
            int listener = listen_on(value);
            say("ready");
            serve(listener);
        } else if (!strncmp(act, "tcp=", 4)) {
            int listener = listen_at(value);
            say("ready");
            serve(listener);
        } else if (!strncmp(act, "tcp-full=", 9)) {
            listen_at(value);
        } else if (!strncmp(act, "dial=", 5)) {
            dial(value);
        } else if (!strcmp(act, "wait"))
            for (;;)
                pause();
        else if (!strcmp(act, "loop"))
            for (;;)
                ;
        else {
            printf("unknown act %s\n", act);
            return 98;
        }
    }
    return 0;
}
