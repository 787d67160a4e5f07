//! A lane whose sequences the broker has forgotten.
//!
//! The broker refuses a batch as out of order when it does not know the one before it. That the
//! refused batch itself was not appended by this request is certain. Whether an earlier try of it
//! was, nobody can tell any more, since what would have recognised it is gone: such a batch is in
//! doubt.
//!
//! ```text
//!                                    nothing in doubt, or OnLostSequence::StartOver
//!  Lost ── all answers have come ──▶ epoch + 1, sequences from 0, everything unacknowledged again
//!                               └──▶ in doubt, OnLostSequence::Fail: the producer ends
//! ```
//!
//! The new epoch fences the old one, so a late copy of an old request cannot be appended after it.
//! Epochs are compared per partition, so a lane starts over alone.

use super::{OnLostSequence, ProducerFailed, ProducerSession};
use crate::{ErrorCode, ProducerEpoch, Sequence, batch};

impl<T> ProducerSession<T> {
    /// Gives everything that is not acknowledged a place in the partition's next epoch. Nothing of
    /// the lane is in flight.
    pub(super) fn start_over(
        &mut self,
        partition: u32,
        refused: Sequence,
    ) -> Result<(), ProducerFailed> {
        let failed = |message: String| ProducerFailed {
            partition: self.partition(partition),
            sequence: refused,
            code: ErrorCode::OUT_OF_ORDER_SEQUENCE,
            message,
        };
        let lane = &self.lanes[partition as usize];
        let open = || lane.batches.iter().filter(|entry| entry.reply.is_none());
        let doubtful = open().filter(|entry| entry.in_doubt).count() as u64;
        if doubtful > 0 && self.settings.on_lost_sequence == OnLostSequence::Fail {
            return Err(failed(format!(
                "the broker has forgotten this producer, and {doubtful} batches that were sent \
                 before may or may not be in the topic"
            )));
        }
        let Some(epoch) = lane.epoch.0.checked_add(1).map(ProducerEpoch) else {
            return Err(failed("the producer has no epoch left".to_owned()));
        };
        let lane = &mut self.lanes[partition as usize];
        lane.epoch = epoch;
        lane.next_sequence = 0;
        for entry in lane.batches.iter_mut().filter(|entry| entry.reply.is_none()) {
            entry.sequence = lane.next_sequence;
            entry.batch = batch::renumber(&entry.batch, epoch, Sequence(entry.sequence));
            lane.next_sequence += 1;
        }
        self.starts_over += 1;
        self.doubtful += doubtful;
        Ok(())
    }

    /// Times that a partition's sequences began again under a new epoch.
    #[must_use]
    pub fn starts_over(&self) -> u64 {
        self.starts_over
    }

    /// Batches that may be in the log twice, because they were in doubt when their partition
    /// started over.
    #[must_use]
    pub fn doubtful(&self) -> u64 {
        self.doubtful
    }
}
