//! The glommio shell of the Lanecast broker.
