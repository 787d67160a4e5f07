//! Segment files that are open.

use std::collections::HashMap;
use std::rc::Rc;

use glommio::io::DmaFile;
use lanecast_core::{LogId, SegmentId};

use crate::limits::OPEN_SEGMENTS_MAX;

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Use {
    /// Reads, and writes that are flushed afterwards or never.
    Cached,
    /// Writes that are durable once they are done.
    Synchronous,
}

type Key = (LogId, SegmentId, Use);

/// Open segment files, the least recently used of which go first. Dropping one closes it once the
/// last operation on it is done.
#[derive(Default)]
pub(super) struct OpenSegments {
    files: HashMap<Key, (Rc<DmaFile>, u64)>,
    uses: u64,
}

impl OpenSegments {
    pub(super) fn find(&mut self, key: Key) -> Option<Rc<DmaFile>> {
        let (file, last_use) = self.files.get_mut(&key)?;
        self.uses += 1;
        *last_use = self.uses;
        Some(Rc::clone(file))
    }

    pub(super) fn insert(&mut self, key: Key, file: &Rc<DmaFile>) {
        if self.files.len() >= OPEN_SEGMENTS_MAX {
            let oldest = self.files.iter().min_by_key(|(_, (_, last_use))| *last_use);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                self.files.remove(&key);
            }
        }
        self.uses += 1;
        self.files.insert(key, (Rc::clone(file), self.uses));
    }

    pub(super) fn forget(&mut self, log: LogId, segment: SegmentId) {
        for purpose in [Use::Cached, Use::Synchronous] {
            self.files.remove(&(log, segment, purpose));
        }
    }

    pub(super) fn forget_all_of(&mut self, log: LogId) {
        self.files.retain(|(of, _, _), _| *of != log);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}
