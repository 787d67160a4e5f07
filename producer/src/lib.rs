//! Sources of telemetry and the loop that publishes them.
