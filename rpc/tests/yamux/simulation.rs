//! Two sessions connected by pipes that deliver when the test says so: what is written arrives, in order, once.
use std::collections::HashMap;
use std::task::Poll;
use std::time::Duration;

use pinfold_rpc::yamux::{
    Config, Flags, FrameType, HEADER_LEN, Header, INITIAL_WINDOW, Role, Session, StreamError,
    StreamKey,
};
use proptest::collection::vec;
use proptest::prelude::*;

const START: Duration = Duration::ZERO;

#[derive(Clone, Debug)]
enum Step {
    Open {
        side: usize,
    },
    Write {
        side: usize,
        stream: usize,
        length: usize,
    },
    Read {
        side: usize,
        stream: usize,
        length: usize,
    },
    Finish {
        side: usize,
        stream: usize,
    },
    Deliver {
        from: usize,
        length: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let side = 0..2_usize;
    let stream = 0..8_usize;
    prop_oneof![
        1 => side.clone().prop_map(|side| Step::Open { side }),
        6 => (side.clone(), stream.clone(), 0..200_000_usize)
            .prop_map(|(side, stream, length)| Step::Write { side, stream, length }),
        6 => (side.clone(), stream.clone(), 1..150_000_usize)
            .prop_map(|(side, stream, length)| Step::Read { side, stream, length }),
        1 => (side.clone(), stream).prop_map(|(side, stream)| Step::Finish { side, stream }),
        8 => (side, 1..100_000_usize).prop_map(|(from, length)| Step::Deliver { from, length }),
    ]
}

/// One end of one stream, and how far it has got.
#[derive(Debug)]
struct End {
    key: StreamKey,
    written: usize,
    read: usize,
    finished: bool,
    at_end: bool,
}

impl End {
    fn new(key: StreamKey) -> Self {
        Self {
            key,
            written: 0,
            read: 0,
            finished: false,
            at_end: false,
        }
    }
}

struct Side {
    session: Session,
    ends: Vec<End>,
    /// Sent, not delivered.
    pipe: Vec<u8>,
    /// Data that each stream of this side may still send, by what the other side has ever granted.
    windows: HashMap<u32, i64>,
}

struct World {
    sides: [Side; 2],
    peak: usize,
}

impl World {
    fn new() -> Self {
        let side = |role| Side {
            session: Session::new(role, Config::default()),
            ends: Vec::new(),
            pipe: Vec::new(),
            windows: HashMap::new(),
        };
        Self {
            sides: [side(Role::Client), side(Role::Server)],
            peak: 0,
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Open { side } => {
                let side = &mut self.sides[side];
                if side.ends.len() < 8 {
                    let key = side.session.open(START).unwrap();
                    side.ends.push(End::new(key));
                }
            }
            Step::Write {
                side,
                stream,
                length,
            } => self.write(side, stream, length),
            Step::Read {
                side,
                stream,
                length,
            } => {
                self.read(side, stream, length);
            }
            Step::Finish { side, stream } => {
                let side = &mut self.sides[side];
                if let Some(end) = side.ends.get_mut(stream) {
                    side.session.finish(end.key, START);
                    end.finished = true;
                }
            }
            Step::Deliver { from, length } => self.deliver(from, length),
        }
        for side in 0..2 {
            self.collect(side);
        }
    }

    /// Each byte tells its own place in the stream, so that order and loss show.
    fn write(&mut self, side: usize, stream: usize, length: usize) {
        let side = &mut self.sides[side];
        let Some(end) = side.ends.get_mut(stream) else {
            return;
        };
        let data: Vec<u8> = (end.written..end.written + length).map(byte_at).collect();
        match side.session.write(end.key, &data) {
            Poll::Ready(Ok(n)) => end.written += n,
            Poll::Ready(Err(error)) => {
                assert_eq!(error, StreamError::Finished);
                assert!(end.finished);
            }
            Poll::Pending => {}
        }
    }

    fn read(&mut self, side: usize, stream: usize, length: usize) -> bool {
        let side = &mut self.sides[side];
        let Some(end) = side.ends.get_mut(stream) else {
            return false;
        };
        let mut buffer = vec![0; length];
        match side.session.read(end.key, &mut buffer) {
            Poll::Ready(Ok(0)) => end.at_end = true,
            Poll::Ready(Ok(n)) => {
                assert!(!end.at_end);
                let expected: Vec<u8> = (end.read..end.read + n).map(byte_at).collect();
                assert!(buffer[..n] == expected, "wrong bytes after {}", end.read);
                end.read += n;
                return true;
            }
            Poll::Ready(Err(error)) => panic!("{error}"),
            Poll::Pending => {}
        }
        false
    }

    /// Moves what a side sends into its pipe, looking at every frame.
    fn collect(&mut self, side: usize) {
        let mut sent = Vec::new();
        self.sides[side].session.take_outgoing(&mut sent);
        let mut rest = &sent[..];
        while !rest.is_empty() {
            let header = Header::parse(rest[..HEADER_LEN].try_into().unwrap()).unwrap();
            rest = &rest[HEADER_LEN..];
            let length = i64::from(header.length);
            if header.kind == FrameType::Data {
                let window = window(&mut self.sides[side], header.stream);
                *window -= length;
                assert!(*window >= 0, "window exceeded on stream {}", header.stream);
                rest = &rest[header.length.try_into().unwrap()..];
            } else if header.flags == Flags::NONE {
                *window(&mut self.sides[1 - side], header.stream) += length;
            }
        }
        self.sides[side].pipe.extend(sent);
    }

    fn deliver(&mut self, from: usize, length: usize) {
        let length = length.min(self.sides[from].pipe.len());
        let bytes: Vec<u8> = self.sides[from].pipe.drain(..length).collect();
        let to = &mut self.sides[1 - from];
        to.session.receive(&bytes, START).unwrap();
        while let Some(key) = to.session.accept() {
            to.ends.push(End::new(key));
        }
        self.peak = self.peak.max(to.session.buffered_bytes());
    }

    fn in_transit(&self) -> bool {
        self.sides.iter().any(|side| !side.pipe.is_empty())
    }

    /// Delivers and reads until nothing moves any more.
    fn settle(&mut self) {
        let mut moved = true;
        while moved {
            moved = self.in_transit();
            for side in 0..2 {
                self.deliver(side, usize::MAX);
                self.collect(side);
                self.collect(1 - side);
                for stream in 0..self.sides[side].ends.len() {
                    moved |= self.read(side, stream, 100_000);
                }
                self.collect(side);
            }
        }
    }
}

fn window(side: &mut Side, stream: u32) -> &mut i64 {
    side.windows
        .entry(stream)
        .or_insert(i64::from(INITIAL_WINDOW))
}

fn byte_at(place: usize) -> u8 {
    u8::try_from((place ^ place >> 8) & 0xff).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_written_arrives_in_order_and_streams_end(steps in vec(step(), 1..160)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        world.settle();
        let total = |world: &World, side: usize| {
            let ends = &world.sides[side].ends;
            (ends.iter().map(|end| end.written).sum::<usize>(), ends.iter().map(|end| end.read).sum::<usize>())
        };
        let ((written_0, read_0), (written_1, read_1)) = (total(&world, 0), total(&world, 1));
        prop_assert_eq!((written_0, written_1), (read_1, read_0));
        prop_assert_eq!(world.sides[0].ends.len(), world.sides[1].ends.len());
        for side in &mut world.sides {
            prop_assert_eq!(side.session.buffered_bytes(), 0);
            for end in &side.ends {
                side.session.release(end.key, START);
            }
        }
        for side in 0..2 {
            world.collect(side);
        }
        world.settle_released();
        for side in &world.sides {
            prop_assert_eq!(side.session.live_streams(), 0);
        }
    }
}

impl World {
    /// Delivers what is left when nobody reads any more.
    fn settle_released(&mut self) {
        while self.in_transit() {
            for side in 0..2 {
                self.deliver(side, usize::MAX);
                self.collect(0);
                self.collect(1);
            }
        }
    }
}

#[test]
fn three_hundred_opens_respect_the_backlog_and_all_succeed() {
    let mut world = World::new();
    let mut opened = 0;
    let mut refused = 0;
    while opened < 300 {
        match world.sides[0].session.open(START) {
            Ok(_) => opened += 1,
            Err(error) => {
                assert_eq!(error, pinfold_rpc::yamux::OpenError::Backlog);
                assert_eq!(opened, 256);
                refused += 1;
                world.collect(0);
                world.deliver(0, usize::MAX);
                world.collect(1);
                world.deliver(1, usize::MAX);
            }
        }
    }
    world.collect(0);
    world.deliver(0, usize::MAX);
    assert_eq!((refused, world.sides[1].ends.len()), (1, 300));
}

#[test]
fn stream_that_is_never_read_stalls_only_itself() {
    let mut world = World::new();
    for _ in 0..2 {
        world.run(&Step::Open { side: 0 });
    }
    // Stream 0 is not read; stream 1 is.
    for _ in 0..200 {
        for stream in 0..2 {
            world.run(&Step::Write {
                side: 0,
                stream,
                length: 60_000,
            });
            world.run(&Step::Deliver {
                from: 0,
                length: usize::MAX,
            });
        }
        world.run(&Step::Read {
            side: 1,
            stream: 1,
            length: 200_000,
        });
        world.run(&Step::Deliver {
            from: 1,
            length: usize::MAX,
        });
    }
    let window = usize::try_from(INITIAL_WINDOW).unwrap();
    assert_eq!(world.sides[0].ends[0].written, window);
    assert!(
        world.sides[1].ends[1].read > 20 * window,
        "{:?}",
        world.sides[1].ends
    );
    assert!(world.peak <= 2 * window);
}
