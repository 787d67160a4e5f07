//! `lanecast`: every role of the pipeline as one binary.

fn main() {}
