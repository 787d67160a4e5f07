//! Fetches libchdb once into a per-user cache.
//!
//! The npm package comes first, at the address that the user's own registry configuration gives, then
//! the release archive of the same version. Either way only `libchdb.so` is taken out, its SHA-256
//! must be the pinned one, and it appears in the cache by a rename: a reader sees all of it or
//! nothing. An interrupted download goes on where it stopped when it is run again.

mod archive;
mod download;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Version of the library.
pub const VERSION: &str = "26.7.3";
/// Name of the variable that points to a library of the user's own.
pub const LIBRARY_VARIABLE: &str = "LANECAST_CHDB_LIB";
/// Name of the variable that moves the cache.
pub const CACHE_VARIABLE: &str = "LANECAST_CACHE_DIR";
const LIBRARY_FILE: &str = "libchdb.so";
/// Begins the names of what is on its way.
const ARCHIVE_FILE: &str = "archive.tgz";

/// A platform whose library is known byte for byte.
struct Platform {
    os: &'static str,
    arch: &'static str,
    npm_package: &'static str,
    npm_version: &'static str,
    release_archive: &'static str,
    library_bytes: u64,
    library_sha256: &'static str,
}

const PLATFORMS: &[Platform] = &[Platform {
    os: "linux",
    arch: "x86_64",
    npm_package: "@chdb/lib-linux-x64-gnu",
    npm_version: "26.7.3-stable.1",
    release_archive: "https://github.com/chdb-io/chdb-core/releases/download/v26.7.3/linux-x86_64-libchdb.tar.gz",
    library_bytes: 566_330_096,
    library_sha256: "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5",
}];

/// Where to look and where to put it. `Default` reads the environment.
#[derive(Debug, Clone)]
pub struct InstallConfig {
    /// A library that is there already; used as it is.
    pub library: Option<PathBuf>,
    /// The cache; `None` when no home directory is known.
    pub cache_dir: Option<PathBuf>,
    /// The npm program; another name switches npm off.
    pub npm: PathBuf,
    /// The curl program; another name switches curl off.
    pub curl: PathBuf,
}

impl Default for InstallConfig {
    fn default() -> InstallConfig {
        let path = |name: &str| {
            std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        InstallConfig {
            library: path(LIBRARY_VARIABLE),
            cache_dir: path(CACHE_VARIABLE)
                .or_else(|| path("XDG_CACHE_HOME").map(|dir| dir.join("lanecast")))
                .or_else(|| path("HOME").map(|home| home.join(".cache/lanecast"))),
            npm: "npm".into(),
            curl: "curl".into(),
        }
    }
}

/// How far it is. Counts are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Another process installs the same library.
    Waiting,
    /// Downloading; the total is not always known.
    Downloading {
        /// On disk so far.
        bytes: u64,
        /// Of the archive.
        total: Option<u64>,
    },
    /// Unpacking the library.
    Unpacking {
        /// On disk so far.
        bytes: u64,
        /// Of the library.
        total: u64,
    },
    /// Computing the checksum.
    Verifying {
        /// Read so far.
        bytes: u64,
        /// Of the library.
        total: u64,
    },
}

/// Why the library is not there.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The variable names a file that does not exist.
    #[error("{LIBRARY_VARIABLE} is {path}, which is not a file")]
    NoSuchLibrary {
        /// The file.
        path: PathBuf,
    },
    /// No cache.
    #[error("no cache directory: set {CACHE_VARIABLE}, XDG_CACHE_HOME or HOME")]
    NoCacheDir,
    /// No checksum is pinned.
    #[error(
        "no libchdb {VERSION} is pinned for {platform}: set {LIBRARY_VARIABLE} to a libchdb.so of \
         that version, or CLICKHOUSE_URL to a ClickHouse server"
    )]
    NotPinned {
        /// Operating system and processor.
        platform: String,
    },
    /// No way of fetching it worked.
    #[error(
        "cannot fetch libchdb {VERSION}:\n{attempts}\
         To install it by hand, download {npm_package}@{npm_version} with `npm pack`, or \
         {release_archive}, unpack {LIBRARY_FILE} from it, and put it at\n  {target}\n\
         or anywhere else with {LIBRARY_VARIABLE} set to its path. Run again to resume. With \
         CLICKHOUSE_URL set to a ClickHouse server it is not needed."
    )]
    Unreachable {
        /// What was tried, one line each.
        attempts: String,
        /// The npm package.
        npm_package: &'static str,
        /// Its version.
        npm_version: &'static str,
        /// The other source.
        release_archive: &'static str,
        /// Where the library belongs.
        target: PathBuf,
    },
    /// The bytes are not those that are pinned.
    #[error(
        "the SHA-256 of {path} is {found}, and {expected} is pinned: it was thrown away; run again \
         to fetch it anew"
    )]
    Checksum {
        /// What was checked.
        path: PathBuf,
        /// Its checksum.
        found: String,
        /// The pinned one.
        expected: &'static str,
    },
    /// The archive is damaged, or tar is missing.
    #[error("cannot unpack {path}: {reason}; run again to fetch it anew")]
    Unpack {
        /// The archive.
        path: PathBuf,
        /// What tar said.
        reason: String,
    },
    /// Files.
    #[error("cannot write to the cache at {path}")]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The path of libchdb.so, fetched when it is not there. Blocks, for minutes when it has to download.
pub fn ensure(
    config: &InstallConfig,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, InstallError> {
    if let Some(path) = &config.library {
        return match path.is_file() {
            true => Ok(path.clone()),
            false => Err(InstallError::NoSuchLibrary { path: path.clone() }),
        };
    }
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let platform = PLATFORMS
        .iter()
        .find(|platform| platform.os == os && platform.arch == arch)
        .ok_or_else(|| InstallError::NotPinned { platform: format!("{os} on {arch}") })?;
    let cache = config.cache_dir.as_ref().ok_or(InstallError::NoCacheDir)?;
    Install { platform, config, folder: cache.join(format!("libchdb-{VERSION}-{os}-{arch}")) }
        .run(progress)
}

struct Install<'a> {
    platform: &'static Platform,
    config: &'a InstallConfig,
    folder: PathBuf,
}

impl Install<'_> {
    fn run(&self, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, InstallError> {
        let target = self.folder.join(LIBRARY_FILE);
        if self.installed(&target) {
            return Ok(target);
        }
        std::fs::create_dir_all(&self.folder).map_err(cache_error(&self.folder))?;
        let lock = self.lock(progress)?;
        // Whoever held the lock may have installed it.
        if self.installed(&target) {
            return Ok(target);
        }
        let archive = self.folder.join(ARCHIVE_FILE);
        if !archive.is_file() {
            self.download(&archive, &target, &lock, progress)?;
        }
        let fresh = self.folder.join("libchdb.so.new");
        let unpacked = self.unpack(&archive, &fresh, &lock, progress);
        // Good or bad, the archive has served: a bad one must be fetched anew.
        self.clear()?;
        unpacked?;
        std::fs::rename(&fresh, &target).map_err(cache_error(&target))?;
        if let Ok(folder) = File::open(&self.folder) {
            // Not all file systems can do this; then the name is durable a little later.
            let _ = folder.sync_all();
        }
        tracing::info!(path = %target.display(), "libchdb installed");
        Ok(target)
    }

    /// Whether the library is there. Its checksum was verified before it got this name, so the size
    /// is enough to notice a file that was cut off since.
    fn installed(&self, target: &Path) -> bool {
        target.metadata().is_ok_and(|found| found.len() == self.platform.library_bytes)
    }

    fn lock(&self, progress: &mut dyn FnMut(Progress)) -> Result<File, InstallError> {
        let path = self.folder.join("install.lock");
        let error = cache_error(&path);
        let options = File::options().create(true).write(true).truncate(false).open(&path);
        let file = match options {
            Ok(file) => file,
            Err(source) => return Err(error(source)),
        };
        let locked = file.try_lock().or_else(|_| {
            progress(Progress::Waiting);
            file.lock()
        });
        match locked {
            Ok(()) => Ok(file),
            Err(source) => Err(error(source)),
        }
    }

    /// Tries each source in turn.
    fn download(
        &self,
        archive: &Path,
        target: &Path,
        lock: &File,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), InstallError> {
        let mut attempts = String::new();
        for source in download::sources(self.config, self.platform) {
            tracing::debug!(%source, "fetching libchdb");
            match source.fetch(archive, lock, progress) {
                Ok(()) => return Ok(()),
                Err(reason) => {
                    tracing::debug!(%source, reason, "fetching libchdb failed");
                    attempts.push_str(&format!("  {source}: {reason}\n"));
                }
            }
        }
        Err(InstallError::Unreachable {
            attempts,
            npm_package: self.platform.npm_package,
            npm_version: self.platform.npm_version,
            release_archive: self.platform.release_archive,
            target: target.to_path_buf(),
        })
    }

    /// Removes the archive and the parts of it that sources left.
    fn clear(&self) -> Result<(), InstallError> {
        for entry in self.folder.read_dir().map_err(cache_error(&self.folder))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(ARCHIVE_FILE) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    fn unpack(
        &self,
        archive: &Path,
        fresh: &Path,
        lock: &File,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), InstallError> {
        archive::unpack(archive, fresh, lock, self.platform.library_bytes, progress)?;
        let found = archive::sha256(fresh, self.platform.library_bytes, progress)?;
        if found == self.platform.library_sha256 {
            return Ok(());
        }
        remove(fresh)?;
        Err(InstallError::Checksum {
            path: archive.to_path_buf(),
            found,
            expected: self.platform.library_sha256,
        })
    }
}

fn remove(path: &Path) -> Result<(), InstallError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cache_error(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn cache_error(path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_path_buf();
    move |source| InstallError::Cache { path, source }
}
