//! Bugs that can be planted, so that the simulator can show that it would find them.
//!
//! Each [`Mutant`] is asked for at the one place where a tired person might have written it. In
//! every ordinary build [`planted`] is a constant `false` and the questions vanish; only a build
//! with `RUSTFLAGS="--cfg lanecast_mutants"` can plant one, in the thread that runs the shards. It
//! is a `cfg` of the whole build and not a cargo feature: a feature that one crate asks for is on
//! for all.

/// A planted bug, named after what the broker then does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    // Log
    /// A produce request is answered before its block is flushed.
    AcknowledgeBeforeFlush,
    /// Whichever commit ends is taken for the oldest one.
    AssumeOrderedCompletions,
    /// A failed write or flush is taken for a good one.
    IgnoreFailedFlush,
    /// A log that goes on in a new segment leaves the end of the last one unflushed.
    LeaveTailUnflushed,
    /// What recovery has found counts as durable before its mark is.
    TrustWhatIsFound,
    /// Blocks are readable as soon as they are on their way to the disk.
    ServePastWatermark,
    /// A block with a wrong checksum is a block.
    AcceptTornBlock,
    /// What an earlier life of the log or of a recycled segment has left behind goes on with it.
    AcceptStaleBlock,

    // Producers
    /// A restart forgets which batches the log has.
    ForgetDeduplication,
    /// A retry is answered with the offset of the newest batch.
    AnswerWrongOffset,
    /// A retry is answered at once, although the batch itself is still on its way to the disk.
    AnswerRetryBeforeFlush,
    /// A batch that leaves a hole in its producer's sequence is taken.
    AcceptSequenceHole,

    /// An epoch that a newer one has fenced off is taken.
    AcceptOldEpoch,

    // Groups
    /// A chunk is handed out before its bounds are durable.
    HandOutUnbound,
    /// Bounds of records that were lost on their way hold for those that come in their place.
    KeepLostBounds,
    /// A restart gathers chunks anew that were blocks of the data log.
    ForgetBlocks,
    /// A restart gathers chunks anew that had been bound.
    RebindOnRestart,
    /// A new member gets chunks whose leases are live.
    HandOutTwice,
    /// Leases end when half of their time is over.
    EndLeaseEarly,
    /// A lease that was extended ends when it would have.
    IgnoreExtension,
    /// A settlement may name any generation of the chunk.
    AcceptOldGeneration,
    /// Generations of one life of the broker are those of the life before.
    KeepEpoch,
    /// An ack is answered before it is durable.
    AnswerAckEarly,
    /// The groups log is written and never flushed.
    LeaveGroupsUnflushed,
    /// Failed hand-outs are not written down.
    ForgetAttempts,
    /// An ack of a part settles all of its chunk.
    AckMoreThanNamed,

    // Dead letters
    /// Dead records count as buried once their letters are on their way.
    LoseDeadLetters,
    /// Letters that are made again after a restart are those of another producer.
    RepeatDeadLetters,
    /// A terminate is answered before anything of it is durable.
    AnswerTerminateEarly,
    /// A chunk that failed often enough is finished, without a letter.
    BuryWithoutLetter,

    // Filters
    /// A batch shares the fate of the one before it, left out or not.
    LeaveOutNeighbours,

    // Retention
    /// A reader that retention has overtaken goes on without a word.
    HideMissed,
    /// A group that retention has overtaken does not count what it lost.
    HideSkipped,
    /// Retention takes what somebody works on.
    RetainPastLeases,
    /// A chunk that has outlived its time is handed out.
    HandOutExpired,
    /// A subscriber is sent what has outlived its time.
    DeliverExpired,

    // Topics
    /// Changes of topics and their settings hold, and are answered, before they are durable.
    AnswerChangesEarly,
    /// A topic gets the number of one that was deleted.
    ReuseTopicNumbers,

    // Connections
    /// What came behind the request of a connection that migrates is dropped.
    ForgetUnread,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 39] = [
        Mutant::AcknowledgeBeforeFlush,
        Mutant::AssumeOrderedCompletions,
        Mutant::IgnoreFailedFlush,
        Mutant::LeaveTailUnflushed,
        Mutant::TrustWhatIsFound,
        Mutant::ServePastWatermark,
        Mutant::AcceptTornBlock,
        Mutant::AcceptStaleBlock,
        Mutant::ForgetDeduplication,
        Mutant::AnswerWrongOffset,
        Mutant::AnswerRetryBeforeFlush,
        Mutant::AcceptSequenceHole,
        Mutant::AcceptOldEpoch,
        Mutant::HandOutUnbound,
        Mutant::KeepLostBounds,
        Mutant::ForgetBlocks,
        Mutant::RebindOnRestart,
        Mutant::HandOutTwice,
        Mutant::EndLeaseEarly,
        Mutant::IgnoreExtension,
        Mutant::AcceptOldGeneration,
        Mutant::KeepEpoch,
        Mutant::AnswerAckEarly,
        Mutant::LeaveGroupsUnflushed,
        Mutant::ForgetAttempts,
        Mutant::AckMoreThanNamed,
        Mutant::LoseDeadLetters,
        Mutant::RepeatDeadLetters,
        Mutant::AnswerTerminateEarly,
        Mutant::BuryWithoutLetter,
        Mutant::LeaveOutNeighbours,
        Mutant::HideMissed,
        Mutant::HideSkipped,
        Mutant::RetainPastLeases,
        Mutant::HandOutExpired,
        Mutant::DeliverExpired,
        Mutant::AnswerChangesEarly,
        Mutant::ReuseTopicNumbers,
        Mutant::ForgetUnread,
    ];
}

/// Is this bug planted? Never, in an ordinary build.
#[cfg(not(lanecast_mutants))]
#[inline(always)]
pub(crate) const fn planted(_mutant: Mutant) -> bool {
    false
}

#[cfg(lanecast_mutants)]
pub use self::plot::plant;
#[cfg(lanecast_mutants)]
pub(crate) use self::plot::planted;

#[cfg(lanecast_mutants)]
mod plot {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    pub(crate) fn planted(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }

    /// Plants a bug in the shards that this thread runs, in place of the one before.
    pub fn plant(mutant: Option<Mutant>) {
        PLANTED.set(mutant);
    }
}
