//! REST service over the telemetry in ClickHouse.
pub mod limits;
pub mod params;
