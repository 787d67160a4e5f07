//! What can go wrong, as the application sees it.

use std::io;
use std::time::Duration;

use lanecast_wire::builder::RecordRefused;
use lanecast_wire::message::Refusal;
use lanecast_wire::session::{ProducerFailed, SubscriptionError};
use lanecast_wire::{ErrorCode, ProtocolError};

/// A connection ended, or did not come about.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error("cannot resolve {address:?}: {reason}")]
    Resolve { address: String, reason: String },
    #[error("cannot reach {address}: {reason}")]
    Unreachable { address: String, reason: String },
    #[error("the broker closed the connection")]
    Closed,
    #[error("the broker says goodbye: {reason}")]
    Goodbye { reason: String },
    #[error("the broker refused the connection: {code}: {message}")]
    Refused { code: ErrorCode, message: String },
    #[error("socket: {reason}")]
    Socket { reason: String },
    #[error("no sign of life from the broker for {silent:?}")]
    Dead { silent: Duration },
    #[error("the broker broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    #[error("the broker delivered what cannot be: {0}")]
    Delivery(#[from] SubscriptionError),
    #[error("topic {topic:?} is another one now; was the broker's data directory replaced?")]
    TopicReplaced { topic: String },
}

impl ConnectionError {
    /// Trying again cannot help.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Refused { code, .. } => {
                *code == ErrorCode::UNSUPPORTED_VERSION || (100..200).contains(&code.0)
            }
            Self::TopicReplaced { .. } => true,
            Self::Resolve { .. }
            | Self::Unreachable { .. }
            | Self::Closed
            | Self::Goodbye { .. }
            | Self::Socket { .. }
            | Self::Dead { .. }
            | Self::Protocol(_)
            | Self::Delivery(_) => false,
        }
    }
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        Self::Socket { reason: error.to_string() }
    }
}

impl From<Refusal> for ConnectionError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { code: refusal.code(), message: refusal.message }
    }
}

/// Connecting or asking about topics failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    #[error("setting {field}: {reason}")]
    Config { field: &'static str, reason: String },
    #[error("no broker at {addr}: {last}; is it running, and is the address right?")]
    Connect { addr: String, last: ConnectionError },
    #[error("no answer within {timeout:?}: {last}")]
    Timeout { timeout: Duration, last: String },
    #[error("refused: {code}: {message}")]
    Refused { code: ErrorCode, message: String },
    #[error("the broker answered another question; does it speak the same protocol?")]
    Answer,
}

impl ClientError {
    pub(crate) fn config(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Config { field, reason: reason.into() }
    }

    /// The broker's number, if it refused.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Config { .. } | Self::Connect { .. } | Self::Timeout { .. } | Self::Answer => {
                None
            }
        }
    }
}

impl From<Refusal> for ClientError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { code: refusal.code(), message: refusal.message }
    }
}

/// A record or a producer came to its end. After anything but [`ProduceError::Record`]
/// the producer takes nothing more, and what was pushed and not
/// acknowledged may or may not be in the topic.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProduceError {
    /// This record was not taken; the producer goes on.
    #[error("record refused: {0}")]
    Record(#[from] RecordRefused),
    #[error("the broker will not take the batch: {0}")]
    Failed(#[from] ProducerFailed),
    /// Of the partition that waited longest, whatever others got acknowledged.
    #[error("partition {partition}: no acknowledgement for {waited:?}; last: {last}")]
    GaveUp { partition: u32, waited: Duration, last: String },
    #[error(transparent)]
    Connection(ConnectionError),
    #[error("the producer is closed")]
    Closed,
}

/// A subscriber came to its end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubscribeError {
    #[error("subscription refused: {code}: {message}")]
    Refused { code: ErrorCode, message: String },
    #[error(transparent)]
    Connection(ConnectionError),
    /// Handlers did not finish while their subscription was left, and were cancelled. Records of a
    /// group return to it.
    #[error("nothing moved for {waited:?}: handlers of {records} records were cancelled")]
    Stuck { waited: Duration, records: u64 },
    #[error("the subscriber is closed")]
    Closed,
}

/// A chunk could not be settled. Whoever holds its lease by then will have it again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AckError {
    /// The lease has expired, was taken over, or ended with its connection: somebody else gets, or
    /// has got, this chunk.
    #[error("the lease of the chunk is lost")]
    LeaseLost,
    /// The connection broke before the answer came: the chunk may be settled or not.
    #[error("the connection broke before the answer came")]
    Unknown,
    #[error("refused: {code}: {message}")]
    Refused { code: ErrorCode, message: String },
    #[error("the subscriber is closed")]
    Closed,
}

/// Closing a client or draining a subscription did not come to a good end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CloseError {
    #[error("not everything was acknowledged: {0}")]
    Produce(#[from] ProduceError),
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    #[error(transparent)]
    Client(#[from] ClientError),
    /// `left` records of the topic are not dealt with: they are with handlers, with other members of
    /// the group, wait for another attempt, or have not arrived. (What a group's topic got after the
    /// drain began may be among them.)
    #[error("came no further for {waited:?}, and {left} records of the topic are left")]
    Stalled { waited: Duration, left: u64 },
}
