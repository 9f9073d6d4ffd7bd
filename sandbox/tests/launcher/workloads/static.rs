//! What a static program in Rust does of the system, by its standard library alone: with static.c,
//! what the syscall profile `static` is for. Each part says "ok: NAME"; the last line is "done".

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{symlink, FileExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::{mpsc, Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};
use std::{env, thread};

fn files() {
    let base = env::temp_dir().join("rust-files");
    fs::create_dir_all(base.join("inner")).unwrap();
    fs::write(base.join("one"), vec![b'x'; 10_000]).unwrap();
    assert_eq!(fs::metadata(base.join("one")).unwrap().len(), 10_000);
    fs::set_permissions(base.join("one"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::copy(base.join("one"), base.join("two")).unwrap();
    fs::rename(base.join("two"), base.join("three")).unwrap();
    fs::hard_link(base.join("one"), base.join("hard")).unwrap();
    symlink("one", base.join("soft")).unwrap();
    assert_eq!(fs::read_link(base.join("soft")).unwrap().to_str(), Some("one"));
    assert!(fs::symlink_metadata(base.join("soft")).unwrap().is_symlink());
    assert_eq!(base.join("soft").canonicalize().unwrap(), base.join("one").canonicalize().unwrap());
    let mut file = File::options().read(true).write(true).open(base.join("one")).unwrap();
    file.set_len(5_000).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(b"y").unwrap();
    file.write_at(b"z", 0).unwrap();
    file.read_at(&mut [0; 4], 0).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).unwrap();
    file.lock().unwrap();
    file.sync_all().unwrap();
    file.sync_data().unwrap();
    let copy = file.try_clone().unwrap();
    assert!(copy.metadata().unwrap().is_file());
    assert_eq!(fs::read_dir(&base).unwrap().count(), 5);
    env::set_current_dir(&base).unwrap();
    env::current_dir().unwrap();
    env::set_current_dir("/").unwrap();
    fs::remove_dir_all(&base).unwrap();
}

fn sockets() {
    let path = env::temp_dir().join("rust-socket");
    let local = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || local.accept().unwrap().0.write_all(b"hello").unwrap());
    let mut text = String::new();
    UnixStream::connect(&path).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    server.join().unwrap();
    fs::remove_file(path).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || listener.accept().unwrap().0.write_all(b"hello").unwrap());
    let mut client = TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(client.peer_addr().unwrap(), address);
    client.read_exact(&mut [0; 5]).unwrap();
    client.shutdown(std::net::Shutdown::Both).unwrap();
    server.join().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.send_to(b"x", udp.local_addr().unwrap()).unwrap();
    udp.recv_from(&mut [0; 4]).unwrap();
    UnixStream::pair().unwrap();
}

fn threads() {
    let (sender, receiver) = mpsc::channel();
    for number in 0..8 {
        let sender = sender.clone();
        let name = format!("worker {number}");
        thread::Builder::new().name(name).spawn(move || sender.send(number).unwrap()).unwrap();
    }
    assert_eq!(receiver.iter().take(8).sum::<i32>(), 28);
    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let guard = pair.0.lock().unwrap();
    drop(pair.1.wait_timeout(guard, Duration::from_millis(1)).unwrap());
    thread::park_timeout(Duration::from_millis(1));
    thread::sleep(Duration::from_millis(1));
    thread::yield_now();
    assert!(thread::available_parallelism().unwrap().get() > 0);
    assert!(Instant::now().elapsed() < Duration::from_secs(60));
    let mut large = vec![1_u8; 16 << 20];
    large.reserve_exact(64 << 20);
    assert_eq!(std::collections::HashMap::from([(1, 2)]).len(), 1);
}

fn processes() {
    let own = env::current_exe().unwrap();
    let child = Command::new(&own).arg("child").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    child.stdin.take().unwrap().write_all(b"input").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"input");
    let mut long = Command::new(own).arg("wait").spawn().unwrap();
    assert!(long.try_wait().unwrap().is_none());
    long.kill().unwrap();
    assert!(!long.wait().unwrap().success());
}

fn main() {
    match env::args().nth(1).as_deref() {
        Some("child") => {
            std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()).unwrap();
            return;
        }
        Some("wait") => thread::sleep(Duration::from_secs(3_600)),
        _ => {}
    }
    let parts: [(&str, fn()); 4] =
        [("files", files), ("sockets", sockets), ("threads", threads), ("processes", processes)];
    for (name, part) in parts {
        part();
        println!("ok: {name}");
    }
    println!("done");
}
