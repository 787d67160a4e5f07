//! The newest durable blocks of a log, in memory: what subscribers at the tail are served from.

use std::collections::VecDeque;

use super::block::Block;
use crate::limits::CACHE_SPAN_MS;

/// Blocks in order, bounded by bytes. Between two of them may be what is damaged.
#[derive(Debug, Default)]
pub(crate) struct TailCache {
    blocks: VecDeque<Block>,
    bytes: u64,
    payload_bytes: u64,
}

impl TailCache {
    pub(crate) fn clear(&mut self) {
        self.blocks.clear();
        self.bytes = 0;
        self.payload_bytes = 0;
    }

    pub(crate) fn push(&mut self, block: Block) {
        debug_assert!(block.header.count > 0);
        debug_assert!(
            self.blocks.back().is_none_or(|last| last.end_offset() <= block.base_offset())
        );
        self.bytes += block.header.bytes_on_disk();
        self.payload_bytes += block.payload.len() as u64;
        self.blocks.push_back(block);
    }

    pub(crate) fn pop_oldest(&mut self) -> Option<Block> {
        let block = self.blocks.pop_front()?;
        self.bytes -= block.header.bytes_on_disk();
        self.payload_bytes -= block.payload.len() as u64;
        Some(block)
    }

    /// Lets go of the oldest blocks until the rest is within `bytes_max`.
    pub(crate) fn trim(&mut self, bytes_max: u64) {
        while self.bytes > bytes_max {
            let _oldest = self.pop_oldest();
        }
    }

    /// Would `bytes_max` hold, at the rate of what is here, less than [`CACHE_SPAN_MS`]? Then who comes back
    /// after a moment finds his place gone, whatever is kept for him.
    pub(crate) fn is_fleeting(&self, now_ms: i64, bytes_max: u64) -> bool {
        let Some(oldest) = self.oldest() else { return false };
        let age_ms = u64::try_from(now_ms - oldest.header.append_time_ms).unwrap_or(0);
        u128::from(age_ms) * u128::from(bytes_max) < u128::from(CACHE_SPAN_MS * self.bytes)
    }

    /// Lets go of the oldest blocks below `passed` until the rest is within `bytes_max`.
    pub(crate) fn trim_passed(&mut self, passed: u64, bytes_max: u64) {
        while self.bytes > bytes_max
            && self.oldest().is_some_and(|block| block.end_offset() <= passed)
        {
            let _oldest = self.pop_oldest();
        }
    }

    pub(crate) fn oldest(&self) -> Option<&Block> {
        self.blocks.front()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// In memory, without what a block is padded with.
    pub(crate) fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter()
    }

    /// The block that holds `offset`.
    pub(crate) fn find(&self, offset: u64) -> Option<&Block> {
        let at = self.blocks.partition_point(|block| block.end_offset() <= offset);
        self.blocks.get(at).filter(|block| block.base_offset() <= offset)
    }
}
