//! Performs the disk requests of one shard, on io_uring, past the page cache.
//!
//! Each request is a task of its own; a bounded number runs at a time, the others wait in order.
//! Data is written and read by `DmaFile` (O_DIRECT); what touches names (folders, renames,
//! removals) runs on the executor's helper thread, since those calls block. Nothing is decided
//! here: every failure goes back to the core with the file and the system's words.

mod fill;
mod open;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::BytesMut;
use glommio::GlommioError;
use glommio::io::{DmaFile, OpenOptions};
use lanecast_core::{
    DiskDone, DiskError, DiskErrorKind, DiskRequest, Flush, LogId, OperationId, SealedBlock,
    SegmentFile, SegmentId, Witness,
};
use rustix::fs::OFlags;
use tracing::warn;

use self::open::{OpenSegments, Use};
use crate::data_dir::{
    FoundWitness, LogFile, log_folder, parse_name, partial_segment_name, read_witness,
    remove_witness, segment_name, sync_folder, witness_file, write_witness,
};
use crate::limits::{
    DISK_ALIGN, DISK_IO_BYTES_MAX, DISK_OPERATIONS_MAX, SEGMENTS_LISTED_MAX, SYNCHRONOUS_BYTES_MAX,
};
use crate::park::Nudge;
use crate::probe::PROBE_FILE;

type Outcome = Result<DiskDone, DiskError>;

/// The disk of one executor.
pub(crate) struct Files {
    inner: Rc<Inner>,
}

struct Inner {
    root: PathBuf,
    open: RefCell<OpenSegments>,
    waiting: RefCell<VecDeque<(OperationId, DiskRequest)>>,
    done: RefCell<VecDeque<(OperationId, Outcome)>>,
    in_flight: Cell<usize>,
    commit_bytes: Cell<u64>,
    /// Logs that a segment is made for, and what they have committed meanwhile.
    fills: RefCell<HashMap<LogId, u64>>,
    nudge: Rc<Nudge>,
}

impl Files {
    /// `nudge` is called for each completion. Called once on an executor, before any other file
    /// is opened there; see [`PROBE_FILE`].
    pub(crate) async fn open(root: &Path, nudge: Rc<Nudge>) -> io::Result<Self> {
        DmaFile::open(root.join(PROBE_FILE)).await?.close().await?;
        let inner = Inner {
            root: root.to_owned(),
            open: RefCell::new(OpenSegments::default()),
            waiting: RefCell::default(),
            done: RefCell::default(),
            in_flight: Cell::new(0),
            commit_bytes: Cell::new(0),
            fills: RefCell::default(),
            nudge,
        };
        Ok(Files { inner: Rc::new(inner) })
    }

    /// Starts a request, or puts it in line. Its outcome comes from [`Files::next_done`].
    pub(crate) fn submit(&self, operation: OperationId, request: DiskRequest) {
        let inner = &self.inner;
        if let DiskRequest::Commit { block, .. } = &request {
            inner.commit_bytes.set(inner.commit_bytes.get() + block.bytes_on_disk() as u64);
        }
        if inner.in_flight.get() < DISK_OPERATIONS_MAX {
            inner.in_flight.set(inner.in_flight.get() + 1);
            glommio::spawn_local(work(Rc::clone(inner), operation, request)).detach();
        } else {
            inner.waiting.borrow_mut().push_back((operation, request));
        }
    }

    pub(crate) fn next_done(&self) -> Option<(OperationId, Outcome)> {
        self.inner.done.borrow_mut().pop_front()
    }

    pub(crate) fn has_done(&self) -> bool {
        !self.inner.done.borrow().is_empty()
    }

    /// Requests that were submitted and are not yet done.
    pub(crate) fn pending(&self) -> usize {
        self.inner.in_flight.get() + self.inner.waiting.borrow().len()
    }

    /// Bytes of commits that are not yet done.
    pub(crate) fn commit_bytes(&self) -> u64 {
        self.inner.commit_bytes.get()
    }
}

/// One of at most [`DISK_OPERATIONS_MAX`] workers: goes on until nothing waits.
async fn work(inner: Rc<Inner>, operation: OperationId, request: DiskRequest) {
    let mut next = Some((operation, request));
    while let Some((operation, request)) = next {
        let committed = match &request {
            DiskRequest::Commit { block, .. } => block.bytes_on_disk() as u64,
            DiskRequest::OpenLog { .. }
            | DiskRequest::PrepareSegment { .. }
            | DiskRequest::Read { .. }
            | DiskRequest::DeleteSegment { .. }
            | DiskRequest::WriteWitness { .. }
            | DiskRequest::RemoveLog { .. } => 0,
        };
        let outcome = inner.perform(request).await;
        inner.commit_bytes.set(inner.commit_bytes.get() - committed);
        inner.done.borrow_mut().push_back((operation, outcome));
        inner.nudge.nudge();
        next = inner.waiting.borrow_mut().pop_front();
    }
    inner.in_flight.set(inner.in_flight.get() - 1);
}

impl Inner {
    async fn perform(&self, request: DiskRequest) -> Outcome {
        match request {
            DiskRequest::OpenLog { log } => self.open_log(log).await,
            DiskRequest::PrepareSegment { log, segment, bytes, recycle } => {
                self.prepare(log, segment, bytes, recycle).await
            }
            DiskRequest::Commit { log, segment, position, block, flush } => {
                let done = self.commit(log, segment, position, &block, flush).await;
                if done.is_err() {
                    // The kernel reports a failed write-back once per open file: recovery gets
                    // a fresh one.
                    self.forget(log, segment);
                }
                done
            }
            DiskRequest::Read { log, segment, position, bytes } => {
                self.read(log, segment, position, bytes).await
            }
            DiskRequest::DeleteSegment { log, segment } => self.delete(log, segment).await,
            DiskRequest::WriteWitness { log, witness } => self.testify(log, witness).await,
            DiskRequest::RemoveLog { log } => self.remove_log(log).await,
        }
    }

    async fn open_log(&self, log: LogId) -> Outcome {
        let root = self.root.clone();
        let folder = log_folder(log);
        let path = self.root.join(&folder);
        let listed = blocking(move || {
            make_folders(&root, &folder)?;
            let segments = list(&root.join(&folder))?;
            sync_names(&root, &folder, segments.is_empty())?;
            Ok((segments, read_witness(&root, log)?))
        })
        .await;
        let (segments, witness) = listed.map_err(|error| failure("opening", &path, &error))?;
        let witness = match witness {
            FoundWitness::There(witness) => Some(witness),
            FoundWitness::Absent => None,
            FoundWitness::Unreadable => {
                let file = self.root.join(witness_file(log));
                let file = file.display();
                warn!(%file, "a log's witness does not read: a lost end would not be noticed");
                None
            }
        };
        Ok(DiskDone::Opened { segments, witness })
    }

    async fn prepare(
        &self,
        log: LogId,
        segment: SegmentId,
        bytes: u64,
        recycle: Option<SegmentId>,
    ) -> Outcome {
        assert!(bytes.is_multiple_of(DISK_ALIGN), "a segment is made of whole blocks");
        let folder = self.root.join(log_folder(log));
        let path = folder.join(segment_name(segment));
        if let Some(old) = recycle {
            self.forget(log, old);
            let (old, new, folder) = (folder.join(segment_name(old)), path.clone(), folder.clone());
            let recycled = blocking(move || take_over(&old, &new, &folder, bytes)).await;
            if recycled.map_err(|error| failure("recycling into", &path, &error))? {
                return Ok(DiskDone::Prepared);
            }
        }
        let partial = folder.join(partial_segment_name(segment));
        self.fills.borrow_mut().insert(log, 0);
        let committed = || self.fills.borrow().get(&log).copied().unwrap_or(0);
        let filled = fill::fill(&partial, bytes, committed).await;
        self.fills.borrow_mut().remove(&log);
        if let Err(error) = filled {
            // Gives back the space; if that fails, too, opening the log removes it.
            let _removed = blocking(move || fs::remove_file(&partial)).await;
            return Err(error);
        }
        let new = path.clone();
        let renamed = blocking(move || {
            fs::rename(&partial, &new)?;
            sync_folder(&folder)
        })
        .await;
        renamed.map_err(|error| failure("naming", &path, &error))?;
        Ok(DiskDone::Prepared)
    }

    async fn commit(
        &self,
        log: LogId,
        segment: SegmentId,
        position: u64,
        block: &SealedBlock,
        flush: Flush,
    ) -> Outcome {
        assert!(position.is_multiple_of(DISK_ALIGN), "a block starts at a multiple of 4 KiB");
        let bytes = block.bytes_on_disk();
        assert!((bytes as u64).is_multiple_of(DISK_ALIGN), "a block ends at one, too");
        let at_once = flush == Flush::Block && bytes <= SYNCHRONOUS_BYTES_MAX;
        let purpose = if at_once { Use::Synchronous } else { Use::Cached };
        let (file, path) = self.segment(log, segment, purpose).await?;
        for at in (0..bytes).step_by(DISK_IO_BYTES_MAX) {
            let piece_bytes = (bytes - at).min(DISK_IO_BYTES_MAX);
            let mut buffer = file.alloc_dma_buffer(piece_bytes);
            block.copy_to(at, buffer.as_bytes_mut());
            let written = file
                .write_at(buffer, position + at as u64)
                .await
                .map_err(|e| glommio_failure("writing", &path, e))?;
            full_write(written, piece_bytes, &path)?;
        }
        if flush != Flush::Nothing && !at_once {
            file.fdatasync().await.map_err(|e| glommio_failure("syncing", &path, e))?;
        }
        if let Some(committed) = self.fills.borrow_mut().get_mut(&log) {
            *committed += bytes as u64;
        }
        Ok(DiskDone::Committed)
    }

    async fn read(&self, log: LogId, segment: SegmentId, position: u64, bytes: u32) -> Outcome {
        let (file, path) = self.segment(log, segment, Use::Cached).await?;
        let end = position + u64::from(bytes);
        let mut content = BytesMut::with_capacity(bytes as usize);
        let mut at = position;
        while at < end {
            let aligned = at / DISK_ALIGN * DISK_ALIGN;
            let size = (end - aligned).next_multiple_of(DISK_ALIGN).min(DISK_IO_BYTES_MAX as u64);
            let piece = file
                .read_at_aligned(aligned, size as usize)
                .await
                .map_err(|e| glommio_failure("reading", &path, e))?;
            let wanted = &piece[(at - aligned).min(piece.len() as u64) as usize..];
            let wanted = &wanted[..wanted.len().min((end - at) as usize)];
            content.extend_from_slice(wanted);
            at += wanted.len() as u64;
            if (piece.len() as u64) < size {
                break;
            }
        }
        Ok(DiskDone::Read { bytes: content.freeze() })
    }

    async fn delete(&self, log: LogId, segment: SegmentId) -> Outcome {
        self.forget(log, segment);
        let folder = self.root.join(log_folder(log));
        let path = folder.join(segment_name(segment));
        let gone = path.clone();
        let deleted = blocking(move || match fs::remove_file(&gone) {
            Ok(()) => sync_folder(&folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        })
        .await;
        deleted.map_err(|error| failure("deleting", &path, &error))?;
        Ok(DiskDone::Deleted)
    }

    async fn remove_log(&self, log: LogId) -> Outcome {
        self.open.borrow_mut().forget_all_of(log);
        let root = self.root.clone();
        let folder = log_folder(log);
        let path = self.root.join(&folder);
        let removed = blocking(move || {
            remove_folders(&root, &folder)?;
            remove_witness(&root, log)
        })
        .await;
        removed.map_err(|error| failure("removing", &path, &error))?;
        Ok(DiskDone::Deleted)
    }

    async fn testify(&self, log: LogId, witness: Witness) -> Outcome {
        let root = self.root.clone();
        let path = self.root.join(witness_file(log));
        let written = blocking(move || write_witness(&root, log, &witness)).await;
        written.map_err(|error| failure("writing", &path, &error))?;
        Ok(DiskDone::Witnessed)
    }

    /// The segment's open file; opened when it is not.
    async fn segment(
        &self,
        log: LogId,
        segment: SegmentId,
        purpose: Use,
    ) -> Result<(Rc<DmaFile>, PathBuf), DiskError> {
        let path = self.root.join(log_folder(log)).join(segment_name(segment));
        if let Some(file) = self.open.borrow_mut().find((log, segment, purpose)) {
            return Ok((file, path));
        }
        let flags = match purpose {
            Use::Cached => 0,
            Use::Synchronous => OFlags::DSYNC.bits().cast_signed(),
        };
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).custom_flags(flags).dma_open(&path).await;
        let file = Rc::new(opened.map_err(|e| glommio_failure("opening", &path, e))?);
        // Another request may have opened it meanwhile: then its file goes, and ours stays.
        self.open.borrow_mut().insert((log, segment, purpose), &file);
        Ok((file, path))
    }

    fn forget(&self, log: LogId, segment: SegmentId) {
        self.open.borrow_mut().forget(log, segment);
    }
}

/// Renames a retired segment. False if it is of another size and was removed instead.
fn take_over(old: &Path, new: &Path, folder: &Path, bytes: u64) -> io::Result<bool> {
    let fits = fs::metadata(old)?.len() == bytes;
    if fits {
        fs::rename(old, new)?;
    } else {
        fs::remove_file(old)?;
    }
    sync_folder(folder)?;
    Ok(fits)
}

/// Makes the folders of `below` that are missing under `root`.
fn make_folders(root: &Path, below: &Path) -> io::Result<()> {
    let mut path = root.to_owned();
    for component in below.components() {
        path.push(component);
        match fs::create_dir(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes `root/below` with all that is in it, and then its parents up to `root` as far as nothing
/// else is in them.
fn remove_folders(root: &Path, below: &Path) -> io::Result<()> {
    let gone = |removed: io::Result<()>| match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    gone(fs::remove_dir_all(root.join(below)))?;
    let parents = below.ancestors().skip(1).take_while(|parent| parent.components().count() > 1);
    let mut last = below.parent().unwrap_or(below);
    for parent in parents {
        match fs::remove_dir(root.join(parent)) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => break,
            other => gone(other)?,
        }
        last = parent.parent().unwrap_or(parent);
    }
    // The deepest folder that is left has lost a name. One that another log's removal has taken
    // meanwhile was flushed by that one, or will be.
    gone(sync_folder(&root.join(last)))
}

/// Makes durable what the log's names are: a broker that was killed between a rename, or a new
/// folder, and its flush has left names that are there now and would be gone after a power cut,
/// with all that is written under them. A log with segments has had its folders flushed before.
fn sync_names(root: &Path, below: &Path, fresh: bool) -> io::Result<()> {
    let mut path = root.to_owned();
    for component in below.components() {
        if fresh {
            sync_folder(&path)?;
        }
        path.push(component);
    }
    sync_folder(&path)
}

/// The segments of a log, in rising order. What a crash left half made is removed.
fn list(folder: &Path) -> io::Result<Vec<SegmentFile>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        match name.to_str().map_or(LogFile::Foreign, parse_name) {
            LogFile::Segment(segment) => {
                segments.push(SegmentFile { segment, bytes: entry.metadata()?.len() });
            }
            LogFile::Partial => fs::remove_file(entry.path())?,
            LogFile::Foreign => {}
        }
        if segments.len() > SEGMENTS_LISTED_MAX {
            return Err(io::Error::other(format!("more than {SEGMENTS_LISTED_MAX} segments")));
        }
    }
    segments.sort_unstable_by_key(|file| file.segment);
    Ok(segments)
}

/// Runs what blocks on the executor's helper thread.
async fn blocking<R: Send + 'static>(run: impl FnOnce() -> R + Send + 'static) -> R {
    glommio::executor().spawn_blocking(run).await
}

fn full_write(written: usize, wanted: usize, path: &Path) -> Result<(), DiskError> {
    if written == wanted {
        return Ok(());
    }
    let detail = format!(
        "writing {}: only {written} of {wanted} bytes fit; free some space",
        path.display()
    );
    Err(DiskError { kind: DiskErrorKind::NoSpace, detail })
}

fn failure(operation: &str, path: &Path, error: &io::Error) -> DiskError {
    let full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    );
    let mut detail = format!("{operation} {}: {error}", path.display());
    if full {
        detail.push_str("; free some space");
    }
    let kind = if full { DiskErrorKind::NoSpace } else { DiskErrorKind::Io };
    DiskError { kind, detail }
}

fn glommio_failure(operation: &str, path: &Path, error: GlommioError<()>) -> DiskError {
    if let GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } = error {
        return failure(operation, path, &source);
    }
    failure(operation, path, &io::Error::other(error.to_string()))
}

#[cfg(test)]
mod tests;
