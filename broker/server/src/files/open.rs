//! Segment files that are open.

use std::collections::HashMap;
use std::rc::Rc;

use glommio::io::DmaFile;
use lanecast_core::{Flush, LogId, SegmentId};

use crate::limits::OPEN_SEGMENTS_MAX;

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Reads, and flushes of the whole file: any open file does.
    Any,
    /// Writes that are done once the disk has them in its cache.
    Cached,
    /// Writes that are durable once they are done.
    Synchronous,
}

impl Use {
    /// To commit with such a flush.
    pub(super) fn to_commit(flush: Flush) -> Self {
        match flush {
            Flush::Nothing => Use::Cached,
            Flush::Block => Use::Synchronous,
            Flush::Segment => Use::Any,
        }
    }
}

/// Open segment files, the least recently used of which go first. Dropping one closes it once the
/// last operation on it is done.
#[derive(Default)]
pub(super) struct OpenSegments {
    files: HashMap<(LogId, SegmentId), Open>,
    uses: u64,
}

struct Open {
    file: Rc<DmaFile>,
    synchronous: bool,
    last_use: u64,
}

impl OpenSegments {
    pub(super) fn find(
        &mut self,
        log: LogId,
        segment: SegmentId,
        purpose: Use,
    ) -> Option<Rc<DmaFile>> {
        let open = self.files.get_mut(&(log, segment))?;
        let fits = match purpose {
            Use::Any => true,
            Use::Cached => !open.synchronous,
            Use::Synchronous => open.synchronous,
        };
        if !fits {
            return None;
        }
        self.uses += 1;
        open.last_use = self.uses;
        Some(Rc::clone(&open.file))
    }

    /// Takes the place of one that was open for something else.
    pub(super) fn insert(
        &mut self,
        log: LogId,
        segment: SegmentId,
        file: &Rc<DmaFile>,
        synchronous: bool,
    ) {
        if self.files.len() >= OPEN_SEGMENTS_MAX {
            let oldest = self.files.iter().min_by_key(|(_, open)| open.last_use);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                self.files.remove(&key);
            }
        }
        self.uses += 1;
        let open = Open { file: Rc::clone(file), synchronous, last_use: self.uses };
        self.files.insert((log, segment), open);
    }

    pub(super) fn forget(&mut self, log: LogId, segment: SegmentId) {
        self.files.remove(&(log, segment));
    }

    pub(super) fn forget_all_of(&mut self, log: LogId) {
        self.files.retain(|(of, _), _| *of != log);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}
