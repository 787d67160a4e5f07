//! A log: blocks in segments, appended in order, durable in order, read back by offset.
//!
//! ```text
//!            listed            prefix read           mark durable
//!   Closed ─────────▶ Reading ────────────▶ Opening ─────────────▶ Open ◀─ append, commit, read
//!     ▲                  │ error               │ error               │ a commit or a read-back
//!     │                  ▼                     ▼                     ▼ failed
//!     └── backoff over, nothing in flight ── Failed ◀────────────────┘
//! ```
//!
//! One machine serves partitions, consumer groups and the catalog. It knows offsets and times of
//! what it carries, and nothing else.
//!
//! **Append** copies an entry into the open block. **Commit** seals blocks and writes them: at once
//! while little is in flight, else when a block is full, and never more than
//! [`COMMITS_IN_FLIGHT_MAX`](crate::limits::COMMITS_IN_FLIGHT_MAX) at a time. Completions come in
//! any order; what counts is the prefix without holes. A segment is begun only when the one before
//! it is durable to its end.
//!
//! Every block says up to where the log was durable when it was sealed; a log that rests writes an
//! empty block, a mark, to say so of its last ones. By that recovery tells what is damaged from what
//! a crash has torn; see [`recovery`].
//!
//! **Failed.** After any failed write nothing is acknowledged any more. The log waits until nothing
//! is in flight, reads itself again up to what it had acknowledged, and overwrites the rest: what
//! a failed flush has left on the medium is not to be trusted, however it reads. One that was
//! stopped stays failed.
//!
//! **Opening** a log writes a mark. Once it is durable, so is everything that
//! recovery has found before it, whoever wrote it: a flush is of a whole segment. If the mark has
//! to go to a new segment, the last block before it is written again first, byte for byte, so that
//! its segment is flushed too. If a full disk has no room for that segment, the log opens without
//! the mark: it is read, and what is appended waits.
//!
//! A log in memory is the same machine whose blocks are durable as soon as they are sealed.

mod append;
mod block;
mod cache;
pub(crate) mod damage;
mod housekeeping;
mod read;
mod read_ahead;
pub(crate) mod records;
pub(crate) mod recovery;
mod reopen;
mod report;
mod sealed;
pub(crate) mod segments;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::{BTreeMap, VecDeque};

pub(crate) use self::append::Entry;
pub(crate) use self::block::Block;
pub use self::block::{BlockKind, Place};
pub use self::damage::{Damage, DamageKind};
pub(crate) use self::read::{Asked, Found, ReadAt};
pub use self::report::{RecoveryReport, StopReason};
pub use self::sealed::SealedBlock;
pub use self::witness::{WITNESS_BYTES, Witness};

use self::append::Writer;
use self::block::checksum_seed;
use self::cache::TailCache;
use self::damage::Damages;
use self::housekeeping::Housekeeping;
use self::read::Reading;
use self::recovery::{Recovery, Tail};
use self::segments::Segments;
use self::witness::Testimony;
use crate::budget::Gauge;
use crate::disk::Operations;
use crate::limits::{
    CACHE_PASSED_PART, DAMAGES_MAX, RECOVERY_BACKOFF_US_MAX, RECOVERY_BACKOFF_US_MIN,
};
use crate::mutants::{Mutant, planted};
use crate::{DiskDone, DiskError, DiskErrorKind, DiskRequest, LogId, Now, OperationId};

/// Where a log keeps its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    /// On disk; flushed with every commit, or not.
    Disk {
        sync: bool,
    },
    Memory,
}

#[derive(Clone, Debug)]
pub(crate) struct LogConfig {
    pub(crate) id: LogId,
    pub(crate) kind: BlockKind,
    pub(crate) medium: Medium,
    pub(crate) segment_bytes: u64,
    /// An entry from this size on that has memory of its own stays there, as a block by itself.
    pub(crate) adopted_bytes_min: usize,
    /// What is kept of the newest blocks; of a log in memory, what is kept at all.
    pub(crate) cache_bytes: u64,
    /// 0: without limit.
    pub(crate) retention_bytes: u64,
    pub(crate) retention_ms: u64,
    /// Distinguishes the lives of the log.
    pub(crate) seed: u64,
}

/// What the owner of a log has to know, in order.
#[derive(Debug)]
pub(crate) enum LogEvent {
    /// The log is read (again): forget what was derived from its blocks.
    Restarted,
    /// A block of the log, during recovery.
    Replayed(Block),
    /// A stretch of the log is damaged: between the blocks that are replayed before and after this,
    /// or found while reading.
    Damaged(Damage),
    /// Appends are taken from now on.
    Opened,
    /// Blocks have become durable: [`Log::durable_end`] has moved.
    Durable,
    /// A new segment has its first durable block.
    Rolled,
    /// Blocks for a reader, none where it begins with damage; `next` is where to go on, if not where
    /// the index says.
    Read { operation: OperationId, blocks: Vec<Block>, next: Option<ReadAt> },
    /// What was appended and is not durable will never be; reads under way have no answer.
    Failed(LogFailure),
}

/// Why a log is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogFailure {
    pub(crate) kind: DiskErrorKind,
    pub(crate) detail: String,
}

/// Why an entry was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppendRefused {
    /// The log is not open.
    Closed,
    /// No block is large enough.
    TooLarge,
}

#[derive(Debug)]
enum State {
    Closed,
    Reading(Box<Recovery>),
    Opening(RecoveryReport),
    Open,
    Failed { retry_at_us: u64 },
}

/// What an operation in flight was for.
#[derive(Debug)]
enum Operation {
    List,
    Recover(Place),
    Flush,
    Commit,
    Prepare,
    Delete,
    Witness(Witness),
    Read(Reading),
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Log {
    config: LogConfig,
    state: State,
    /// How often the log was opened, over all processes, as far as its blocks tell.
    life: u64,
    in_flight: BTreeMap<OperationId, Operation>,
    events: VecDeque<LogEvent>,
    segments: Segments,
    damages: Damages,
    cache: TailCache,
    writer: Writer,
    housekeeping: Housekeeping,
    testimony: Testimony,
    /// Retention takes nothing from here on.
    hold: Option<u64>,
    /// Behind the last records that gave way to newer ones.
    replaced_upto: u64,
    /// The last durable block, once there was one in this life of the process.
    known: Option<Tail>,
    durable_end: u64,
    backoff_us: u64,
    report: Option<RecoveryReport>,
    /// When the last commit ended.
    committed_at_us: u64,
    stopped: bool,
    /// Counts the memory of sealed blocks, whoever holds them.
    alive: Gauge,
}

impl Log {
    pub(crate) fn new(config: LogConfig) -> Self {
        let mut log = Log {
            writer: Writer::new(&config),
            state: State::Closed,
            life: 0,
            in_flight: BTreeMap::new(),
            events: VecDeque::new(),
            segments: Segments::default(),
            damages: Damages::default(),
            cache: TailCache::default(),
            housekeeping: Housekeeping::default(),
            testimony: Testimony::default(),
            hold: None,
            replaced_upto: 0,
            known: None,
            durable_end: 0,
            backoff_us: RECOVERY_BACKOFF_US_MIN,
            report: None,
            committed_at_us: 0,
            stopped: false,
            alive: Gauge::default(),
            config,
        };
        if log.config.medium == Medium::Memory {
            log.state = State::Open;
            let report = RecoveryReport {
                reason: StopReason::Empty,
                stopped_at: None,
                log_start: 0,
                end_offset: 0,
                blocks: 0,
                damages: 0,
                damaged_records: 0,
            };
            log.report = Some(report);
            log.events.push_back(LogEvent::Opened);
        }
        log
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Has the log ever been open?
    pub(crate) fn is_known(&self) -> bool {
        self.report.is_some()
    }

    /// How the last recovery ended.
    pub(crate) fn report(&self) -> Option<RecoveryReport> {
        self.report
    }

    /// Everything below is as durable as promised.
    pub(crate) fn durable_end(&self) -> u64 {
        self.durable_end
    }

    /// Is everything durable at once?
    pub(crate) fn is_in_memory(&self) -> bool {
        self.config.medium == Medium::Memory
    }

    /// Everything below is durable, or on its way to the disk.
    pub(crate) fn committing_end(&self) -> u64 {
        self.committing().next_back().map_or(self.durable_end, |(_, end)| end)
    }

    /// Where the blocks with records begin and end that are on their way to the disk, in order.
    pub(crate) fn committing(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> {
        self.writer.committing()
    }

    /// What is damaged of what is still there.
    pub(crate) fn damages(&self) -> &Damages {
        &self.damages
    }

    /// The first damage by which records are lost, and which nobody has accepted.
    pub(crate) fn lost(&self) -> Option<&Damage> {
        self.damages.iter().find(|damage| damage.loses_records() && !self.accepts(damage))
    }

    /// Has an operator taken this damage as final?
    pub(crate) fn accepts(&self, damage: &Damage) -> bool {
        let accepted = self.testimony.given().and_then(|given| given.accepted);
        accepted.is_some_and(|place| damage.place < place)
    }

    /// First offset that is still there.
    pub(crate) fn log_start(&self) -> u64 {
        match self.config.medium {
            Medium::Disk { .. } => self.segments.log_start(),
            Medium::Memory => self.cache.oldest().map_or(self.durable_end, Block::base_offset),
        }
    }

    /// Behind the last records that were taken because the log held too much, and not for their age,
    /// since the process began.
    pub(crate) fn replaced_upto(&self) -> u64 {
        self.replaced_upto
    }

    /// Bytes of durable blocks.
    pub(crate) fn bytes(&self) -> u64 {
        match self.config.medium {
            Medium::Disk { .. } => self.segments.used_bytes(),
            Medium::Memory => self.cache.bytes(),
        }
    }

    pub(crate) fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Counts the memory of the log's blocks there, as long as anybody holds them.
    pub(crate) fn count_in(&mut self, alive: Gauge) {
        self.alive = alive;
    }

    /// Memory of the blocks that are kept for readers.
    pub(crate) fn cached_bytes(&self) -> u64 {
        self.cache.payload_bytes()
    }

    /// Is much of the newest in memory that would not stay there for long enough to be of use?
    pub(crate) fn caches_in_vain(&self, now: Now) -> bool {
        let bytes_max = self.config.cache_bytes;
        matches!(self.config.medium, Medium::Disk { .. })
            && self.cache.bytes() > bytes_max / CACHE_PASSED_PART
            && self.cache.is_fleeting(now.wall_ms, bytes_max)
    }

    /// Nobody will ask for what is below `passed` soon: most of it need not stay in memory.
    pub(crate) fn pass(&mut self, passed: u64) {
        self.cache.trim_passed(passed, self.config.cache_bytes / CACHE_PASSED_PART);
    }

    /// Appended bytes that are not durable yet.
    pub(crate) fn undurable_bytes(&self) -> u64 {
        self.writer.undurable_bytes()
    }

    /// Nothing is in flight and nothing waits to be written.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.writer.undurable_bytes() == 0 && !self.rests_unmarked()
    }

    /// Nothing more will be appended: what is there shall be marked without delay.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// What is kept of the newest blocks; a log in memory keeps to its own limit.
    pub(crate) fn set_cache_bytes(&mut self, bytes: u64) {
        if self.config.medium != Medium::Memory {
            self.config.cache_bytes = bytes;
            self.cache.trim(bytes);
        }
    }

    /// What the log is kept to from the next pump on.
    pub(crate) fn set_retention(&mut self, bytes: u64, ms: u64) {
        self.config.retention_bytes = bytes;
        self.config.retention_ms = ms;
    }

    pub(crate) fn poll_event(&mut self) -> Option<LogEvent> {
        self.events.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        match self.state {
            State::Closed => Some(0),
            State::Failed { retry_at_us } if self.in_flight.is_empty() && !self.stopped => {
                Some(retry_at_us)
            }
            State::Open => {
                let retain = (self.config.retention_ms > 0).then(|| self.housekeeping.look_at_us());
                let rest = self.rests_unmarked().then(|| self.rest_mark_due_us());
                let retry = self.housekeeping.retry_at_us();
                let retry = [retry, self.testimony.retry_at_us()].into_iter().flatten().min();
                [retain, rest, retry, self.writer.gathers_until_us].into_iter().flatten().min()
            }
            State::Opening(_) => self.housekeeping.retry_at_us(),
            State::Reading(_) | State::Failed { .. } => None,
        }
    }

    /// Does everything that can be done now: opens, commits, tidies. Cheap if there is nothing.
    pub(crate) fn pump(&mut self, now: Now, operations: &mut Operations) {
        match &self.state {
            State::Closed => self.list(operations),
            State::Failed { retry_at_us } => {
                // Nobody would wait for what it reads: that is for the next start.
                if !self.stopped && self.in_flight.is_empty() && now.mono_us >= *retry_at_us {
                    self.list(operations);
                }
            }
            State::Reading(_) => {}
            State::Opening(_) | State::Open => {
                self.retain(now);
                self.tidy(now, operations);
                self.rest(now);
                self.dispatch(now, operations);
                // What was dispatched may have used up the prepared segment.
                self.tidy(now, operations);
                self.open_unmarked();
                self.testify(now, operations);
            }
        }
    }

    /// An operation of this log is answered; pump afterwards.
    pub(crate) fn complete(
        &mut self,
        now: Now,
        operation: OperationId,
        outcome: Result<DiskDone, DiskError>,
        operations: &mut Operations,
    ) {
        let Some(purpose) = self.in_flight.remove(&operation) else { return };
        let late =
            matches!(purpose, Operation::Recover(_)) && !matches!(self.state, State::Reading(_));
        if late || matches!(self.state, State::Failed { .. }) {
            // Only waits for the last of them.
            return;
        }
        let done = match outcome {
            Ok(done) => done,
            Err(error) => {
                if planted(Mutant::IgnoreFailedFlush) && matches!(purpose, Operation::Commit) {
                    self.committed(now, operation);
                } else if self.goes_on_without(&purpose, &error) {
                    self.housekeeping_failed(now, error);
                } else if matches!(purpose, Operation::Witness(_)) {
                    self.testimony.failed(now);
                } else {
                    self.fail(now, error.kind, error.to_string());
                }
                return;
            }
        };
        match (purpose, done) {
            (Operation::List, DiskDone::Opened { segments, witness }) => {
                self.housekeeping.saw(segments.last().map(|file| file.segment));
                self.housekeeping.saw(witness.map(|witness| witness.newest));
                self.testimony.found(witness);
                let recovery = Recovery::new(self.config.id, segments, self.known, witness);
                self.state = State::Reading(Box::new(recovery));
                self.recover(now, operations);
            }
            (Operation::Recover(place), DiskDone::Read { bytes }) => {
                self.recovered_bytes(now, place, bytes, operations);
            }
            (Operation::Flush, DiskDone::Committed) => {}
            (Operation::Commit, DiskDone::Committed) => self.committed(now, operation),
            (Operation::Prepare, DiskDone::Prepared) => self.housekeeping.prepared(),
            (Operation::Delete, DiskDone::Deleted) => self.housekeeping.deleted(),
            (Operation::Witness(witness), DiskDone::Witnessed) => self.testimony.written(witness),
            (Operation::Read(read), DiskDone::Read { bytes }) => {
                self.read_back(now, operation, read, &bytes, operations);
            }
            (purpose, done) => {
                let detail = format!("{purpose:?} was answered with {done:?}");
                self.fail(now, DiskErrorKind::Io, detail);
            }
        }
    }

    fn submit(
        &mut self,
        purpose: Operation,
        request: DiskRequest,
        operations: &mut Operations,
    ) -> OperationId {
        let operation = match purpose {
            Operation::Recover(_) => operations.submit_recovery(self.config.id, request),
            Operation::List
            | Operation::Flush
            | Operation::Commit
            | Operation::Prepare
            | Operation::Delete
            | Operation::Witness(_)
            | Operation::Read(_) => operations.submit(self.config.id, request),
        };
        self.in_flight.insert(operation, purpose);
        operation
    }

    /// An operation has failed that nothing depends on, or not yet.
    fn goes_on_without(&self, purpose: &Operation, error: &DiskError) -> bool {
        match purpose {
            Operation::Prepare => {
                let full = error.kind == DiskErrorKind::NoSpace;
                self.is_open() || (full && matches!(self.state, State::Opening(_)))
            }
            Operation::Delete => self.is_open(),
            Operation::List
            | Operation::Recover(_)
            | Operation::Flush
            | Operation::Commit
            | Operation::Read(_)
            | Operation::Witness(_) => false,
        }
    }

    /// A full disk has no room for the mark. It is waited for only when what was found is flushed,
    /// so that may be read; and whatever is appended comes behind it.
    fn open_unmarked(&mut self) {
        if let State::Opening(report) = self.state
            && self.no_space().is_some()
        {
            self.opened(report);
        }
    }

    fn opened(&mut self, report: RecoveryReport) {
        self.state = State::Open;
        self.report = Some(report);
        self.events.push_back(LogEvent::Opened);
    }

    /// Takes note of a damage found while the log is open.
    fn note_damage(&mut self, now: Now, damage: Damage) {
        if self.damages.push(damage) {
            self.events.push_back(LogEvent::Damaged(damage));
        } else {
            self.too_damaged(now);
        }
    }

    /// A record of a block that recovery has found is none that its owner can read: nobody knows what
    /// was decided from there on. Told once.
    pub(crate) fn note_unreadable(&mut self, now: Now, block: &Block, number: u64) {
        if self.damages.iter().any(|damage| damage.kind == DamageKind::Unreadable) {
            return;
        }
        let (place, first) = (block.place, block.base_offset() + number);
        let position = place.position + block.header.bytes_on_disk();
        let until = Some(Place { position, ..place });
        let kind = DamageKind::Unreadable;
        self.note_damage(now, Damage { kind, place, until, first, end: first + 1 });
    }

    fn too_damaged(&mut self, now: Now) {
        let detail = format!("more than {DAMAGES_MAX} damaged places: restore the log's files");
        self.backoff_us = RECOVERY_BACKOFF_US_MAX;
        self.fail(now, DiskErrorKind::Io, detail);
    }

    fn fail(&mut self, now: Now, kind: DiskErrorKind, detail: String) {
        self.state = State::Failed { retry_at_us: now.mono_us + self.backoff_us };
        self.backoff_us = (self.backoff_us * 2).min(RECOVERY_BACKOFF_US_MAX);
        self.writer.abandon();
        self.events.push_back(LogEvent::Failed(LogFailure { kind, detail }));
    }
}
