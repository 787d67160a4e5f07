//! What the machine gives by itself: the bounds that results are compared with.

mod disk;
mod ring;
mod sendfile;

pub use disk::{DiskLoad, disk};
pub use ring::ring;
pub use sendfile::{PageCache, sendfile};
