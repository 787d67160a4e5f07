//! Chunks of telemetry into ClickHouse, exactly once.
