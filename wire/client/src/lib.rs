//! Embeddable tokio client for the Lanecast broker.
