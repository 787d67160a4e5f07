//! Memory that answers take until their clients have read them.
//!
//! An answer is made at once and then written as fast as its client reads. A byte now and then is
//! enough to keep a connection, so the number of connections alone would bound that memory only at
//! their number times the largest answer. Here it has a bound of its own.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits;
use crate::problem::{Kind, Problem};

/// Permits are this many bytes, so that any memory fits their number.
const UNIT_BYTES: usize = 1_024;

pub(crate) struct HeldAnswers {
    units: Arc<Semaphore>,
    units_max: usize,
}

/// The bytes of an answer, counted until the last part of them is dropped: by hyper, when they are
/// with the kernel.
struct Counted {
    bytes: Bytes,
    _units: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HeldAnswers {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let units_max = (bytes_max / UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(units_max)), units_max }
    }

    /// Bytes held now, by large answers.
    pub(crate) fn bytes(&self) -> usize {
        (self.units_max - self.units.available_permits()) * UNIT_BYTES
    }

    /// Counts the bytes from here on.
    ///
    /// # Errors
    /// The answer is large and too many are held already.
    pub(crate) fn count(&self, bytes: Bytes) -> Result<Bytes, Problem> {
        if bytes.len() <= limits::ANSWER_UNCOUNTED_BYTES_MAX {
            return Ok(bytes);
        }
        let wanted = u32::try_from(bytes.len().div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        match Arc::clone(&self.units).try_acquire_many_owned(wanted) {
            Ok(units) => Ok(Bytes::from_owner(Counted { bytes, _units: units })),
            Err(_) => {
                let detail = "too many large answers are being read; try again, or ask for less";
                Err(Problem::new(Kind::Overloaded, detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_until_their_last_part_is_dropped() {
        let large = || Bytes::from(vec![b'x'; 2 * limits::ANSWER_UNCOUNTED_BYTES_MAX]);
        let held = HeldAnswers::new(3 * limits::ANSWER_UNCOUNTED_BYTES_MAX);
        let mut first = held.count(large()).unwrap();
        assert_eq!(first, large());
        assert_eq!(held.bytes(), first.len());
        assert!(held.count(large()).is_err());
        assert!(held.count(Bytes::from_static(b"small")).is_ok());
        let rest = first.split_off(10);
        drop(first);
        assert!(held.count(large()).is_err());
        drop(rest);
        assert!(held.count(large()).is_ok());
    }
}
