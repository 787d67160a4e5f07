//! What a peer can do wrong at the level of frames.

use crate::ErrorCode;
use crate::frame::FrameKind;

/// The peer broke the protocol: the connection cannot go on.
///
/// A broker answers with a [`Refusal`](crate::message::Refusal) that carries [`Self::code`] and
/// closes; a client closes and connects again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error(
        "a frame begins with {found:02x?} instead of \"LNCF\"; is the peer a Lanecast process?"
    )]
    Magic { found: [u8; 4] },
    #[error(
        "frame layout version {found}, this side reads version {}",
        crate::frame::LAYOUT_VERSION
    )]
    Layout { found: u8 },
    #[error("unknown frame kind {found}")]
    UnknownKind { found: u8 },
    #[error("reserved bits of the frame header are set")]
    Reserved,
    #[error("checksum of a frame is {found:#010x}, computed {computed:#010x}")]
    Checksum { found: u32, computed: u32 },
    #[error("{part} of a {kind:?} frame has {bytes} bytes, the limit is {limit}")]
    TooLarge { kind: FrameKind, part: &'static str, bytes: u32, limit: u32 },
    #[error("control archive of a {kind:?} frame is malformed")]
    Archive { kind: FrameKind },
    #[error("{field} of a {kind:?} frame has {size} bytes or entries, the limit is {limit}")]
    FieldTooLong { kind: FrameKind, field: &'static str, size: usize, limit: usize },
    #[error("{kind:?} frame not allowed {state}")]
    Unexpected { kind: FrameKind, state: &'static str },
    #[error(
        "peer speaks protocol versions {min} to {max}, this side {} to {}",
        crate::limits::PROTOCOL_MIN,
        crate::limits::PROTOCOL_MAX
    )]
    Version { min: u16, max: u16 },
    #[error("{what}: {count}, the limit is {limit}")]
    Limit { what: &'static str, count: u64, limit: u64 },
    #[error("{kind:?} frame answers no request of this connection")]
    UnknownCorrelation { kind: FrameKind },
    #[error("{kind:?} frame: {what}")]
    Content { kind: FrameKind, what: &'static str },
}

impl ProtocolError {
    /// The number that the peer is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Magic { .. }
            | Self::Layout { .. }
            | Self::UnknownKind { .. }
            | Self::Reserved
            | Self::Checksum { .. }
            | Self::Archive { .. }
            | Self::Content { .. } => ErrorCode::BAD_FRAME,
            Self::TooLarge { .. } => ErrorCode::FRAME_TOO_LARGE,
            Self::FieldTooLong { .. } | Self::Limit { .. } => ErrorCode::LIMIT_EXCEEDED,
            Self::Unexpected { .. } | Self::UnknownCorrelation { .. } => {
                ErrorCode::UNEXPECTED_FRAME
            }
            Self::Version { .. } => ErrorCode::UNSUPPORTED_VERSION,
        }
    }
}
