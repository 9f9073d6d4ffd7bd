//! The twelve bytes in front of every yamux frame.

/// Length of a frame header in bytes.
pub const HEADER_LEN: usize = 12;

/// What a frame carries; only data frames have a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameType {
    /// `length` bytes of a stream follow.
    Data,
    /// The peer may send `length` more bytes on a stream.
    WindowUpdate,
    /// A question (SYN) or its answer (ACK) with an opaque value in `length`.
    Ping,
    /// No more streams (code 0 in `length`), or the end of the session (any other code).
    GoAway,
}

/// The flag bits of a frame; unknown bits are kept and ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Opens a stream, or asks with a ping.
    pub const SYN: Self = Self(1);
    /// Confirms a stream, or answers a ping.
    pub const ACK: Self = Self(2);
    /// The sender sends no more data on the stream.
    pub const FIN: Self = Self(4);
    /// The stream is dead in both directions.
    pub const RST: Self = Self(8);

    /// Whether every bit of `other` is set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A frame header; integers are big-endian on the wire, the version byte is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: FrameType,
    /// SYN, ACK, FIN, RST.
    pub flags: Flags,
    /// The stream's id; 0 for ping and go-away.
    pub stream: u32,
    /// Payload bytes, window increment, ping value or go-away code.
    pub length: u32,
}

/// Why twelve bytes are no frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The first byte is not 0.
    #[error("frame of yamux version {version}")]
    Version {
        /// The byte found.
        version: u8,
    },
    /// The second byte is above 3.
    #[error("frame of unknown type {kind}")]
    Type {
        /// The byte found.
        kind: u8,
    },
}

impl Header {
    /// Reads a header; checks version and type, nothing else.
    pub fn parse(bytes: [u8; HEADER_LEN]) -> Result<Self, HeaderError> {
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = bytes;
        if version != 0 {
            return Err(HeaderError::Version { version });
        }
        let kind = match kind {
            0 => FrameType::Data,
            1 => FrameType::WindowUpdate,
            2 => FrameType::Ping,
            3 => FrameType::GoAway,
            kind => return Err(HeaderError::Type { kind }),
        };
        Ok(Self {
            kind,
            flags: Flags(u16::from_be_bytes([f0, f1])),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }

    /// The header as it goes on the wire.
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let kind = match self.kind {
            FrameType::Data => 0,
            FrameType::WindowUpdate => 1,
            FrameType::Ping => 2,
            FrameType::GoAway => 3,
        };
        let [f0, f1] = self.flags.0.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        let [l0, l1, l2, l3] = self.length.to_be_bytes();
        [0, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3]
    }
}
