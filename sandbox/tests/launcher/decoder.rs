//! The launcher's decoder against packets that were valid before somebody changed them.

use std::num::NonZeroU16;

use pinfold_policy::{Digest, Generation, InstanceId};
use pinfold_sandbox::protocol::{KillHow, Loopback, Request, SocketDirectory};

use crate::decoder_body::fuzz_request;
use crate::machine::id;

/// Changed packets that are read.
const ROUNDS: u32 = 200_000;

/// One request of each kind.
pub(crate) fn requests() -> Vec<Request> {
    let instance = InstanceId(3);
    let values = [
        ("GOATKIT_PLUGIN", "goatkit-v1"),
        ("PLUGIN_MIN_PORT", "10000"),
    ];
    vec![
        Request::Probe { plugin: None },
        Request::Probe {
            plugin: Some(id("hello")),
        },
        Request::Stage {
            plugin: id("hello"),
        },
        Request::Launch {
            plugin: id("hello"),
            generation: Generation(7),
            digest: Digest([9; 32]),
            values: values.map(|(a, b)| (a.into(), b.into())).into(),
        },
        Request::Connect {
            instance,
            directory: SocketDirectory::Tmp,
            name: "plugin123".into(),
        },
        Request::ConnectPort {
            instance,
            loopback: Loopback::V4,
            port: NonZeroU16::MAX,
        },
        Request::Kill {
            instance,
            how: KillHow::Kill,
        },
        Request::Stats { instance },
        Request::Trust {
            plugin: id("hello"),
            digest: Digest([9; 32]),
        },
        Request::Handover,
        Request::Keep {
            instance,
            note: "1|1|unix|/run/plugin/plugin123|netrpc|".into(),
        },
        Request::Adopt {
            plugin: id("hello"),
            digest: Digest([9; 32]),
        },
        Request::Discard {
            plugin: Some(id("hello")),
        },
    ]
}

/// Numbers that look random and are the same in every run (xorshift, Marsaglia 2003).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Less than `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap();
        usize::try_from(self.roll() % end).unwrap()
    }

    pub(crate) fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn byte(&mut self) -> u8 {
        let [any, ..] = self.roll().to_be_bytes();
        // The ends of ranges are where mistakes are.
        *self.of(&[0, 1, 2, 0x7f, 0x80, 0xff, any, any, any])
    }
}

/// Changes a packet in one way.
fn change(dice: &mut Dice, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = dice.below(bytes.len() + 1);
    let end = at + dice.below(bytes.len() - at + 1);
    match dice.below(6) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, dice.byte()),
        2 => drop(bytes.drain(at..end)),
        3 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        4 => {
            let from = dice.below(other.len());
            bytes.truncate(at);
            bytes.extend(&other[from..]);
        }
        _ => {
            let changed = dice.byte();
            bytes[at..end]
                .iter_mut()
                .take(4)
                .for_each(|byte| *byte = changed);
        }
    }
}

#[test]
fn a_changed_packet_is_a_request_or_an_error_and_no_larger_than_it_was() {
    let valid: Vec<Vec<u8>> = requests()
        .iter()
        .map(|request| request.to_bytes(5).unwrap())
        .collect();
    for bytes in &valid {
        fuzz_request(bytes);
        assert!(Request::from_bytes(bytes).is_ok());
    }
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut read = 0;
    for _ in 0..ROUNDS {
        let mut bytes = dice.of(&valid).clone();
        for _ in 0..=dice.below(3) {
            let other = dice.of(&valid).clone();
            change(&mut dice, &mut bytes, &other);
        }
        fuzz_request(&bytes);
        read += u32::from(Request::from_bytes(&bytes).is_ok());
    }
    // Some were still requests, most were none.
    assert!((1..ROUNDS / 2).contains(&read), "{read}");
}

#[test]
fn a_packet_that_ends_early_or_goes_on_is_no_request() {
    for request in requests() {
        let bytes = request.to_bytes(5).unwrap();
        for length in 0..bytes.len() {
            let read = Request::from_bytes(&bytes[..length]);
            assert!(read.is_err(), "{request:?} cut at {length}: {read:?}");
        }
        for more in [0, 1, 0xff] {
            let longer = [&bytes[..], &[more]].concat();
            assert!(Request::from_bytes(&longer).is_err(), "{request:?}");
        }
    }
}

#[test]
fn what_a_packet_says_of_its_lengths_takes_no_memory() {
    let launch = requests().remove(3).to_bytes(5).unwrap();
    // Its count of values, then the length of the first name.
    let counts = launch.len() - 2 - 10 - 2 - 14 - 2 - 5 - 2 - 15 - 1;
    for (at, length) in [(6, 2), (counts, 1), (counts + 1, 2)] {
        let mut bytes = launch.clone();
        bytes[at..at + length].fill(0xff);
        assert!(Request::from_bytes(&bytes).is_err(), "{at}");
    }
}
