"""What a plugin in CPython does of the system, by the standard library alone: the syscall profile
`python` is what this needs. Each part says "ok: NAME"; the last line is "done"."""

import asyncio
import concurrent.futures
import hashlib
import logging
import mmap
import multiprocessing
import os
import pathlib
import queue
import random
import select
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time


def files():
    with tempfile.TemporaryDirectory() as directory:
        base = pathlib.Path(directory)
        one = base / "one"
        one.write_bytes(b"x" * 10_000)
        assert one.stat().st_size == 10_000 and one.exists() and os.access(one, os.R_OK)
        one.chmod(0o640)
        os.utime(one, (1, 1))
        two = one.rename(base / "two")
        os.link(two, base / "hard")
        os.symlink("two", base / "soft")
        assert os.readlink(base / "soft") == "two"
        assert (base / "soft").resolve().name == "two"
        os.truncate(two, 5_000)
        with open(two, "r+b") as file:
            file.truncate(4_000)
            file.seek(0, os.SEEK_END)
            file.write(b"y")
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o600)
            assert os.pread(file.fileno(), 1, 4_000) == b"y"
            os.pwrite(file.fileno(), b"z", 0)
            assert not os.isatty(file.fileno())
            os.dup2(file.fileno(), os.dup(file.fileno()))
            os.get_inheritable(file.fileno())
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                assert view[0:1] == b"z"
            os.ftruncate(file.fileno(), 8_192)
        shutil.copyfile(two, base / "three")
        shutil.copytree(base, pathlib.Path(tempfile.mkdtemp()) / "tree", symlinks=True)
        os.mkdir(base / "inner")
        os.replace(base / "three", base / "inner" / "three")
        assert sorted(os.listdir(base / "inner")) == ["three"]
        assert len([*os.scandir(base)]) == 4
        os.remove(base / "inner" / "three")
        os.rmdir(base / "inner")
        was = os.getcwd()
        os.chdir(base)
        assert pathlib.Path("two").is_file()
        os.chdir(was)
        assert shutil.disk_usage(base).total > 0
        os.umask(os.umask(0o077))
    with tempfile.NamedTemporaryFile() as file, tempfile.TemporaryFile() as other:
        file.write(b"temporary")
        other.write(b"temporary")


def databases():
    with tempfile.TemporaryDirectory() as directory:
        connection = sqlite3.connect(os.path.join(directory, "data"))
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table item (id integer primary key, name text)")
        with connection:
            connection.executemany("insert into item (name) values (?)", [("a",)] * 1_000)
        assert connection.execute("select count(*) from item").fetchone() == (1_000,)
        connection.execute("vacuum")
        connection.close()


def secrets():
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="example.org")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    assert len(outgoing.read()) > 100
    assert len(ssl.RAND_bytes(32)) == len(os.urandom(32)) == 32
    hashlib.scrypt(b"password", salt=b"salt", n=1_024, r=8, p=1)
    random.random()


async def loops():
    async def answer(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "socket")
        servers = [
            await asyncio.start_unix_server(answer, path),
            await asyncio.start_server(answer, "127.0.0.1", 0),
        ]
        address = servers[1].sockets[0].getsockname()
        for opening in (asyncio.open_unix_connection(path), asyncio.open_connection(*address)):
            reader, writer = await opening
            writer.write(b"hello\n")
            assert await reader.readline() == b"HELLO\n"
            writer.close()
        for server in servers:
            server.close()
            await server.wait_closed()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.sleep(0.01)
    assert await asyncio.to_thread(sum, [1, 2]) == 3
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    transport.sendto(b"x", transport.get_extra_info("sockname"))
    transport.close()


def sockets():
    left, right = socket.socketpair()
    with left, right:
        left.sendmsg([b"a", b"b"])
        assert right.recvmsg(10)[0] == b"ab"
        left.sendall(b"c")
        assert select.select([right], [], [], 1)[0] and right.recv(1) == b"c"
        left.setblocking(False)
        left.settimeout(0.01)
        try:
            left.recv(1)
        except TimeoutError:
            pass
        poller = select.poll()
        poller.register(left, select.POLLOUT)
        assert poller.poll(1)
        left.shutdown(socket.SHUT_RDWR)
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            peer, _ = server.accept()
            with peer, tempfile.TemporaryFile() as file:
                assert peer.getpeername() == client.getsockname()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
                file.write(b"d" * 100)
                file.flush()
                file.seek(0)
                client.sendfile(file)
                assert len(peer.recv(100)) == 100
    assert socket.getaddrinfo("localhost", 80) and socket.gethostname()


def threads():
    found = queue.Queue()
    lock = threading.Lock()

    def work(number):
        with lock:
            found.put(number)
        time.sleep(0.001)

    running = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(timeout=10)
    assert found.qsize() == 8 and threading.get_native_id() > 0
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(abs, [-1, -2])) == [1, 2]
    threading.Event().wait(0.01)


def double(number):
    return number * 2


def processes():
    ran = subprocess.run([sys.executable, "-I", "-c", "print('child')"], capture_output=True, check=True)
    assert ran.stdout == b"child\n"
    # The older way, with something to do in the child before it executes.
    ran = subprocess.run([sys.executable, "-I", "-c", ""], preexec_fn=os.getpid, start_new_session=True)
    assert ran.returncode == 0
    child = os.fork()
    if child == 0:
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    with subprocess.Popen([sys.executable, "-I", "-c", "import time; time.sleep(60)"]) as long:
        long.terminate()
    for way in ("fork", "spawn"):
        with multiprocessing.get_context(way).Pool(2) as pool:
            assert pool.map(double, [1, 2]) == [2, 4]


def signals():
    got = []
    signal.signal(signal.SIGALRM, lambda *_: got.append("alarm"))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    while not got:
        signal.sigtimedwait([signal.SIGUSR2], 0.01)
    signal.alarm(0)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)
    assert signal.sigpending() and signal.sigwait([signal.SIGUSR2]) == signal.SIGUSR2


def questions():
    assert os.getpid() != os.getppid() and os.uname().sysname == "Linux"
    assert os.getuid() == os.geteuid() and os.getgid() == os.getegid()
    assert os.getgroups() is not None and os.getresuid() and os.getresgid()
    assert os.cpu_count() is not None and len(os.sched_getaffinity(0)) > 0
    import resource

    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0
    assert os.times().elapsed > 0 and os.path.expanduser("~") and os.getpgrp() >= 0
    time.sleep(0.001)
    assert time.get_clock_info("monotonic").resolution > 0 and time.process_time() >= 0
    logging.getLogger().warning("to standard error")


def main():
    for part in (files, databases, secrets, sockets, threads, signals, questions):
        part()
        print("ok:", part.__name__, flush=True)
    asyncio.run(loops())
    print("ok: loops", flush=True)
    processes()
    print("ok: processes", flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main()
