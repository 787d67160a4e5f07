//! What always holds, as predicates: for assertions, for the simulator, for tests.

use lanecast_wire::Offset;

use crate::limits::BLOCK_ALIGN;

/// Blocks, segments and deliveries follow each other without a hole or an overlap.
#[must_use]
pub fn follows(end: u64, base: u64) -> bool {
    end == base
}

/// A high watermark never goes back, also not over a crash.
#[must_use]
pub fn watermark_advances(before: Offset, after: Offset) -> bool {
    before <= after
}

/// Nobody sees a record at or above the high watermark.
#[must_use]
pub fn is_visible(last: Offset, high_watermark: Offset) -> bool {
    last < high_watermark
}

/// What is written is whole blocks at block positions.
#[must_use]
pub fn is_aligned(position: u64, bytes: usize) -> bool {
    position.is_multiple_of(BLOCK_ALIGN) && (bytes as u64).is_multiple_of(BLOCK_ALIGN) && bytes > 0
}

/// An answered batch lies below the high watermark: it is as durable as its topic promises.
#[must_use]
pub fn is_acknowledged_durable(base: Offset, record_count: u32, high_watermark: Offset) -> bool {
    record_count > 0 && base.0 + u64::from(record_count) <= high_watermark.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predicates_tell_right_from_wrong() {
        assert!(follows(3, 3) && !follows(3, 4) && !follows(4, 3));
        assert!(
            watermark_advances(Offset(3), Offset(3)) && !watermark_advances(Offset(4), Offset(3))
        );
        assert!(is_visible(Offset(2), Offset(3)) && !is_visible(Offset(3), Offset(3)));
        assert!(is_aligned(8192, 4096) && !is_aligned(1, 4096) && !is_aligned(0, 0));
        assert!(is_acknowledged_durable(Offset(3), 2, Offset(5)));
        assert!(!is_acknowledged_durable(Offset(3), 3, Offset(5)));
    }
}
