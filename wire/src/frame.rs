//! The frame: a fixed header, a control archive, a payload.
//!
//! ```text
//!  0        4     5    6     8              16           20           24        28       32
//!  | magic  | ver |kind|flags| correlation  | control_len| payload_len| reserved| crc32c |
//!  | "LNCF" |  u8 | u8 | u16 |     u64      |     u32    |     u32    |   u32   |  u32   |
//! ```
//!
//! All numbers are little-endian. The CRC32C covers bytes 0..28 and the control archive. The payload
//! is zero or more batches, each of which carries a checksum of its own, so that bulk bytes are
//! summed once by their producer and never again for the sake of the frame. Only `Produce` and
//! `Deliver` frames have a payload. Flags and the reserved field are 0.

use crate::checksum::{crc32c, crc32c_append};
use crate::limits::{CONTROL_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::{CorrelationId, ProtocolError};

/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 32;

/// First four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"LNCF";

/// Layout version of this header. It changes only if the header itself does; everything behind it
/// is versioned by the hello.
pub const LAYOUT_VERSION: u8 = 1;

/// What the control archive is. Numbers are never reused; clients send 1-63, brokers 64-127.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    Hello = 1,
    CreateTopic = 2,
    DescribeTopic = 3,
    ListTopics = 4,
    Produce = 5,
    Subscribe = 6,
    Credit = 7,
    Ack = 8,
    Nack = 9,
    Extend = 10,
    Unsubscribe = 11,
    Ping = 12,
    AlterTopic = 13,
    DeleteTopic = 14,
    ListGroups = 15,
    MoveGroup = 16,
    DeleteGroup = 17,
    Terminate = 18,
    Migrate = 19,

    HelloReply = 64,
    Topics = 65,
    ProduceReply = 66,
    SubscribeReply = 67,
    Deliver = 68,
    Missed = 69,
    Done = 70,
    Goodbye = 71,
    Refusal = 72,
    Groups = 73,
    Settled = 74,
    Ended = 75,
    PartitionOnline = 76,
}

impl FrameKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [FrameKind; 32] = [
        Self::Hello,
        Self::CreateTopic,
        Self::DescribeTopic,
        Self::ListTopics,
        Self::Produce,
        Self::Subscribe,
        Self::Credit,
        Self::Ack,
        Self::Nack,
        Self::Extend,
        Self::Unsubscribe,
        Self::Ping,
        Self::AlterTopic,
        Self::DeleteTopic,
        Self::ListGroups,
        Self::MoveGroup,
        Self::DeleteGroup,
        Self::Terminate,
        Self::Migrate,
        Self::HelloReply,
        Self::Topics,
        Self::ProduceReply,
        Self::SubscribeReply,
        Self::Deliver,
        Self::Missed,
        Self::Done,
        Self::Goodbye,
        Self::Refusal,
        Self::Groups,
        Self::Settled,
        Self::Ended,
        Self::PartitionOnline,
    ];

    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        let index = match number {
            1..=19 => number - 1,
            64..=76 => number - 64 + 19,
            _ => return None,
        };
        Some(Self::ALL[usize::from(index)])
    }

    /// Frames of this kind carry batches behind their control archive.
    #[must_use]
    pub fn has_payload(self) -> bool {
        matches!(self, Self::Produce | Self::Deliver)
    }
}

/// The fixed header, decoded; lengths are within their limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    pub kind: FrameKind,
    pub correlation: CorrelationId,
    pub control_bytes: u32,
    pub payload_bytes: u32,
}

impl FrameHeader {
    /// Reads a header. The checksum is not looked at, since it covers the control archive too:
    /// see [`Frame::open`].
    ///
    /// # Errors
    /// The bytes are no frame header, or a length is over its limit.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, ProtocolError> {
        let magic = array::<4>(bytes, 0);
        if magic != MAGIC {
            return Err(ProtocolError::Magic { found: magic });
        }
        if bytes[4] != LAYOUT_VERSION {
            return Err(ProtocolError::Layout { found: bytes[4] });
        }
        let kind = FrameKind::from_number(bytes[5])
            .ok_or(ProtocolError::UnknownKind { found: bytes[5] })?;
        if array::<2>(bytes, 6) != [0; 2] || array::<4>(bytes, 24) != [0; 4] {
            return Err(ProtocolError::Reserved);
        }
        let header = Self {
            kind,
            correlation: CorrelationId(u64::from_le_bytes(array(bytes, 8))),
            control_bytes: u32::from_le_bytes(array(bytes, 16)),
            payload_bytes: u32::from_le_bytes(array(bytes, 20)),
        };
        let within = |part, bytes, limit| {
            if bytes > limit {
                return Err(ProtocolError::TooLarge { kind, part, bytes, limit });
            }
            Ok(())
        };
        within("control archive", header.control_bytes, CONTROL_BYTES_MAX)?;
        let payload_limit = if kind.has_payload() { PAYLOAD_BYTES_MAX } else { 0 };
        within("payload", header.payload_bytes, payload_limit)?;
        Ok(header)
    }

    /// The header as it stands before `control`, checksum included.
    #[must_use]
    pub fn encode(&self, control: &[u8]) -> [u8; HEADER_BYTES] {
        assert_eq!(self.control_bytes as usize, control.len(), "control length of a frame");
        assert!(self.control_bytes <= CONTROL_BYTES_MAX, "control archive over its limit");
        assert!(
            self.payload_bytes <= if self.kind.has_payload() { PAYLOAD_BYTES_MAX } else { 0 },
            "payload over its limit"
        );
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4] = LAYOUT_VERSION;
        bytes[5] = self.kind as u8;
        bytes[8..16].copy_from_slice(&self.correlation.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.control_bytes.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.payload_bytes.to_le_bytes());
        let crc = checksum(&bytes, control);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.control_bytes as usize + self.payload_bytes as usize
    }
}

/// One whole frame, in place; its checksum was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub header: FrameHeader,
    pub control: &'a [u8],
    /// Batches, not yet looked at.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Cuts a whole frame into its parts and checks its sum. `bytes` is exactly the frame.
    ///
    /// # Errors
    /// The checksum is wrong.
    pub fn open(header: FrameHeader, bytes: &'a [u8]) -> Result<Self, ProtocolError> {
        assert_eq!(bytes.len(), header.frame_bytes(), "a frame is opened once it is whole");
        let (head, rest) = bytes.split_at(HEADER_BYTES);
        let (control, payload) = rest.split_at(header.control_bytes as usize);
        let found = u32::from_le_bytes(array(head, 28));
        let computed = checksum(head, control);
        if found != computed {
            return Err(ProtocolError::Checksum { found, computed });
        }
        Ok(Self { header, control, payload })
    }
}

/// The header at the front of `bytes`, if it is all there.
///
/// # Errors
/// See [`FrameHeader::decode`].
pub fn peek(bytes: &[u8]) -> Result<Option<FrameHeader>, ProtocolError> {
    match bytes.first_chunk::<HEADER_BYTES>() {
        Some(head) => FrameHeader::decode(head).map(Some),
        None => Ok(None),
    }
}

/// The first word of a frame that is not there as a whole, as soon as it is.
///
/// # Errors
/// The bytes begin no frame.
pub(crate) fn check_magic(bytes: &[u8]) -> Result<(), ProtocolError> {
    match bytes.first_chunk::<4>() {
        Some(found) if *found != MAGIC => Err(ProtocolError::Magic { found: *found }),
        Some(_) | None => Ok(()),
    }
}

fn checksum(header: &[u8], control: &[u8]) -> u32 {
    crc32c_append(crc32c(&header[..28]), control)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the range is N bytes long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_keep_their_numbers() {
        for number in 0..=u8::MAX {
            if let Some(kind) = FrameKind::from_number(number) {
                assert_eq!(kind as u8, number);
            }
        }
        assert_eq!((0..=u8::MAX).filter_map(FrameKind::from_number).count(), FrameKind::ALL.len());
    }

    #[test]
    fn header_is_read_back() {
        let header = FrameHeader {
            kind: FrameKind::Produce,
            correlation: CorrelationId(7),
            control_bytes: 3,
            payload_bytes: 9,
        };
        assert_eq!(FrameHeader::decode(&header.encode(b"abc")), Ok(header));
    }

    #[test]
    fn lengths_over_the_limit_are_refused() {
        let header = FrameHeader {
            kind: FrameKind::Ping,
            correlation: CorrelationId(7),
            control_bytes: 0,
            payload_bytes: 0,
        };
        let mut payload = header.encode(&[]);
        payload[20] = 1;
        assert!(matches!(
            FrameHeader::decode(&payload),
            Err(ProtocolError::TooLarge { part: "payload", limit: 0, .. })
        ));
        let mut control = header.encode(&[]);
        control[16..20].copy_from_slice(&(CONTROL_BYTES_MAX + 1).to_le_bytes());
        assert!(matches!(FrameHeader::decode(&control), Err(ProtocolError::TooLarge { .. })));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let control = b"control";
        let header = FrameHeader {
            kind: FrameKind::Produce,
            correlation: CorrelationId(7),
            control_bytes: control.len() as u32,
            payload_bytes: 0,
        };
        let mut frame = header.encode(control).to_vec();
        frame.extend_from_slice(control);
        for bit in 0..frame.len() * 8 {
            let mut wrong = frame.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            let found = peek(&wrong).map(|header| header.expect("header is whole"));
            // A length that changed asks for other bytes and is caught by the sum over those.
            let refused = match found {
                Err(_) => true,
                Ok(found) => {
                    wrong.resize(found.frame_bytes(), 0);
                    Frame::open(found, &wrong).is_err()
                }
            };
            assert!(refused, "bit {bit}");
        }
    }
}
