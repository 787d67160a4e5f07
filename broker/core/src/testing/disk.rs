//! A disk in memory.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::SEGMENT;
use crate::disk::Operations;
use crate::log::{BlockKind, Entry, Log, LogConfig, Medium, records};
use crate::{
    DiskDone, DiskError, DiskErrorKind, DiskRequest, LogId, Now, SegmentFile, SegmentId, Witness,
};

/// Segment files in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestDisk {
    pub(crate) logs: BTreeMap<LogId, BTreeMap<SegmentId, Vec<u8>>>,
    pub(crate) witnesses: BTreeMap<LogId, Witness>,
}

pub(crate) fn broken(kind: DiskErrorKind) -> DiskError {
    DiskError { kind, detail: "the test says so".into() }
}

impl TestDisk {
    pub(crate) fn run(&mut self, request: &DiskRequest) -> Result<DiskDone, DiskError> {
        let gone = || broken(DiskErrorKind::Io);
        match request {
            DiskRequest::OpenLog { log } => {
                let files = self.logs.entry(*log).or_default().iter();
                let file = |(segment, data): (&SegmentId, &Vec<u8>)| SegmentFile {
                    segment: *segment,
                    bytes: data.len() as u64,
                };
                let segments = files.map(file).collect();
                Ok(DiskDone::Opened { segments, witness: self.witnesses.get(log).copied() })
            }
            DiskRequest::PrepareSegment { log, segment, bytes, recycle } => {
                let files = self.logs.entry(*log).or_default();
                let data = match recycle {
                    Some(old) => files.remove(old).ok_or_else(gone)?,
                    None => vec![0; *bytes as usize],
                };
                assert_eq!(data.len() as u64, *bytes);
                assert!(files.insert(*segment, data).is_none(), "segment ids are not reused");
                Ok(DiskDone::Prepared)
            }
            DiskRequest::Commit { log, segment, position, block, .. } => {
                let block = block.to_bytes();
                assert!(position % 4096 == 0 && block.len().is_multiple_of(4096));
                let data = self.file(*log, *segment).ok_or_else(gone)?;
                let at = *position as usize;
                data[at..at + block.len()].copy_from_slice(&block);
                Ok(DiskDone::Committed)
            }
            DiskRequest::Read { log, segment, position, bytes } => {
                let data = self.file(*log, *segment).ok_or_else(gone)?;
                let from = (*position as usize).min(data.len());
                let to = (from + *bytes as usize).min(data.len());
                Ok(DiskDone::Read { bytes: Bytes::copy_from_slice(&data[from..to]) })
            }
            DiskRequest::DeleteSegment { log, segment } => {
                self.logs.entry(*log).or_default().remove(segment);
                Ok(DiskDone::Deleted)
            }
            DiskRequest::WriteWitness { log, witness } => {
                self.witnesses.insert(*log, *witness);
                Ok(DiskDone::Witnessed)
            }
            DiskRequest::RemoveLog { log } => {
                self.logs.remove(log);
                self.witnesses.remove(log);
                Ok(DiskDone::Deleted)
            }
        }
    }

    /// Puts a record behind a log's last one, whatever it says.
    pub(crate) fn append_record(&mut self, id: LogId, record: &[u8]) {
        let mut log = Log::new(LogConfig {
            id,
            kind: BlockKind::Records,
            medium: Medium::Disk { sync: true },
            segment_bytes: SEGMENT,
            adopted_bytes_min: usize::MAX,
            cache_bytes: 0,
            retention_bytes: 0,
            retention_ms: 0,
            seed: 1,
        });
        let (now, mut operations) = (Now { mono_us: 1, wall_ms: 1 }, Operations::default());
        let mut end = None;
        loop {
            log.pump(now, &mut operations);
            while log.poll_event().is_some() {}
            if let Some((operation, request)) = operations.poll() {
                let mut outcome = self.run(&request);
                operations.complete(operation, &mut outcome);
                log.complete(now, operation, outcome, &mut operations);
            } else if end.is_none() {
                let prefix = records::prefix(record);
                let parts = [&prefix, record];
                let entry = Entry { parts, count: 1, max_time_ms: 0, patient: false };
                log.append(now, entry).expect("the log is open");
                end = Some(log.next_offset());
            } else {
                break;
            }
        }
        assert_eq!(end, Some(log.durable_end()));
    }

    pub(crate) fn file(&mut self, log: LogId, segment: SegmentId) -> Option<&mut Vec<u8>> {
        self.logs.get_mut(&log)?.get_mut(&segment)
    }
}
