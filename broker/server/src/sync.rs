//! The atomics that the wake protocol is written with. `tests/loom.rs` has a module of the same
//! name with loom's.

pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};
