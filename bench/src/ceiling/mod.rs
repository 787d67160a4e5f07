//! What the machine gives by itself: the bounds that results are compared with.

mod clickhouse;
mod disk;
mod ring;
mod sendfile;

pub use clickhouse::{Blocks, CsvLabels, csv, native};
pub use disk::{DiskLoad, disk};
pub use ring::ring;
pub use sendfile::{PageCache, sendfile};
