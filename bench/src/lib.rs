//! Micro-benchmarks of the data path, in `benches/`: `cargo bench -p lanecast-bench`.
//!
//! They answer what one step costs by itself. What a record costs from end to end is in the summary
//! of `lanecast up --once --json`, per process.
