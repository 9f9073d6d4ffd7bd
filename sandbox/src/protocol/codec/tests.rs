use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use pinfold_policy::{Control, Digest, FROM_DAEMON_LIMIT_BYTES, Generation, InstanceId, PluginId};

use super::*;
use crate::protocol::{
    Adopted, ControlChange, EndedKept, Event, ExitCause, Failure, FailureKind, Incoming, KillHow,
    LISTENERS_LIMIT, Launched, Listener, ListenerPurpose, Loopback, NOTE_LIMIT_BYTES, RefusedCall,
    Reply, Request, SocketDirectory, Stats,
};

fn file() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

fn plugin() -> impl Strategy<Value = PluginId> {
    "[a-z0-9][a-z0-9_-]{0,62}".prop_map(|text| text.parse().unwrap())
}

fn request() -> impl Strategy<Value = Request> {
    let instance = any::<u64>().prop_map(InstanceId);
    prop_oneof![
        proptest::option::of(plugin()).prop_map(|plugin| Request::Probe { plugin }),
        plugin().prop_map(|plugin| Request::Stage { plugin }),
        (
            plugin(),
            any::<u64>(),
            any::<[u8; 32]>(),
            btree_map("[A-Z]{1,8}", ".{0,40}", 0..8)
        )
            .prop_map(|(plugin, generation, digest, values)| Request::Launch {
                plugin,
                generation: Generation(generation),
                digest: Digest(digest),
                values,
            }),
        (instance.clone(), any::<bool>(), ".{0,64}").prop_map(|(instance, run, name)| {
            let directory = if run {
                SocketDirectory::Run
            } else {
                SocketDirectory::Tmp
            };
            Request::Connect {
                instance,
                directory,
                name,
            }
        }),
        (
            instance.clone(),
            any::<bool>(),
            any::<std::num::NonZeroU16>()
        )
            .prop_map(|(instance, six, port)| Request::ConnectPort {
                instance,
                loopback: if six { Loopback::V6 } else { Loopback::V4 },
                port,
            }),
        (instance.clone(), any::<bool>()).prop_map(|(instance, kill)| Request::Kill {
            instance,
            how: if kill {
                KillHow::Kill
            } else {
                KillHow::Terminate
            },
        }),
        instance
            .clone()
            .prop_map(|instance| Request::Stats { instance }),
        Just(Request::Handover),
        (instance, "[ -~]{0,80}").prop_map(|(instance, note)| Request::Keep { instance, note }),
        (plugin(), any::<[u8; 32]>()).prop_map(|(plugin, digest)| Request::Adopt {
            plugin,
            digest: Digest(digest),
        }),
        proptest::option::of(plugin()).prop_map(|plugin| Request::Discard { plugin }),
        (plugin(), any::<[u8; 32]>()).prop_map(|(plugin, digest)| Request::Trust {
            plugin,
            digest: Digest(digest),
        }),
    ]
}

fn cause() -> impl Strategy<Value = ExitCause> {
    prop_oneof![
        any::<i32>().prop_map(ExitCause::Code),
        any::<i32>().prop_map(ExitCause::Signal),
        Just(ExitCause::OutOfMemory),
        Just(ExitCause::SyscallRefused(None)),
        any::<(u32, [u64; 6])>().prop_map(|(number, arguments)| {
            ExitCause::SyscallRefused(Some(RefusedCall { number, arguments }))
        }),
        ".{0,40}".prop_map(ExitCause::Limit),
        Just(ExitCause::Killed),
        ".{0,40}".prop_map(ExitCause::Launcher),
    ]
}

/// What a fuzzer runs: any bytes with any number of descriptors, on both sides' decoders.
fn fuzz(bytes: &[u8], descriptors: usize) {
    let packet = || Packet {
        bytes: bytes.to_vec(),
        descriptors: (0..descriptors).map(|_| file()).collect(),
    };
    if let Ok((id, request)) = decode_request(packet()) {
        assert_eq!(descriptors, 0);
        // The values of a launch may come in any order and leave in one.
        let again = encode_request(id, &request).unwrap();
        assert_eq!(again.len(), bytes.len());
        let packet = Packet {
            bytes: again,
            descriptors: Vec::new(),
        };
        assert_eq!(decode_request(packet).unwrap(), (id, request));
    }
    match decode_incoming(packet()) {
        Ok(Incoming::Event(event)) => assert_eq!(encode_event(&event).unwrap().len(), bytes.len()),
        Ok(Incoming::Reply { id, result }) => {
            let again = encode_reply(id, result).unwrap();
            assert_eq!(again.descriptors.len(), descriptors);
        }
        Err(_) => {}
    }
}

proptest! {
    #[test]
    fn requests_round_trip(id in any::<u32>(), request in request()) {
        let bytes = encode_request(id, &request).unwrap();
        prop_assert_eq!(request_id(&bytes), Some(id));
        let packet = Packet { bytes, descriptors: Vec::new() };
        prop_assert_eq!(decode_request(packet).unwrap(), (id, request));
    }

    #[test]
    fn events_round_trip(instance in any::<u64>(), cause in cause()) {
        let event = Event::Exited { instance: InstanceId(instance), cause };
        let packet = Packet { bytes: encode_event(&event).unwrap(), descriptors: Vec::new() };
        match decode_incoming(packet).unwrap() {
            Incoming::Event(read) => prop_assert_eq!(read, event),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn changes_of_controls_round_trip(
        at in any::<prop::sample::Index>(),
        is_in_force: bool,
        reason in ".{0,80}",
    ) {
        let control = *at.get(Control::ALL);
        let event = Event::ControlChanged(ControlChange { control, is_in_force, reason });
        let packet = Packet { bytes: encode_event(&event).unwrap(), descriptors: Vec::new() };
        match decode_incoming(packet).unwrap() {
            Incoming::Event(read) => prop_assert_eq!(read, event),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(
        bytes in vec(any::<u8>(), 0..300),
        descriptors in 0_usize..10,
    ) {
        fuzz(&bytes, descriptors);
    }

    #[test]
    fn damaged_messages_are_a_message_or_an_error(
        request in request(),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
        kind in 0_u8..=255,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode_request(7, &request).unwrap();
        let place = at.index(bytes.len());
        bytes[place] = to;
        fuzz(&bytes, 0);
        bytes[0] = VERSION;
        bytes[1] = kind;
        for descriptors in [0, 1, 4, 6, 8] {
            fuzz(&bytes, descriptors);
        }
        bytes.truncate(cut.index(bytes.len()));
        fuzz(&bytes, 0);
    }
}

fn launched(listeners: usize) -> Reply {
    Reply::Launched(started(listeners))
}

fn started(listeners: usize) -> Launched {
    let listener = |port| Listener {
        purpose: ListenerPurpose::HttpProxy,
        port,
        socket: file(),
    };
    Launched {
        instance: InstanceId(3),
        pid: 77,
        pidfd: file(),
        stdout: file(),
        stderr: file(),
        policy: file(),
        tmp_directory: "/tmp/goatflow-plugin-hello".into(),
        development_policy: true,
        missing: vec!["landlock".into()],
        trust: "pinned digest".into(),
        watched_until: Some(pinfold_policy::Moment::from_unix_seconds(1_800_000_000)),
        listeners: (1..).take(listeners).map(listener).collect(),
    }
}

#[test]
fn a_launch_reply_carries_its_descriptors_in_order() {
    let packet = encode_reply(9, Ok(launched(2))).unwrap();
    let raw: Vec<i32> = packet.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let Incoming::Reply {
        id: 9,
        result: Ok(Reply::Launched(read)),
    } = decode_incoming(packet).unwrap()
    else {
        panic!("not the reply that was sent");
    };
    let [one, two] = read.listeners.as_slice() else {
        panic!("two listeners were sent");
    };
    assert_eq!((one.port, two.port), (1, 2));
    assert_eq!(one.purpose, ListenerPurpose::HttpProxy);
    let read_raw = [
        &read.pidfd,
        &read.stdout,
        &read.stderr,
        &read.policy,
        &one.socket,
        &two.socket,
    ];
    assert_eq!(raw, read_raw.map(AsRawFd::as_raw_fd));
    assert_eq!((read.instance, read.pid), (InstanceId(3), 77));
    let until = read.watched_until.unwrap();
    assert_eq!(until.unix_seconds(), 1_800_000_000);
    assert_eq!(read.tmp_directory, "/tmp/goatflow-plugin-hello");
    assert!(read.development_policy);
    assert_eq!(read.missing, ["landlock"]);
    assert_eq!(read.trust, "pinned digest");
}

#[test]
fn a_port_of_a_jail_has_these_bytes_and_is_never_zero() {
    let request = Request::ConnectPort {
        instance: InstanceId(2),
        loopback: Loopback::V6,
        port: 0x1234.try_into().unwrap(),
    };
    let mut bytes = encode_request(5, &request).unwrap();
    assert_eq!(bytes, b"\x04\x08\0\0\0\x05\0\0\0\0\0\0\0\x02\x01\x12\x34");
    bytes.truncate(15);
    bytes.extend([0, 0]);
    let descriptors = Vec::new();
    assert_eq!(
        decode_request(Packet { bytes, descriptors }).unwrap_err(),
        CodecError::Value {
            field: "port",
            value: 0
        }
    );
}

#[test]
fn what_is_said_of_a_handover_has_these_bytes_and_comes_back_the_same() {
    let keep = |note: &str| Request::Keep {
        instance: InstanceId(2),
        note: note.into(),
    };
    assert_eq!(
        encode_request(5, &Request::Handover).unwrap(),
        b"\x04\x09\0\0\0\x05"
    );
    assert_eq!(
        encode_request(5, &keep("n")).unwrap(),
        b"\x04\x0a\0\0\0\x05\0\0\0\0\0\0\0\x02\0\x01n"
    );
    let limit = std::time::Duration::from_millis(30_000);
    let packet = encode_reply(5, Ok(Reply::HandingOver { limit })).unwrap();
    assert_eq!(packet.bytes, b"\x04\x49\0\0\0\x05\0\0\0\0\0\0\x75\x30");
    let read = |reply| {
        let packet = encode_reply(5, Ok(reply)).unwrap();
        match decode_incoming(packet).unwrap() {
            Incoming::Reply { id: 5, result } => result.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let reply = read(Reply::HandingOver { limit });
    assert!(matches!(reply, Reply::HandingOver { limit: read } if read == limit));
    assert!(matches!(read(Reply::Kept), Reply::Kept));
    let one = EndedKept {
        plugin: PluginId::parse("a").unwrap(),
        generation: Generation(9),
        reason: "its files have changed".into(),
    };
    for ended in [None, Some(one)] {
        let reply = read(Reply::NotKept {
            ended: ended.clone(),
        });
        assert!(matches!(reply, Reply::NotKept { ended: read } if read == ended));
    }
    let any = Request::Discard { plugin: None };
    assert_eq!(encode_request(5, &any).unwrap(), b"\x04\x0c\0\0\0\x05\0");
    let plugin = PluginId::parse("a").ok();
    assert_eq!(
        encode_request(5, &Request::Discard { plugin }).unwrap(),
        b"\x04\x0c\0\0\0\x05\x01\0\x01a"
    );
    let adopted = |note: &str| Adopted {
        launched: started(1),
        generation: Generation(9),
        note: note.into(),
    };
    let Reply::Adopted(read) = read(Reply::Adopted(adopted("1|1|unix"))) else {
        panic!("not the reply that was sent");
    };
    assert_eq!(
        (read.generation, read.note.as_str()),
        (Generation(9), "1|1|unix")
    );
    assert_eq!(read.launched.instance, InstanceId(3));
    assert_eq!(read.launched.listeners.len(), 1);
    let long = "n".repeat(NOTE_LIMIT_BYTES + 1);
    let is_refused = |error| matches!(error, CodecError::Limit { field: "note", .. });
    assert!(is_refused(encode_request(1, &keep(&long)).unwrap_err()));
    let mut bytes = encode_request(1, &keep("")).unwrap();
    bytes.truncate(14);
    bytes.extend(u16::try_from(long.len()).unwrap().to_be_bytes());
    bytes.extend(long.as_bytes());
    let descriptors = Vec::new();
    assert!(is_refused(
        decode_request(Packet { bytes, descriptors }).unwrap_err()
    ));
    assert!(is_refused(
        encode_reply(1, Ok(Reply::Adopted(adopted(&long)))).unwrap_err()
    ));
    for (listeners, descriptors) in [(0, 5), (0, 3), (2, 5), (2, 7)] {
        let reply = Reply::Adopted(Adopted {
            launched: started(listeners),
            ..adopted("")
        });
        let mut packet = encode_reply(1, Ok(reply)).unwrap();
        packet.descriptors = (0..descriptors).map(|_| file()).collect();
        let error = decode_incoming(packet).unwrap_err();
        assert!(matches!(error, CodecError::Descriptors { .. }), "{error}");
    }
}

#[test]
fn statistics_keep_what_is_absent_absent() {
    let stats = Stats {
        memory_peak_bytes: Some(1),
        oom_kills: Some(u64::MAX),
        ..Stats::default()
    };
    let packet = encode_reply(1, Ok(Reply::Stats(stats))).unwrap();
    let Incoming::Reply {
        result: Ok(Reply::Stats(read)),
        ..
    } = decode_incoming(packet).unwrap()
    else {
        panic!("not the reply that was sent");
    };
    assert_eq!(read, stats);
}

#[test]
fn what_is_said_of_trust_has_these_bytes() {
    let request = Request::Trust {
        plugin: "ab".parse().unwrap(),
        digest: Digest([9; 32]),
    };
    let mut bytes = vec![4, 7, 0, 0, 0, 5, 0, 2, b'a', b'b'];
    bytes.extend([9; 32]);
    assert_eq!(encode_request(5, &request).unwrap(), bytes);
    let basis = "unsigned".to_owned();
    let answer = encode_reply(5, Ok(Reply::Trusted { basis })).unwrap();
    assert_eq!(answer.bytes, b"\x04\x47\0\0\0\x05\0\x08unsigned");
    assert!(matches!(
        decode_incoming(answer).unwrap(),
        Incoming::Reply { id: 5, result: Ok(Reply::Trusted { basis }) } if basis == "unsigned"
    ));
    let refused = Failure {
        kind: FailureKind::Trust,
        message: "no".into(),
        hint: None,
    };
    let answer = encode_reply(5, Err(refused.clone())).unwrap();
    assert_eq!(answer.bytes, b"\x04\x7f\0\0\0\x05\x06\0\x02no\0");
    assert!(matches!(
        decode_incoming(answer).unwrap(),
        Incoming::Reply { id: 5, result: Err(failure) } if failure == refused
    ));
}

#[test]
fn a_wrong_number_of_descriptors_is_refused() {
    let mut packet = encode_reply(1, Ok(launched(2))).unwrap();
    packet.descriptors.pop();
    assert_eq!(
        decode_incoming(packet).unwrap_err(),
        CodecError::Descriptors {
            expected: 6,
            found: 5
        }
    );
    let mut packet = encode_reply(1, Ok(launched(0))).unwrap();
    packet.descriptors.push(file());
    assert_eq!(
        decode_incoming(packet).unwrap_err(),
        CodecError::Descriptors {
            expected: 4,
            found: 5
        }
    );
    assert!(matches!(
        encode_reply(1, Ok(launched(LISTENERS_LIMIT + 1))),
        Err(CodecError::Limit {
            field: "listeners",
            ..
        })
    ));
    let mut packet = encode_reply(1, Ok(launched(0))).unwrap();
    packet.descriptors.pop();
    assert_eq!(
        decode_incoming(packet).unwrap_err(),
        CodecError::Descriptors {
            expected: 4,
            found: 3
        }
    );
    let request = Packet {
        bytes: encode_request(1, &Request::Probe { plugin: None }).unwrap(),
        descriptors: vec![file()],
    };
    assert_eq!(
        decode_request(request).unwrap_err(),
        CodecError::Descriptors {
            expected: 0,
            found: 1
        }
    );
}

#[test]
fn a_long_failure_is_cut_between_characters() {
    let failure = Failure {
        kind: FailureKind::Host,
        message: "ä".repeat(40_000),
        hint: Some("look".into()),
    };
    let packet = encode_reply(1, Err(failure)).unwrap();
    let Incoming::Reply {
        result: Err(read), ..
    } = decode_incoming(packet).unwrap()
    else {
        panic!("not the reply that was sent");
    };
    assert_eq!(read.message, "ä".repeat(MESSAGE_LIMIT_BYTES / 2));
    assert_eq!(read.kind, FailureKind::Host);
    assert_eq!(read.hint.as_deref(), Some("look"));
}

#[test]
fn values_over_the_limit_are_refused() {
    let request = |length: usize| Request::Launch {
        plugin: "hello".parse().unwrap(),
        generation: Generation(1),
        digest: Digest([0; 32]),
        values: [("A".to_owned(), "x".repeat(length))].into(),
    };
    let read = |length| {
        let bytes = encode_request(1, &request(length)).unwrap();
        decode_request(Packet {
            bytes,
            descriptors: Vec::new(),
        })
    };
    assert!(read(FROM_DAEMON_LIMIT_BYTES - 1).is_ok());
    assert!(matches!(
        read(FROM_DAEMON_LIMIT_BYTES),
        Err(CodecError::Limit {
            field: "values",
            ..
        })
    ));
    assert!(matches!(
        encode_request(1, &request(70_000)),
        Err(CodecError::Limit { .. })
    ));
    assert!(matches!(
        encode_request(1, &request(40_000)),
        Err(CodecError::TooLong { .. })
    ));
}
