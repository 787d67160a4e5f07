//! The log on a disk that does what the test says.
