//! Newtypes for every id and position that crosses the wire.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A topic, numbered by the broker when it is created; numbers are never reused.
    TopicId(u32)
);
id!(
    /// The position of one record in its partition, counted from 0 without holes.
    Offset(u64)
);
id!(
    /// One instance of a producer: a random number drawn by the client.
    ProducerId(u64)
);
id!(
    /// Raised by a producer that starts over under the same id; lower epochs are fenced off.
    ProducerEpoch(u32)
);
id!(
    /// The number of a batch within (producer id, epoch, partition), counted from 0 without holes.
    Sequence(u64)
);
id!(
    /// Ties a reply to its request; drawn by the client, unique among its requests in flight.
    CorrelationId(u64)
);
id!(
    /// A subscription of one connection; drawn by the client.
    SubscriptionId(u32)
);
id!(
    /// One of 256 hash slots that the keys of a topic fall into.
    Slot(u8)
);

/// A partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    pub topic: TopicId,
    pub index: u32,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.index)
    }
}

/// Number of hash slots; a topic has at most this many partitions.
pub const SLOTS: u32 = 256;

impl Slot {
    /// `FNV-1a-64(key) % 256`
    /// (Fowler, Noll, Vo: <http://www.isthe.com/chongo/tech/comp/fnv/>).
    #[must_use]
    pub fn of_key(key: &[u8]) -> Self {
        let hash = fnv1a(FNV_START, key);
        Slot((hash % u64::from(SLOTS)) as u8)
    }

    /// The partition that this slot belongs to: equal runs of slots, in order.
    ///
    /// `partitions` is between 1 and [`SLOTS`].
    #[must_use]
    pub fn partition(self, partitions: u32) -> u32 {
        debug_assert!((1..=SLOTS).contains(&partitions));
        u32::from(self.0) * partitions / SLOTS
    }
}

/// The hash of no bytes.
pub(crate) const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// Carries a FNV-1a-64 hash on over more bytes.
pub(crate) fn fnv1a(mut hash: u64, bytes: &[u8]) -> u64 {
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}
