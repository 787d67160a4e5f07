//! What a peer can do that ends its connection.

use lanecast_wire::ErrorCode;

/// Why a connection was ended by the broker, against the peer's will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Offence {
    /// It connected and did not say hello.
    NoHello,
    /// A frame had begun and did not end.
    HalfFrame,
    /// Nothing came from it for very long.
    Silent,
    /// What it sent is not the protocol.
    Protocol,
    /// It does not read what it asked for.
    NotReading,
    /// The frames of all connections that have begun take too much memory, and this one is the oldest.
    ReceiveMemory,
    /// What all peers have not read takes too much memory, and this one has read nothing for the
    /// longest.
    OutboundMemory,
}

impl Offence {
    pub const ALL: [Offence; 7] = [
        Offence::NoHello,
        Offence::HalfFrame,
        Offence::Silent,
        Offence::Protocol,
        Offence::NotReading,
        Offence::ReceiveMemory,
        Offence::OutboundMemory,
    ];

    /// In statistics and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Offence::NoHello => "no_hello",
            Offence::HalfFrame => "half_frame",
            Offence::Silent => "silent",
            Offence::Protocol => "protocol",
            Offence::NotReading => "not_reading",
            Offence::ReceiveMemory => "receive_memory",
            Offence::OutboundMemory => "outbound_memory",
        }
    }

    /// What the peer is told, if it reads. A protocol error has a code of its own.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Offence::NoHello | Offence::HalfFrame | Offence::Silent | Offence::NotReading => {
                ErrorCode::TIMED_OUT
            }
            Offence::Protocol => ErrorCode::BAD_FRAME,
            Offence::ReceiveMemory | Offence::OutboundMemory => ErrorCode::OVERLOADED,
        }
    }

    /// What was sent before does not leave: the peer does not read it, and it takes memory.
    #[must_use]
    pub fn is_cut_off(self) -> bool {
        matches!(self, Offence::NotReading | Offence::OutboundMemory)
    }
}

/// How often each offence was met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffenceCounts([u64; Offence::ALL.len()]);

impl OffenceCounts {
    pub(crate) fn count(&mut self, offence: Offence) {
        self.0[offence as usize] += 1;
    }

    #[must_use]
    pub fn of(&self, offence: Offence) -> u64 {
        self.0[offence as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_offence_has_a_place_and_a_name() {
        for (place, offence) in Offence::ALL.into_iter().enumerate() {
            assert_eq!(offence as usize, place);
            assert!(Offence::ALL[..place].iter().all(|other| other.name() != offence.name()));
        }
    }
}
