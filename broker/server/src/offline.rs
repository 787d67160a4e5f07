//! The files of a data directory while no broker runs on it: read, never changed.

use std::cell::RefCell;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use lanecast_core::{LogId, Place, SegmentFile, SegmentId, Witness};

use crate::StartError;
use crate::data_dir::{
    self, FoundWitness, LogFile, WITNESSES, log_folder, parse_folder, parse_name, parse_witness,
    read_witness, segment_name, witness_file,
};
use crate::limits::DISK_ALIGN;

/// Bytes that stand for what cannot be read: no block, and no zeros either.
const UNREADABLE: u8 = 0xff;

/// One log and its segment files, in rising order.
#[derive(Debug)]
pub struct LogFiles {
    pub log: LogId,
    pub folder: PathBuf,
    pub segments: Vec<SegmentFile>,
    /// Segments that were being made when the broker ended; the next start removes them.
    pub partial: Vec<PathBuf>,
    /// How far the log has come at the least, where all of it was looked for.
    pub witness: Option<Witness>,
    /// A witness that is none.
    pub bad_witness: Option<PathBuf>,
    /// Pages that the disk does not give out.
    unreadable: RefCell<Vec<Place>>,
}

/// Keeps a broker from starting on the directory.
#[derive(Debug)]
pub struct Held {
    _lock: Option<File>,
}

/// Takes hold of the data directory that `path` is or lies in, if it is one.
///
/// # Errors
/// A broker runs on it, or its format is another one.
pub fn hold(path: &Path) -> Result<Held, StartError> {
    let failed =
        |operation| move |source| StartError::DataDir { operation, path: path.to_owned(), source };
    let path = path.canonicalize().map_err(failed("cannot find"))?;
    let Some(root) = root_of(&path) else {
        return Ok(Held { _lock: None });
    };
    data_dir::check_format_of(root)?;
    let lock = match File::open(root.join("lock")) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Held { _lock: None }),
        Err(error) => return Err(failed("cannot open the lock of")(error)),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(Held { _lock: Some(lock) }),
        Err(TryLockError::WouldBlock) => {
            let holder = data_dir::holder(&lock);
            Err(StartError::DataDirLocked { path: root.to_owned(), holder })
        }
        Err(TryLockError::Error(source)) => Err(failed("cannot lock")(source)),
    }
}

/// The data directory that `path` is or lies in.
fn root_of(path: &Path) -> Option<&Path> {
    path.ancestors().find(|folder| folder.join("format").is_file())
}

/// The logs at `path`: a data directory, a folder in it, or one segment file. A log whose folder is
/// gone is among them, if it has a witness.
///
/// # Errors
/// What the file system says, or there is no log.
pub fn find_logs(path: &Path) -> io::Result<Vec<LogFiles>> {
    let path = path.canonicalize()?;
    if path.is_file() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let folder = path.parent().unwrap_or(&path);
        return match (parse_name(name), parse_folder(folder)) {
            (LogFile::Segment(segment), Some(log)) => {
                let segments = vec![SegmentFile { segment, bytes: path.metadata()?.len() }];
                Ok(vec![LogFiles::new(log, folder.to_owned(), segments, Vec::new())])
            }
            (_, _) => Err(no_log(&path)),
        };
    }
    let mut logs = Vec::new();
    // As deep as a log lies below the data directory.
    let mut level = vec![path.clone()];
    for _ in 0..=4 {
        let mut below = Vec::new();
        for folder in level {
            // A data directory may have any name.
            let log = parse_folder(&folder).filter(|_| !folder.join("format").is_file());
            if let Some(log) = log {
                logs.push(LogFiles::list(log, folder)?);
                continue;
            }
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    below.push(entry.path());
                }
            }
        }
        level = below;
    }
    if let Some(root) = root_of(&path) {
        for files in &mut logs {
            files.find_witness(root)?;
        }
        for log in witnessed(root)? {
            let folder = root.join(log_folder(log));
            if folder.starts_with(&path) && logs.iter().all(|files| files.log != log) {
                let mut files = LogFiles::new(log, folder, Vec::new(), Vec::new());
                files.find_witness(root)?;
                logs.push(files);
            }
        }
    }
    if logs.is_empty() {
        return Err(no_log(&path));
    }
    logs.sort_by_key(|files| files.log);
    Ok(logs)
}

/// All logs that have a witness.
fn witnessed(root: &Path) -> io::Result<Vec<LogId>> {
    let entries = match fs::read_dir(root.join(WITNESSES)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut logs = Vec::new();
    for entry in entries {
        logs.extend(entry?.file_name().to_str().and_then(parse_witness));
    }
    Ok(logs)
}

fn no_log(path: &Path) -> io::Error {
    let text = format!("{} is no data directory, no folder of a log, no segment", path.display());
    io::Error::new(io::ErrorKind::NotFound, text)
}

impl LogFiles {
    fn new(log: LogId, folder: PathBuf, segments: Vec<SegmentFile>, partial: Vec<PathBuf>) -> Self {
        let unreadable = RefCell::default();
        let (witness, bad_witness) = (None, None);
        LogFiles { log, folder, segments, partial, witness, bad_witness, unreadable }
    }

    fn find_witness(&mut self, root: &Path) -> io::Result<()> {
        match read_witness(root, self.log)? {
            FoundWitness::There(witness) => self.witness = Some(witness),
            FoundWitness::Unreadable => self.bad_witness = Some(root.join(witness_file(self.log))),
            FoundWitness::Absent => {}
        }
        Ok(())
    }

    /// Is there anything of it beside its witness?
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.folder.is_dir()
    }

    fn list(log: LogId, folder: PathBuf) -> io::Result<Self> {
        let (mut segments, mut partial) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            match entry.file_name().to_str().map_or(LogFile::Foreign, parse_name) {
                LogFile::Segment(segment) => {
                    segments.push(SegmentFile { segment, bytes: entry.metadata()?.len() });
                }
                LogFile::Partial => partial.push(entry.path()),
                LogFile::Foreign => {}
            }
        }
        segments.sort_unstable_by_key(|file| file.segment);
        Ok(LogFiles::new(log, folder, segments, partial))
    }

    #[must_use]
    pub fn path_of(&self, segment: SegmentId) -> PathBuf {
        self.folder.join(segment_name(segment))
    }

    /// Bytes from a place on, less only at the file's end. Where the disk fails it is noted, and
    /// what is there instead is no block.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn read(&self, place: Place, bytes: u32) -> io::Result<Bytes> {
        let path = self.path_of(place.segment);
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("reading {}: {error}", path.display()))
        };
        let file = File::open(&path).map_err(named)?;
        let mut content = BytesMut::zeroed(bytes as usize);
        match file.read_exact_at(&mut content, place.position) {
            Ok(()) => return Ok(content.freeze()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let left = file.metadata().map_err(named)?.len().saturating_sub(place.position);
                content.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                file.read_exact_at(&mut content, place.position).map_err(named)?;
                return Ok(content.freeze());
            }
            Err(_) => {}
        }
        for (page, content) in content.chunks_mut(DISK_ALIGN as usize).enumerate() {
            let position = place.position + page as u64 * DISK_ALIGN;
            if file.read_exact_at(content, position).is_err() {
                content.fill(UNREADABLE);
                let place = Place { position, ..place };
                let mut unreadable = self.unreadable.borrow_mut();
                if !unreadable.contains(&place) {
                    unreadable.push(place);
                }
            }
        }
        Ok(content.freeze())
    }

    /// Pages that [`LogFiles::read`] did not get from the disk.
    #[must_use]
    pub fn unreadable(&self) -> Vec<Place> {
        self.unreadable.borrow().clone()
    }
}
