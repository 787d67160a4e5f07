//! What the machine gives by itself: the bounds that results are compared with.

mod disk;

pub use disk::{DiskLoad, disk};
