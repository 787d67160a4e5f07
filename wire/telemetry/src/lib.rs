//! Columnar GPU telemetry batches.
