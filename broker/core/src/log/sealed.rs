//! A block as it goes to disk.

use bytes::Bytes;

use crate::limits::BLOCK_ALIGN;

/// A block that is ready to be written: its parts one behind the other, then zeros up to a multiple of
/// 4 KiB. What a large batch was received into is such a part: it is not copied together with its header
/// before the disk's own copy.
#[derive(Clone, Debug)]
pub struct SealedBlock {
    parts: [Bytes; 2],
}

impl SealedBlock {
    pub(super) fn new(head: Bytes, payload: Bytes) -> Self {
        SealedBlock { parts: [head, payload] }
    }

    /// Bytes that it takes on disk: a multiple of 4 KiB.
    #[must_use]
    pub fn bytes_on_disk(&self) -> usize {
        let bytes: usize = self.parts.iter().map(Bytes::len).sum();
        bytes.next_multiple_of(BLOCK_ALIGN as usize)
    }

    /// Copies what is in the block from `at` on, until `into` is full.
    ///
    /// # Panics
    /// The block ends before that.
    pub fn copy_to(&self, at: usize, into: &mut [u8]) {
        assert!(at + into.len() <= self.bytes_on_disk(), "a block ends where it ends");
        let (mut skip, mut rest) = (at, into);
        for part in &self.parts {
            let left = part.get(skip..).unwrap_or_default();
            let (filled, behind) = rest.split_at_mut(left.len().min(rest.len()));
            filled.copy_from_slice(&left[..filled.len()]);
            skip = skip.saturating_sub(part.len());
            rest = behind;
        }
        rest.fill(0);
    }

    /// All of it in one piece.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let [first, second] = &self.parts;
        if second.is_empty() && first.len() == self.bytes_on_disk() {
            return first.clone();
        }
        let mut bytes = vec![0; self.bytes_on_disk()];
        self.copy_to(0, &mut bytes);
        Bytes::from(bytes)
    }
}

/// A block in one piece, perhaps without its padding.
impl From<Bytes> for SealedBlock {
    fn from(bytes: Bytes) -> Self {
        SealedBlock { parts: [bytes, Bytes::new()] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_stretch_is_that_of_the_whole() {
        let parts = |sizes: [usize; 2]| {
            let mut n = 0_u8;
            let mut part = |size| {
                (0..size)
                    .map(|_| {
                        n = n.wrapping_add(7) | 1;
                        n
                    })
                    .collect::<Bytes>()
            };
            [part(sizes[0]), part(sizes[1])]
        };
        for sizes in [[64, 0], [64, 5000], [64, 4032], [4096, 0], [0, 3], [5000, 4000]] {
            let [head, payload] = parts(sizes);
            let mut whole = [&head[..], &payload[..]].concat();
            whole.resize(whole.len().next_multiple_of(4096), 0);
            let block = SealedBlock::new(head, payload);
            assert_eq!(block.bytes_on_disk(), whole.len(), "{sizes:?}");
            assert_eq!(block.to_bytes(), whole, "{sizes:?}");
            for at in [0, 1, 63, 64, 65, 4095, 4096] {
                for bytes in [0, 1, 64, 4000, 4096] {
                    if at + bytes <= whole.len() {
                        let mut into = vec![0xee; bytes];
                        block.copy_to(at, &mut into);
                        assert_eq!(into, whole[at..at + bytes], "{sizes:?}: {bytes} at {at}");
                    }
                }
            }
        }
    }
}
