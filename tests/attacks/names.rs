//! A name server of the test's own: some names mean another address at the second look than at the
//! first.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};

/// What a name is at the first look: an address that is granted.
const FIRST: [u8; 4] = [127, 0, 0, 3];
/// And from the second on: the host's own.
const LATER: [u8; 4] = [127, 0, 0, 2];

/// The kind of an address of version 4 (RFC 1035).
const KIND_A: [u8; 2] = [0, 1];

/// A name server; it ends with the test's process.
#[derive(Debug)]
pub(super) struct Names {
    configuration: PathBuf,
}

impl Names {
    /// Serves, and writes the file that names it.
    pub(super) fn serve(configuration: &Path) -> Self {
        // An address for each process: the port is always the same.
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 53, high, low);
        let socket = UdpSocket::bind((address, 53)).unwrap();
        std::thread::spawn(move || answer(&socket));
        fs::write(configuration, format!("nameserver {address}\n")).unwrap();
        Self {
            configuration: configuration.to_owned(),
        }
    }

    /// What resolv.conf(5) has to be for it to be asked.
    pub(super) fn configuration(&self) -> &str {
        self.configuration.to_str().unwrap()
    }
}

fn answer(socket: &UdpSocket) {
    let mut looks: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let mut packet = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut packet) {
        // Twelve bytes of header, then one question: the name, its kind, its class.
        let Some(question) = packet[..length].get(12..) else {
            continue;
        };
        let Some(end) = question.iter().position(|byte| *byte == 0) else {
            continue;
        };
        let (Some(kind), Some(whole)) = (question.get(end + 1..end + 3), question.get(..end + 5))
        else {
            continue;
        };
        let has_answer = kind == KIND_A && question[..end].ends_with(b"\x04test");
        let mut reply = packet[..2].to_vec();
        reply.extend([0x81, 0x80, 0, 1, 0, has_answer.into(), 0, 0, 0, 0]);
        reply.extend(whole);
        if has_answer {
            let look = looks.entry(question[..end].to_vec()).or_default();
            let address = if *look == 0 { FIRST } else { LATER };
            *look += 1;
            // The name of the question, an address, for no time, four bytes.
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            reply.extend(address);
        }
        socket.send_to(&reply, from).ok();
    }
}
