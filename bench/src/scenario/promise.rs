//! The promises of a topic, in words.

use lanecast_wire::message::Durability;

pub(super) const ALL: [Durability; 3] =
    [Durability::Memory, Durability::Written, Durability::Fsync];

pub(super) fn name(durability: Durability) -> &'static str {
    match durability {
        Durability::Memory => "memory",
        Durability::Written => "written",
        Durability::Fsync => "fsync",
    }
}

/// What an acknowledgement means; and a delivery, which comes no earlier.
pub(super) fn meaning(durability: Durability) -> &'static str {
    match durability {
        Durability::Memory => "in the broker's memory",
        Durability::Written => "written, survives a crash of the broker",
        Durability::Fsync => "flushed, survives power loss",
    }
}
