//! REST service over the telemetry in ClickHouse.
