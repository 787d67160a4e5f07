//! Can this machine run the broker? Asked before anything starts, answered with what to change.
//!
//! glommio panics without io_uring and silently does without registered buffers when locked
//! memory runs short, so both are asked here first. A [`Finding`] that is fatal stops the start;
//! the others are logged once.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::io_uring::{IoringFeatureFlags, io_uring_params, io_uring_setup};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::{
    CONNECTIONS_MAX, DESCRIPTORS_PER_EXECUTOR, FREE_BYTES_MIN, FREE_BYTES_WANTED,
    IO_MEMORY_BYTES_MAX, IO_MEMORY_BYTES_MIN, MEMLOCK_BYTES_MIN, OPEN_FILES_WANTED,
    OPEN_SEGMENTS_MAX, RINGS_PER_EXECUTOR,
};

/// One thing that falls short, and what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) fatal: bool,
    pub(crate) what: String,
    pub(crate) change: String,
}

impl Finding {
    fn fatal(what: impl Into<String>, change: impl Into<String>) -> Self {
        Finding { fatal: true, what: what.into(), change: change.into() }
    }

    fn warning(what: impl Into<String>, change: impl Into<String>) -> Self {
        Finding { fatal: false, what: what.into(), change: change.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  * {}\n    {}", self.what, self.change)
    }
}

/// Asks for a ring and gives it back. Its features tell the kernel's age: EXT_ARG came with 5.11.
pub(crate) fn io_uring() -> Vec<Finding> {
    let mut params = io_uring_params::default();
    // SAFETY: the parameters are a valid structure of zeros, which asks for a plain ring; nothing
    // is mapped, and the descriptor closes when it is dropped.
    let ring = unsafe { io_uring_setup(8, &mut params) };
    match ring {
        Ok(_ring) if params.features.contains(IoringFeatureFlags::EXT_ARG) => Vec::new(),
        Ok(_old) => vec![io_uring_refused(rustix::io::Errno::NOSYS, None)],
        Err(errno) => vec![io_uring_refused(errno, io_uring_sysctl().as_deref())],
    }
}

fn io_uring_sysctl() -> Option<String> {
    let value = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    Some(value.trim().to_owned())
}

fn io_uring_refused(errno: rustix::io::Errno, sysctl: Option<&str>) -> Finding {
    let what = format!("io_uring is not available: {errno}");
    let change = match (errno, sysctl) {
        (rustix::io::Errno::NOSYS, _) => {
            "the kernel is too old or built without it: Linux 5.11 or newer is needed".to_owned()
        }
        (_, Some(level @ ("1" | "2"))) => format!(
            "the kernel forbids it (kernel.io_uring_disabled = {level}): run \
             `sysctl kernel.io_uring_disabled=0`"
        ),
        (rustix::io::Errno::PERM | rustix::io::Errno::ACCESS, _) => {
            "a seccomp filter denies it, as in a container with Docker's default profile: use \
             `--security-opt seccomp=unconfined` or a profile that allows io_uring_setup, \
             io_uring_enter and io_uring_register"
                .to_owned()
        }
        (rustix::io::Errno::NOMEM, _) => {
            "locked memory runs short: raise it with `--ulimit memlock=-1` (Docker), \
             LimitMEMLOCK=infinity (systemd) or `ulimit -l`"
                .to_owned()
        }
        (_, _) => "see io_uring_setup(2) for this error".to_owned(),
    };
    Finding::fatal(what, change)
}

/// How much memory each executor may register with its rings.
pub(crate) fn memlock(executors: usize) -> (usize, Vec<Finding>) {
    let mut limit = getrlimit(Resource::Memlock);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        // Raising the soft limit to the hard one is always allowed; if not, the old one stands.
        if setrlimit(Resource::Memlock, raised).is_ok() {
            limit = raised;
        }
    }
    let unaccounted = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::IPC_LOCK));
    plan_memlock(limit.current, unaccounted, executors)
}

const MEMLOCK_CHANGE: &str = "raise locked memory: `--ulimit memlock=-1` (Docker), \
     LimitMEMLOCK=infinity (systemd), `ulimit -l unlimited` (shell)";

/// `limit` is `None` where there is none. A process with CAP_IPC_LOCK is not accounted at all,
/// but glommio looks at the limit all the same.
fn plan_memlock(limit: Option<u64>, unaccounted: bool, executors: usize) -> (usize, Vec<Finding>) {
    let Some(limit) = limit else { return (IO_MEMORY_BYTES_MAX, Vec::new()) };
    if limit < MEMLOCK_BYTES_MIN {
        let what = format!(
            "only {} KiB of memory may be locked, {} KiB are the least",
            limit / 1024,
            MEMLOCK_BYTES_MIN / 1024
        );
        return (IO_MEMORY_BYTES_MIN, vec![Finding::fatal(what, MEMLOCK_CHANGE)]);
    }
    if unaccounted {
        return (IO_MEMORY_BYTES_MAX, Vec::new());
    }
    // An eighth is left to others of the same user; the rings themselves count on old kernels.
    let share = (limit / 8 * 7) as usize / (RINGS_PER_EXECUTOR * executors);
    let page_aligned = share / 4096 * 4096;
    if page_aligned >= IO_MEMORY_BYTES_MIN {
        return (page_aligned.min(IO_MEMORY_BYTES_MAX), Vec::new());
    }
    let what = format!(
        "{} KiB of lockable memory are too little for {executors} executors to register buffers; \
         disk writes cost more CPU",
        limit / 1024
    );
    (IO_MEMORY_BYTES_MIN, vec![Finding::warning(what, MEMLOCK_CHANGE)])
}

/// Raises the soft limit of open files to the hard one and says if that is little.
pub(crate) fn open_files(executors: usize) -> Vec<Finding> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        // As above: the old one stands.
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    plan_open_files(limit.current, executors)
}

fn plan_open_files(limit: Option<u64>, executors: usize) -> Vec<Finding> {
    let Some(limit) = limit else { return Vec::new() };
    let per_executor = DESCRIPTORS_PER_EXECUTOR + OPEN_SEGMENTS_MAX as u64;
    let least = executors as u64 * DESCRIPTORS_PER_EXECUTOR + 128;
    let all = executors as u64 * (per_executor + CONNECTIONS_MAX as u64);
    let change = "raise open files: `--ulimit nofile=65536` (Docker), LimitNOFILE=65536 \
                  (systemd), `ulimit -n 65536` (shell)";
    let what = format!("{limit} open files are allowed, up to {all} could be used");
    if limit < least {
        vec![Finding::fatal(what, change)]
    } else if limit < OPEN_FILES_WANTED.min(all) {
        vec![Finding::warning(what, change)]
    } else {
        Vec::new()
    }
}

/// File systems by their magic number (linux/magic.h).
const NFS: u64 = 0x6969;
const CIFS: u64 = 0xff53_4d42;
const SMB2: u64 = 0xfe53_4d42;
const TMPFS: u64 = 0x0102_1994;
const OVERLAY: u64 = 0x794c_7630;
const FUSE: u64 = 0x6573_5546;

/// Is the data directory on a file system that keeps what it is given?
pub(crate) fn data_dir(path: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    match rustix::fs::statfs(path) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(u64::try_from(stat.f_bsize).unwrap_or(0));
            // The magic number is 32 bits wide; its type is not, and may sign-extend it.
            let magic = stat.f_type as u64 & 0xffff_ffff;
            findings.extend(file_system(path, magic));
            findings.extend(free_space(path, free));
        }
        Err(errno) => findings.push(Finding::fatal(
            format!("cannot examine the file system of {}: {errno}", path.display()),
            "check the path and its permissions",
        )),
    }
    if let Err(error) = direct_write(path) {
        let what =
            format!("cannot write past the page cache (O_DIRECT) in {}: {error}", path.display());
        let change =
            "use a directory on a local disk (ext4, xfs, btrfs) that this user may write to";
        findings.push(Finding::fatal(what, change));
    }
    findings
}

fn file_system(path: &Path, magic: u64) -> Option<Finding> {
    let path = path.display();
    match magic {
        NFS | CIFS | SMB2 => Some(Finding::fatal(
            format!("{path} is on a network file system, where locks and fsync promise too little"),
            "use a directory on a local disk or a block device",
        )),
        TMPFS => Some(Finding::warning(
            format!("{path} is in memory (tmpfs): all data is lost when the machine stops"),
            "use a directory on a disk for anything that matters",
        )),
        OVERLAY => Some(Finding::warning(
            format!(
                "{path} is in a container's own layer (overlay): slow, and gone with the container"
            ),
            "mount a volume there",
        )),
        FUSE => Some(Finding::warning(
            format!("{path} is on a FUSE file system, whose fsync may promise too little"),
            "prefer a directory on a local disk",
        )),
        _ => None,
    }
}

fn free_space(path: &Path, free: u64) -> Option<Finding> {
    let what = format!("{} MiB are free in {}", free / (1024 * 1024), path.display());
    let change = "free some space, or use a larger disk";
    if free < FREE_BYTES_MIN {
        Some(Finding::fatal(what, change))
    } else if free < FREE_BYTES_WANTED {
        Some(Finding::warning(what, change))
    } else {
        None
    }
}

#[repr(align(4096))]
struct Page([u8; 4096]);

/// A file in the data directory that every start writes, and every executor opens before any
/// other: glommio finds out by the first file that it opens whether a device can be polled for
/// completions, and takes an empty one for a yes.
pub(crate) const PROBE_FILE: &str = "probe";

fn direct_write(path: &Path) -> io::Result<()> {
    let page = Page([0x5a; 4096]);
    let file = open_direct(&path.join(PROBE_FILE))?;
    file.write_all_at(&page.0, 0)?;
    file.sync_data()
}

fn open_direct(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
    match options.custom_flags(direct).open(path) {
        // tmpfs has no O_DIRECT on older kernels; glommio does without it there.
        Err(error) if is_tmpfs(path) && error.kind() == io::ErrorKind::InvalidInput => {
            options.custom_flags(0).open(path)
        }
        opened => opened,
    }
}

fn is_tmpfs(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(path);
    rustix::fs::statfs(folder).is_ok_and(|stat| stat.f_type as u64 & 0xffff_ffff == TMPFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_io_uring() {
        let findings = io_uring();
        assert!(findings.is_empty(), "the broker's tests need io_uring: {}", findings[0]);
    }

    #[test]
    fn refused_io_uring_says_what_to_change() {
        use rustix::io::Errno;
        let docker = io_uring_refused(Errno::PERM, Some("0"));
        assert!(docker.fatal && docker.change.contains("seccomp=unconfined"), "{docker}");
        let sysctl = io_uring_refused(Errno::PERM, Some("2"));
        assert!(sysctl.change.contains("kernel.io_uring_disabled=0"), "{sysctl}");
        let old = io_uring_refused(Errno::NOSYS, None);
        assert!(old.change.contains("5.11"), "{old}");
    }

    #[test]
    fn registered_memory_fits_the_limit() {
        let mib = 1024 * 1024;
        for (limit, executors) in [(8 * mib, 2), (64 * mib, 2), (8 * mib, 16), (1024 * mib, 64)] {
            let (bytes, findings) = plan_memlock(Some(limit), false, executors);
            assert!(findings.is_empty(), "{limit} bytes for {executors}: {findings:?}");
            let all = bytes * RINGS_PER_EXECUTOR * executors;
            assert!(all as u64 <= limit, "{all} of {limit} bytes for {executors}");
            assert!(bytes >= IO_MEMORY_BYTES_MIN && bytes.is_multiple_of(4096));
        }
    }

    #[test]
    fn short_locked_memory_warns_or_stops() {
        let (_, findings) = plan_memlock(Some(256 * 1024), true, 1);
        assert!(findings[0].fatal && findings[0].change.contains("memlock=-1"));
        let (_, findings) = plan_memlock(Some(1024 * 1024), false, 64);
        assert!(!findings[0].fatal, "{findings:?}");
        assert_eq!(plan_memlock(None, false, 64), (IO_MEMORY_BYTES_MAX, Vec::new()));
        assert_eq!(plan_memlock(Some(8 << 20), true, 64), (IO_MEMORY_BYTES_MAX, Vec::new()));
    }

    #[test]
    fn few_open_files_warn_or_stop() {
        assert!(plan_open_files(Some(64), 2)[0].fatal);
        assert!(!plan_open_files(Some(1024), 2)[0].fatal);
        assert!(plan_open_files(Some(65_536), 2).is_empty());
        assert!(plan_open_files(None, 64).is_empty());
    }

    #[test]
    fn network_file_systems_are_refused_and_passing_ones_warned_about() {
        let path = Path::new("/data");
        assert!(file_system(path, NFS).unwrap().fatal);
        assert!(!file_system(path, TMPFS).unwrap().fatal);
        assert!(!file_system(path, OVERLAY).unwrap().fatal);
        assert_eq!(file_system(path, 0xef53), None);
    }

    #[test]
    fn a_directory_that_cannot_be_written_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(data_dir(dir.path()).iter().all(|finding| !finding.fatal));
        assert_eq!(fs::metadata(dir.path().join(PROBE_FILE)).unwrap().len(), 4096);
        let missing = data_dir(&dir.path().join("missing"));
        assert!(missing.iter().any(|finding| finding.fatal), "{missing:?}");
    }
}
