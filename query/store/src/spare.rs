//! Memory of blocks that were sent, for those to come.
//!
//! A large block's memory goes back to the kernel when it is freed, and the kernel clears every page of
//! what the next one gets: a sixth of all that a block costs. So a few are kept.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::limits::{SPARE_BLOCK_BYTES_MAX, SPARE_BLOCKS_MAX};

static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A block on its way; its memory is kept when the last part of it is dropped.
struct Sent(Vec<u8>);

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        keep(&mut spare(), std::mem::take(&mut self.0));
    }
}

/// Room for so many bytes, empty.
pub(crate) fn room(bytes: usize) -> Vec<u8> {
    let mut room = spare().pop().unwrap_or_default();
    room.reserve(bytes);
    room
}

/// The bytes of a block that was made in such room.
pub(crate) fn sent(block: Vec<u8>) -> Bytes {
    Bytes::from_owner(Sent(block))
}

fn keep(spare: &mut Vec<Vec<u8>>, mut block: Vec<u8>) {
    if spare.len() < SPARE_BLOCKS_MAX && block.capacity() <= SPARE_BLOCK_BYTES_MAX {
        block.clear();
        spare.push(block);
    }
}

fn spare() -> MutexGuard<'static, Vec<Vec<u8>>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_empty_and_bounded() {
        let mut spare = Vec::new();
        keep(&mut spare, Vec::with_capacity(SPARE_BLOCK_BYTES_MAX + 1));
        assert!(spare.is_empty());
        for _ in 0..SPARE_BLOCKS_MAX + 1 {
            keep(&mut spare, vec![1; 100]);
        }
        assert_eq!(spare.len(), SPARE_BLOCKS_MAX);
        assert!(spare.iter().all(|room| room.is_empty() && room.capacity() >= 100));
    }
}
