//! The data directory: whose it is, what format it holds, where each file lies.
//!
//! ```text
//!   DATA/lock                                     held by the broker, names its process
//!   DATA/format                                   what wrote this
//!   DATA/id                                       drawn when it was made
//!   DATA/probe                                    written at every start, to see that it can be
//!   DATA/catalog/<segment>.log                    topics
//!   DATA/topics/<topic>/<partition>/data/<segment>.log
//!   DATA/topics/<topic>/<partition>/groups/<segment>.log
//!   DATA/witnesses/catalog, <topic>-<partition>-data, <topic>-<partition>-groups
//! ```
//!
//! Nothing in a path depends on the number of shards: another number opens the same folders from
//! other cores.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use lanecast_core::{LogId, SegmentId, WITNESS_BYTES, Witness};
use lanecast_wire::{PartitionId, TopicId};

use crate::StartError;
use crate::entropy::entropy;

/// Content of `DATA/format`.
const FORMAT: &str = "lanecast 4";

/// Longest content of the lock and the format file that is looked at.
const NOTE_BYTES_MAX: u64 = 64;

/// The directory, held by this process until the value is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    id: NonZeroU64,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if there is none, locks it and checks its format.
    pub(crate) fn open(path: &Path) -> Result<Self, StartError> {
        let failed = |operation| {
            move |source| StartError::DataDir { operation, path: path.to_owned(), source }
        };
        let missing = path.ancestors().take_while(|folder| !folder.exists());
        let made: Vec<_> = missing.filter_map(Path::parent).map(Path::to_owned).collect();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(path)
            .map_err(failed("cannot make the data directory"))?;
        for parent in made {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { &parent };
            sync_folder(parent).map_err(failed("cannot flush the folder of the data directory"))?;
        }
        let path = path.canonicalize().map_err(failed("cannot resolve the data directory"))?;
        let lock = lock(&path)?;
        check_format(&path)?;
        let id = id(&path)?;
        Ok(DataDir { path, id, _lock: lock })
    }

    /// Tells this directory from any other: an offset means a record of one directory only.
    pub(crate) fn id(&self) -> NonZeroU64 {
        self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn lock(path: &Path) -> Result<File, StartError> {
    let lock_path = path.join("lock");
    let failed =
        |source| StartError::DataDir { operation: "cannot lock", path: lock_path.clone(), source };
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = holder(&lock);
            return Err(StartError::DataDirLocked { path: path.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    lock.set_len(0).map_err(failed)?;
    writeln!(lock, "{}", std::process::id()).map_err(failed)?;
    Ok(lock)
}

/// The process that a lock file names. Only for a message: a holder that cannot be read is still a
/// holder.
pub(crate) fn holder(lock: &File) -> String {
    let mut holder = String::new();
    let read = lock.take(NOTE_BYTES_MAX).read_to_string(&mut holder);
    match (read, holder.trim()) {
        (Err(_), _) | (Ok(_), "") => "unknown".to_owned(),
        (Ok(_), pid) => pid.to_owned(),
    }
}

/// Refuses a directory of another format, and changes nothing.
pub(crate) fn check_format_of(path: &Path) -> Result<(), StartError> {
    let format_path = path.join("format");
    let found = fs::read_to_string(&format_path).map_err(|source| StartError::DataDir {
        operation: "cannot read",
        path: format_path,
        source,
    })?;
    match found.trim() {
        FORMAT => Ok(()),
        found => Err(StartError::DataFormat {
            path: path.to_owned(),
            found: found.to_owned(),
            expected: FORMAT,
        }),
    }
}

fn check_format(path: &Path) -> Result<(), StartError> {
    let format_path = path.join("format");
    let failed = |operation| {
        let path = format_path.clone();
        move |source| StartError::DataDir { operation, path, source }
    };
    let mut found = String::new();
    match File::open(&format_path) {
        Ok(file) => {
            file.take(NOTE_BYTES_MAX).read_to_string(&mut found).map_err(failed("cannot read"))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write_whole(path, "format", FORMAT).map_err(failed("cannot write"))?;
            return Ok(());
        }
        Err(error) => return Err(failed("cannot open")(error)),
    }
    if found.trim() == FORMAT {
        return Ok(());
    }
    Err(StartError::DataFormat {
        path: path.to_owned(),
        found: found.trim().to_owned(),
        expected: FORMAT,
    })
}

/// The directory's id; one that has none, or none that can be read, gets one.
fn id(path: &Path) -> Result<NonZeroU64, StartError> {
    let id_path = path.join("id");
    let failed = |operation| {
        let path = id_path.clone();
        move |source| StartError::DataDir { operation, path, source }
    };
    let mut found = String::new();
    match File::open(&id_path) {
        Ok(file) => {
            // What is no text is no id either.
            let _ = file.take(NOTE_BYTES_MAX).read_to_string(&mut found);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("cannot open")(error)),
    }
    if let Some(id) = u64::from_str_radix(found.trim(), 16).ok().and_then(NonZeroU64::new) {
        return Ok(id);
    }
    let id = NonZeroU64::new(entropy()).unwrap_or(NonZeroU64::MIN);
    write_whole(path, "id", &format!("{id:016x}")).map_err(failed("cannot write"))?;
    Ok(id)
}

/// Whole or not at all, also over a power cut.
fn write_whole(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let partial = folder.join(format!("{name}.partial"));
    let mut file = File::create(&partial)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&partial, folder.join(name))?;
    sync_folder(folder)
}

/// Makes names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The folder of a log, below the data directory.
pub(crate) fn log_folder(log: LogId) -> PathBuf {
    match log {
        LogId::Catalog => PathBuf::from("catalog"),
        LogId::Data(partition) => {
            PathBuf::from(format!("topics/{}/{}/data", partition.topic.0, partition.index))
        }
        LogId::Groups(partition) => {
            PathBuf::from(format!("topics/{}/{}/groups", partition.topic.0, partition.index))
        }
    }
}

/// The folder of what tells from outside how far each log has come.
pub(crate) const WITNESSES: &str = "witnesses";

/// The file of a log's witness, below the data directory.
pub(crate) fn witness_file(log: LogId) -> PathBuf {
    let name = match log {
        LogId::Catalog => "catalog".to_owned(),
        LogId::Data(partition) => format!("{}-{}-data", partition.topic.0, partition.index),
        LogId::Groups(partition) => format!("{}-{}-groups", partition.topic.0, partition.index),
    };
    Path::new(WITNESSES).join(name)
}

/// The log that a witness of this name is of.
pub(crate) fn parse_witness(name: &str) -> Option<LogId> {
    if name == "catalog" {
        return Some(LogId::Catalog);
    }
    let mut parts = name.split('-');
    let topic = TopicId(parts.next()?.parse().ok()?);
    let partition = PartitionId { topic, index: parts.next()?.parse().ok()? };
    let log = match parts.next()? {
        "data" => LogId::Data(partition),
        "groups" => LogId::Groups(partition),
        _ => return None,
    };
    parts.next().is_none().then_some(log)
}

/// A log's witness, as it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoundWitness {
    Absent,
    /// The file holds something else.
    Unreadable,
    There(Witness),
}

pub(crate) fn read_witness(root: &Path, log: LogId) -> io::Result<FoundWitness> {
    let file = match File::open(root.join(witness_file(log))) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FoundWitness::Absent),
        Err(error) => return Err(error),
    };
    let mut content = Vec::with_capacity(WITNESS_BYTES);
    file.take(WITNESS_BYTES as u64 + 1).read_to_end(&mut content)?;
    Ok(Witness::decode(&content, log).map_or(FoundWitness::Unreadable, FoundWitness::There))
}

/// Whole or not at all, also over a power cut.
pub(crate) fn write_witness(root: &Path, log: LogId, witness: &Witness) -> io::Result<()> {
    let path = root.join(witness_file(log));
    let partial = path.with_extension("partial");
    let make = || File::create(&partial);
    let mut file = match make() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match fs::create_dir(root.join(WITNESSES)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => sync_folder(root)?,
            }
            make()?
        }
        made => made?,
    };
    file.write_all(&witness.encode(log))?;
    file.sync_all()?;
    fs::rename(&partial, &path)?;
    sync_folder(&root.join(WITNESSES))
}

/// Of a log that is removed for good.
pub(crate) fn remove_witness(root: &Path, log: LogId) -> io::Result<()> {
    match fs::remove_file(root.join(witness_file(log))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(&root.join(WITNESSES)),
    }
}

/// The log that a folder holds, by the end of its path.
pub(crate) fn parse_folder(folder: &Path) -> Option<LogId> {
    let mut names = folder.components().rev().filter_map(|name| name.as_os_str().to_str());
    let log: fn(PartitionId) -> LogId = match names.next()? {
        "catalog" => return Some(LogId::Catalog),
        "data" => LogId::Data,
        "groups" => LogId::Groups,
        _ => return None,
    };
    let index = names.next()?.parse().ok()?;
    let topic = TopicId(names.next()?.parse().ok()?);
    (names.next()? == "topics").then(|| log(PartitionId { topic, index }))
}

/// Digits of a segment's file name: as many as the largest number has, so that names sort.
const SEGMENT_DIGITS: usize = 20;

pub(crate) fn segment_name(segment: SegmentId) -> String {
    format!("{:0SEGMENT_DIGITS$}.log", segment.0)
}

/// A segment that is being filled; without meaning after a crash.
pub(crate) fn partial_segment_name(segment: SegmentId) -> String {
    format!("{:0SEGMENT_DIGITS$}.partial", segment.0)
}

/// What a file name in a log's folder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFile {
    Segment(SegmentId),
    Partial,
    /// Not ours: left alone.
    Foreign,
}

pub(crate) fn parse_name(name: &str) -> LogFile {
    let Some((digits, extension)) = name.split_once('.') else { return LogFile::Foreign };
    let ours = digits.len() == SEGMENT_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    match (ours, digits.parse(), extension) {
        (true, Ok(number), "log") => LogFile::Segment(SegmentId(number)),
        (true, Ok(_), "partial") => LogFile::Partial,
        (_, _, _) => LogFile::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_holder_is_refused_with_the_first_ones_pid() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path()).unwrap();
        let Err(StartError::DataDirLocked { holder, .. }) = DataDir::open(dir.path()) else {
            panic!("a second holder was let in");
        };
        assert_eq!(holder, std::process::id().to_string());
        drop(held);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn another_format_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("format"), "lanecast 9\n").unwrap();
        let error = DataDir::open(dir.path()).unwrap_err();
        assert!(error.to_string().contains("lanecast 9"), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join("format")).unwrap(), "lanecast 9\n");
    }

    #[test]
    fn a_directory_keeps_its_id_and_no_other_has_it() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = |folder: &tempfile::TempDir| DataDir::open(folder.path()).unwrap().id();
        let drawn = id(&one);
        assert_eq!(id(&one), drawn);
        assert_ne!(id(&other), drawn);
        fs::write(one.path().join("id"), "torn\n").unwrap();
        assert_ne!(id(&one), drawn);
    }

    #[test]
    fn segment_names_sort_and_parse_back() {
        let small = segment_name(SegmentId(9));
        let large = segment_name(SegmentId(u64::MAX));
        assert!(small < large);
        assert_eq!(parse_name(&small), LogFile::Segment(SegmentId(9)));
        assert_eq!(parse_name(&large), LogFile::Segment(SegmentId(u64::MAX)));
        assert_eq!(parse_name(&partial_segment_name(SegmentId(3))), LogFile::Partial);
        for foreign in
            ["lost+found", "1.log", "99999999999999999999.log", "0000000000000000000x.log"]
        {
            assert_eq!(parse_name(foreign), LogFile::Foreign, "{foreign}");
        }
    }

    #[test]
    fn a_witness_is_replaced_and_removed_whole() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogId::Groups(PartitionId { topic: TopicId(3), index: 17 });
        assert_eq!(read_witness(dir.path(), log).unwrap(), FoundWitness::Absent);
        for newest in [4, 5] {
            let newest = SegmentId(newest);
            let witness =
                Witness { newest, base_offset: 7, bytes: 4096, flushed: true, accepted: None };
            write_witness(dir.path(), log, &witness).unwrap();
            assert_eq!(read_witness(dir.path(), log).unwrap(), FoundWitness::There(witness));
        }
        let names = fs::read_dir(dir.path().join(WITNESSES)).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["3-17-groups"]);
        assert_eq!(parse_witness("3-17-groups"), Some(log));
        for other in ["3-17-groups.partial", "3-17", "3-17-x", "3-17-data-1", ""] {
            assert_eq!(parse_witness(other), None, "{other}");
        }
        fs::write(dir.path().join(witness_file(log)), [0; WITNESS_BYTES + 1]).unwrap();
        assert_eq!(read_witness(dir.path(), log).unwrap(), FoundWitness::Unreadable);
        for _ in 0..2 {
            remove_witness(dir.path(), log).unwrap();
        }
        assert_eq!(read_witness(dir.path(), log).unwrap(), FoundWitness::Absent);
    }

    #[test]
    fn folders_do_not_depend_on_shards() {
        let partition = PartitionId { topic: TopicId(3), index: 17 };
        assert_eq!(log_folder(LogId::Data(partition)), Path::new("topics/3/17/data"));
        assert_eq!(log_folder(LogId::Groups(partition)), Path::new("topics/3/17/groups"));
        assert_eq!(log_folder(LogId::Catalog), Path::new("catalog"));
        for log in [LogId::Catalog, LogId::Data(partition), LogId::Groups(partition)] {
            assert_eq!(parse_folder(&Path::new("/a/b").join(log_folder(log))), Some(log));
            let witness = witness_file(log);
            assert_eq!(
                witness.file_name().and_then(|n| n.to_str()).and_then(parse_witness),
                Some(log)
            );
        }
        for other in ["topics/3/data", "x/3/1/data", "topics/3/1/other", ""] {
            assert_eq!(parse_folder(Path::new(other)), None, "{other}");
        }
    }
}
