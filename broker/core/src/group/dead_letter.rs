//! What a group gives up on, and what it is told of it.

use lanecast_wire::{Offset, ProducerEpoch, ProducerId};

use super::GroupId;
use super::limits::CHUNKS_OUT_PER_GROUP_DEFAULT;

/// How the topic wants its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// A chunk that has failed this often is dead. 0: none ever is.
    pub max_attempts: u32,
    /// There is a dead-letter topic. Without one no chunk dies and terminate is refused.
    pub dead_letters: bool,
    /// Chunks are handed out no more once their newest batch was appended this long ago. 0: always.
    pub record_ttl_ms: u64,
    /// Chunks that are out on lease at a time, over all members; at least 1, and at most
    /// [`CHUNKS_OUT_PER_GROUP_MAX`](super::limits::CHUNKS_OUT_PER_GROUP_MAX).
    pub chunks_out: u32,
    /// Of every draw that the groups make.
    pub seed: u64,
}

impl Default for GroupSettings {
    /// Nothing is given up.
    fn default() -> Self {
        Self {
            max_attempts: 0,
            dead_letters: false,
            record_ttl_ms: 0,
            chunks_out: CHUNKS_OUT_PER_GROUP_DEFAULT,
            seed: 0,
        }
    }
}

/// Records that no member could handle, to be appended to the dead-letter topic.
///
/// That these shall go is durable, and the group has one dead letter out at a time. It is given out
/// again after a restart until [`Groups::dead_lettered`](super::Groups::dead_lettered) has become
/// durable, always with the same `producer`, `epoch`, `attempts`, `at_ms` and `reason`, and the same
/// `ranges` but for what the log has lost of them meanwhile, with retention or with its end. So
/// whoever appends it in the order of the records, under that producer and epoch and with sequences
/// taken from the offsets, can tell by the last sequence what is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub group: GroupId,
    /// The group's name.
    pub name: String,
    /// This group in this partition; drawn when the group was made, so that another group that
    /// gets the name of a deleted one is another producer.
    pub producer: ProducerId,
    /// Rises by one with each dead letter of the group.
    pub epoch: ProducerEpoch,
    /// Rising, without overlap; may begin and end inside batches.
    pub ranges: Vec<(Offset, Offset)>,
    /// Hand-outs that failed, the last one included.
    pub attempts: u32,
    /// Wall clock when the group gave up, unix milliseconds.
    pub at_ms: i64,
    /// For people: what the last member said, or what became of it.
    pub reason: String,
}
