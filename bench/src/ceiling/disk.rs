//! Bare commits: O_DIRECT writes of one size, each followed by fdatasync.
//!
//! The file was written before from end to end, since fdatasync of blocks that are new to a file has to
//! write its metadata too. Each of some threads has every n-th place of the file, and one commit under
//! way; what they do together is what a disk gives to a log with as many commits in flight.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, Latencies, Load, Sample};

/// Alignment that O_DIRECT asks of memory, place and size.
const ALIGN: usize = 4096;

/// The file that is written over and over; a part of it is enough for a short run.
const FILE_BYTES: usize = 256 * 1024 * 1024;
const FILE_BYTES_MIN: usize = FILE_BYTES / 8;

/// What is asked of the disk.
#[derive(Clone, Copy, Debug)]
pub struct DiskLoad {
    /// Rounded up to whole blocks of 4 KiB.
    pub commit_bytes: usize,
    /// Commits under way at a time (closed loop), or so many per second, one under way.
    pub load: Load,
    /// Is each write followed by fdatasync?
    pub sync: bool,
    pub duration: Duration,
}

/// Commits into a file in `folder`, which is removed afterwards. Records are commits.
///
/// # Errors
/// The file system has no O_DIRECT, no room, or fails.
pub fn disk(folder: &Path, plan: DiskLoad) -> Result<Sample, Error> {
    let path = folder.join("ceiling.bin");
    let sample = commits(&path, plan);
    // It may not even have been made.
    let _ = std::fs::remove_file(&path);
    sample
}

fn commits(path: &Path, plan: DiskLoad) -> Result<Sample, Error> {
    let bytes = plan.commit_bytes.next_multiple_of(ALIGN);
    let short = plan.duration < Duration::from_millis(250);
    let places = (if short { FILE_BYTES_MIN } else { FILE_BYTES } / bytes).max(1);
    fill(path, places * bytes)?;
    let (writers, batches_per_second) = match plan.load {
        Load::Closed { in_flight } => (in_flight.max(1) as usize, None),
        Load::Open { batches_per_second } => (1, Some(batches_per_second)),
    };
    let start_line = Barrier::new(writers);
    let shares: Vec<Result<Share, Error>> = thread::scope(|scope| {
        let writer = |number: usize| {
            let start_line = &start_line;
            move || {
                let file = open(path)?;
                start_line.wait();
                let mine = (number..places).step_by(writers).cycle();
                write(&file, mine, bytes, plan, batches_per_second)
            }
        };
        let threads: Vec<_> = (0..writers).map(|number| scope.spawn(writer(number))).collect();
        let ended = |thread: thread::ScopedJoinHandle<'_, _>| match thread.join() {
            Ok(share) => share,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(ended).collect()
    });
    let mut sample = Sample::default();
    let mut cpu = Duration::ZERO;
    for share in shares {
        let share = share?;
        sample.records += share.commits;
        sample.bytes += share.commits * bytes as u64;
        sample.elapsed = sample.elapsed.max(share.elapsed);
        sample.latencies.add(&share.latencies);
        cpu += share.cpu;
    }
    sample.cpu = vec![("disk".to_owned(), cpu)];
    Ok(sample)
}

struct Share {
    commits: u64,
    elapsed: Duration,
    latencies: Latencies,
    cpu: Duration,
}

fn write(
    file: &File,
    places: impl Iterator<Item = usize>,
    bytes: usize,
    plan: DiskLoad,
    commits_per_second: Option<f64>,
) -> Result<Share, Error> {
    let mut memory = vec![0x5a; bytes + ALIGN];
    let aligned = memory.as_ptr().align_offset(ALIGN);
    let block = &mut memory[aligned..aligned + bytes];
    let mut latencies = Latencies::default();
    let mut commits = 0_u64;
    let cpu_before = crate::cpu::of_this_thread();
    let start = Instant::now();
    for place in places {
        let due = match commits_per_second {
            Some(rate) => start + Duration::from_secs_f64(commits as f64 / rate),
            None => Instant::now(),
        };
        if start.elapsed() >= plan.duration {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        block[..8].copy_from_slice(&commits.to_le_bytes());
        file.write_all_at(block, (place * bytes) as u64).map_err(Error::io("a bare write"))?;
        if plan.sync {
            file.sync_data().map_err(Error::io("a bare fdatasync"))?;
        }
        latencies.record(due.elapsed());
        commits += 1;
    }
    let cpu = crate::cpu::of_this_thread().saturating_sub(cpu_before);
    Ok(Share { commits, elapsed: start.elapsed(), latencies, cpu })
}

fn open(path: &Path) -> Result<File, Error> {
    let direct = rustix::fs::OFlags::DIRECT.bits();
    let flags = i32::try_from(direct).expect("open flags are small");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).custom_flags(flags);
    options.open(path).map_err(Error::io(format!("opening {} with O_DIRECT", path.display())))
}

fn fill(path: &Path, bytes: usize) -> Result<(), Error> {
    let failed = || Error::io(format!("filling {}", path.display()));
    let file = File::create(path).map_err(failed())?;
    let piece = vec![0x5a; 1024 * 1024];
    let mut at = 0;
    while at < bytes {
        let size = piece.len().min(bytes - at);
        file.write_all_at(&piece[..size], at as u64).map_err(failed())?;
        at += size;
    }
    file.sync_all().map_err(failed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_commit_counts_once() {
        let folder = tempfile::tempdir_in(".").unwrap();
        for load in [Load::Closed { in_flight: 2 }, Load::Open { batches_per_second: 500.0 }] {
            let duration = Duration::from_millis(50);
            let plan = DiskLoad { commit_bytes: 5000, load, sync: true, duration };
            let sample = disk(folder.path(), plan).unwrap();
            assert!(sample.records > 0);
            assert_eq!(sample.latencies.count(), sample.records);
            assert_eq!(sample.bytes, sample.records * 8192);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
