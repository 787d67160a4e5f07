//! The border between a shard and its shell: what happened, and what shall be done.
//!
//! ```text
//!   sockets ──Received──▶┐                       ┌──Send──▶ sockets
//!   rings   ──Ring──────▶│ Shard::handle(now, e) │──Ring──▶ rings
//!   disk    ──Disk──────▶│ Shard::poll_action()  │──Disk──▶ log files
//!   clock   ──timeout───▶┘ Shard::poll_timeout() └─────────▶ clock
//! ```
//!
//! Everything is a value. The shell performs actions in the order that they are polled; it may
//! complete disk requests in any order.

use bytes::Bytes;
use lanecast_wire::PartitionId;

use crate::{Damage, Migrant, Offence, SealedBlock, ShardMessage, Witness};

/// The two clocks, read by the shell once per turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, microseconds since some start; deadlines are made of it.
    pub mono_us: u64,
    /// Wall clock, unix milliseconds; only stamped on data, never compared with deadlines.
    pub wall_ms: i64,
}

/// One core and all that it owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// A connection of this shard; numbers are never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A disk request in flight; numbers are never reused while the shard lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// A segment of one log; numbers rise and are never reused, also over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

/// A log: a row of segment files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogId {
    /// Topics of the broker; owned by shard 0.
    Catalog,
    /// The batches of a partition.
    Data(PartitionId),
    /// The consumer groups of a partition: chunk bounds and acks.
    Groups(PartitionId),
}

/// Something happened. `Received` borrows the shell's one hot receive buffer; `Filled` gives one away,
/// as [`Action::Expect`] and [`Action::Gather`] ask for.
#[derive(Debug)]
pub enum Event<'a> {
    Connected {
        connection: ConnectionId,
    },
    Received {
        connection: ConnectionId,
        bytes: &'a [u8],
    },
    /// As `Received`. Batches may stay in the buffer instead of being copied out of it. If there was
    /// an [`Action::Gather`], it is that one's, with what came behind what was in it.
    Filled {
        connection: ConnectionId,
        buffer: Vec<u8>,
    },
    /// The socket took this many bytes of earlier `Send`s.
    Sent {
        connection: ConnectionId,
        bytes: u64,
    },
    /// A connection of another shard has come: [`Action::Migrate`]. This is its number here, and so many bytes
    /// of earlier `Send`s its socket has not taken yet. It brings bytes along that were received already: what
    /// holds behind `Received` holds here, too.
    Arrived {
        connection: ConnectionId,
        outbound_bytes: u64,
        migrant: Box<Migrant>,
    },
    /// The connection is gone, by whichever side. Nothing more comes from it.
    Disconnected {
        connection: ConnectionId,
    },
    Ring {
        from: ShardId,
        message: ShardMessage,
    },
    Disk {
        operation: OperationId,
        outcome: Result<DiskDone, DiskError>,
    },
    /// Stop taking new work, finish what was acknowledged or is in flight, then say `Drained`.
    Drain,
}

/// Something shall be done.
#[derive(Debug)]
pub enum Action {
    /// Append these buffers to the connection's outgoing bytes, in order. `patient`: the peer sends on
    /// without them, so they may wait a moment for those that follow.
    Send {
        connection: ConnectionId,
        buffers: Vec<Bytes>,
        patient: bool,
    },
    /// Stop or go on reading from the socket: back-pressure towards the peer.
    SetReading {
        connection: ConnectionId,
        on: bool,
    },
    /// Large frames come on this connection. Receive up to so many bytes at once, which is where one of
    /// them likely ends, and give the buffer away: `Filled`. 0: receive as from any other.
    Expect {
        connection: ConnectionId,
        bytes: usize,
    },
    /// A large frame has begun, and this is what has come of it. Receive once behind that, up to the
    /// buffer's capacity, and give it back: `Filled`. Until then, nothing else is received.
    Gather {
        connection: ConnectionId,
        begun: Vec<u8>,
    },
    /// Hand the connection over to another shard, with the bytes that wait to be sent: `Arrived`. Nothing of it
    /// may be received after what has brought this about. It is not known here any more.
    Migrate {
        connection: ConnectionId,
        to: ShardId,
        migrant: Box<Migrant>,
    },
    /// Close once all earlier `Send`s are written (or cannot be). `Disconnected` follows.
    Close {
        connection: ConnectionId,
    },
    /// Close for cause, and tell people. What was sent before goes out first, but for an offence
    /// that is [cut off](Offence::is_cut_off). `Disconnected` follows.
    Expel {
        connection: ConnectionId,
        /// As its hello names it; empty before that.
        client: String,
        offence: Offence,
        /// For people.
        detail: String,
    },
    Ring {
        to: ShardId,
        message: ShardMessage,
    },
    Disk {
        operation: OperationId,
        request: DiskRequest,
    },
    /// Tell whoever looks after this broker: a stretch of a log is damaged.
    Damaged {
        log: LogId,
        damage: Damage,
    },
    /// The answer to `Event::Drain`: nothing is left in this shard.
    Drained,
}

/// What is durable once a commit is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// Nothing: the block is in the disk's cache, if it has one.
    Nothing,
    /// The block. What else was written before may not be.
    Block,
    /// Everything that the segment holds, whoever has written it.
    Segment,
}

/// Work on log files. Each is answered by one `Event::Disk` with the same operation id.
#[derive(Debug, Clone)]
pub enum DiskRequest {
    /// Make the log's folder if there is none, list its segments, and read its witness.
    OpenLog { log: LogId },
    /// Make a segment of `bytes` (a multiple of 4 KiB) that has all its room, by renaming `recycle` if
    /// given (its old content stays) or with zeros; durable, name included, when done. Commits are
    /// quicker where blocks were written before, so zeros are written as far as there is time.
    PrepareSegment { log: LogId, segment: SegmentId, bytes: u64, recycle: Option<SegmentId> },
    /// Write `block` (a multiple of 4 KiB) at `position` (likewise), and flush.
    Commit { log: LogId, segment: SegmentId, position: u64, block: SealedBlock, flush: Flush },
    /// Read up to `bytes` from `position`; less only at the segment's end.
    Read { log: LogId, segment: SegmentId, position: u64, bytes: u32 },
    /// Deleting a segment that is not there succeeds.
    DeleteSegment { log: LogId, segment: SegmentId },
    /// Put this in place of the log's witness, whole or not at all; durable when done.
    WriteWitness { log: LogId, witness: Witness },
    /// Delete a log's folder with all that is in it, the folders around it that are empty then, and
    /// last its witness; durable when done. Removing a log that is not there succeeds.
    RemoveLog { log: LogId },
}

impl DiskRequest {
    #[must_use]
    pub fn log(&self) -> LogId {
        match self {
            Self::OpenLog { log }
            | Self::PrepareSegment { log, .. }
            | Self::Commit { log, .. }
            | Self::Read { log, .. }
            | Self::DeleteSegment { log, .. }
            | Self::WriteWitness { log, .. }
            | Self::RemoveLog { log } => *log,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskDone {
    /// Segments found, in rising order of id.
    Opened {
        segments: Vec<SegmentFile>,
        /// `None` where there is none, or none that can be read.
        witness: Option<Witness>,
    },
    Witnessed,
    Prepared,
    Committed,
    Read {
        bytes: Bytes,
    },
    Deleted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFile {
    pub segment: SegmentId,
    pub bytes: u64,
}

/// A disk request failed; what it was to write may be on the medium in any part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?}: {detail}")]
pub struct DiskError {
    pub kind: DiskErrorKind,
    /// For people: file, operation and the system's own words.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskErrorKind {
    NoSpace,
    Io,
}
