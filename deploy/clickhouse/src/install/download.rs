//! Where the archive comes from, and the programs that fetch it.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{InstallConfig, Platform, Progress};

/// How often a running program's file is measured.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// Retries of curl's own, after a connection broke.
const CURL_RETRIES: &str = "3";
/// A transfer slower than 1 KiB/s for this long is given up.
const CURL_STALL_SECONDS: &str = "60";
const CURL_CONNECT_SECONDS: &str = "20";
/// What is kept of a program's complaints.
const MESSAGE_CHARS_MAX: usize = 300;

/// One way to get the archive.
pub(super) enum Source<'a> {
    /// Ask npm for the address, fetch that with curl.
    NpmCurl { npm: &'a Path, curl: &'a Path, package: String },
    /// Let npm fetch it; no resuming.
    NpmPack { npm: &'a Path, package: String },
    /// The release archive with curl.
    Release { curl: &'a Path, url: &'static str },
}

/// All ways, best first.
pub(super) fn sources<'a>(config: &'a InstallConfig, platform: &Platform) -> [Source<'a>; 3] {
    let package = format!("{}@{}", platform.npm_package, platform.npm_version);
    let (npm, curl) = (config.npm.as_path(), config.curl.as_path());
    [
        Source::NpmCurl { npm, curl, package: package.clone() },
        Source::NpmPack { npm, package },
        Source::Release { curl, url: platform.release_archive },
    ]
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::NpmCurl { package, .. } => write!(f, "npm's address of {package}, with curl"),
            Source::NpmPack { package, .. } => write!(f, "npm pack {package}"),
            Source::Release { url, .. } => f.write_str(url),
        }
    }
}

impl Source<'_> {
    /// Fetches the archive. Each source has a part of its own beside it, so that a source which is
    /// tried later does not undo what an earlier one began.
    ///
    /// `lock` is held by what runs here too: if this process is killed, nobody else writes to the
    /// part before its curl has ended.
    pub(super) fn fetch(
        &self,
        archive: &Path,
        lock: &File,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), String> {
        match self {
            Source::NpmCurl { npm, curl, package } => {
                let url = npm_tarball(npm, package)?;
                fetch_with_curl(curl, &url, archive, &sibling(archive, "npm-part"), lock, progress)
            }
            Source::NpmPack { npm, package } => npm_pack(npm, package, archive, lock, progress),
            Source::Release { curl, url } => fetch_with_curl(
                curl,
                url,
                archive,
                &sibling(archive, "release-part"),
                lock,
                progress,
            ),
        }
    }
}

/// The address that the user's registry gives. It is not logged: it may be a private one.
fn npm_tarball(npm: &Path, package: &str) -> Result<String, String> {
    let output = Command::new(npm)
        .args(["view", package, "dist.tarball"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot_run(npm, &error))?;
    if !output.status.success() {
        return Err(message(&output.stderr));
    }
    let url = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match url.starts_with("https://") || url.starts_with("http://") {
        true => Ok(url),
        false => Err("npm gives no address for it".to_owned()),
    }
}

fn fetch_with_curl(
    curl: &Path,
    url: &str,
    archive: &Path,
    partial: &Path,
    lock: &File,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), String> {
    // A part belongs to the address that it was begun from.
    let origin = sibling(partial, "from");
    if std::fs::read_to_string(&origin).ok().as_deref() != Some(&fingerprint(url)) {
        discard(partial)?;
        std::fs::write(&origin, fingerprint(url)).map_err(|error| error.to_string())?;
    }
    let headers = sibling(partial, "headers");
    discard(&headers)?;
    let begun = bytes_of(partial);
    let child = Command::new(curl)
        .args(["--fail", "--silent", "--show-error", "--location", "--continue-at", "-"])
        .args(["--retry", CURL_RETRIES, "--connect-timeout", CURL_CONNECT_SECONDS])
        .args(["--speed-limit", "1024", "--speed-time", CURL_STALL_SECONDS])
        .arg("--dump-header")
        .arg(&headers)
        .arg("--output")
        .arg(partial)
        .args(["--", url])
        .stdin(lock.try_clone().map_err(|error| error.to_string())?)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| cannot_run(curl, &error))?;
    let mut total = None;
    let fetched = watch(child, partial, &mut |bytes| {
        total = total.or_else(|| total_bytes(&headers, begun));
        progress(Progress::Downloading { bytes, total });
    });
    discard(&headers)?;
    if let Err(reason) = fetched {
        let complete = total.is_some_and(|total| bytes_of(partial) == total);
        // A server answers 416 when nothing is left to fetch, and when what is here does not fit.
        if !complete {
            if reason.contains("416") {
                discard(partial)?;
            }
            return Err(reason);
        }
    }
    std::fs::rename(partial, archive).map_err(|error| error.to_string())?;
    discard(&origin)
}

fn npm_pack(
    npm: &Path,
    package: &str,
    archive: &Path,
    lock: &File,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), String> {
    let folder = sibling(archive, "pack");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let child = Command::new(npm)
        .args(["pack", package, "--silent", "--pack-destination"])
        .arg(&folder)
        .stdin(lock.try_clone().map_err(|error| error.to_string())?)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| cannot_run(npm, &error));
    let packed = child.and_then(|child| {
        watch(child, &folder, &mut |bytes| progress(Progress::Downloading { bytes, total: None }))
    });
    let moved = packed.and_then(|()| {
        let packed = first_file(&folder).ok_or("npm pack left no archive")?;
        std::fs::rename(packed, archive).map_err(|error| error.to_string())
    });
    // What is left of it is of no use; a directory that stays harms nobody.
    let _ = std::fs::remove_dir_all(&folder);
    moved
}

/// Waits for `child`, reporting the size of what it writes at `path`: a file, or a folder's files.
pub(super) fn watch(
    mut child: Child,
    path: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<(), String> {
    // Its few lines of complaint are read beside it, so that a full pipe cannot stop it.
    let complaints = child.stderr.take().map(|mut stderr| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            // What could be read is told.
            let _ = stderr.read_to_end(&mut text);
            text
        })
    });
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => std::thread::sleep(WATCH_INTERVAL),
            Err(error) => return Err(error.to_string()),
        }
        progress(bytes_of(path));
    };
    let complaints = complaints.and_then(|thread| thread.join().ok()).unwrap_or_default();
    progress(bytes_of(path));
    match status.success() {
        true => Ok(()),
        false => Err(message(&complaints)),
    }
}

fn bytes_of(path: &Path) -> u64 {
    match path.metadata() {
        Ok(found) if found.is_dir() => {
            let files = path.read_dir().into_iter().flatten().flatten();
            files.filter_map(|file| file.metadata().ok()).map(|found| found.len()).sum()
        }
        Ok(found) => found.len(),
        Err(_) => 0,
    }
}

/// The archive's size, out of the headers of the answer: `Content-Range: bytes a-b/total` of a
/// continued transfer, else `Content-Length`.
fn total_bytes(headers: &Path, begun: u64) -> Option<u64> {
    let text = std::fs::read_to_string(headers).ok()?;
    // Redirects have their headers before it: the last answer counts.
    let last = text.rsplit("HTTP/").next()?;
    let value = |wanted: &str| {
        last.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
        })
    };
    if let Some(range) = value("content-range") {
        return range.rsplit('/').next()?.parse().ok();
    }
    let resumed = if last.contains(" 206 ") { begun } else { 0 };
    Some(value("content-length")?.parse::<u64>().ok()? + resumed)
}

fn first_file(folder: &Path) -> Option<PathBuf> {
    folder.read_dir().ok()?.flatten().map(|entry| entry.path()).find(|path| path.is_file())
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn discard(path: &Path) -> Result<(), String> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Stands for an address in a file: the address itself may hold a token.
fn fingerprint(url: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest: [u8; 32] = Sha256::digest(url.as_bytes()).into();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cannot_run(program: &Path, error: &std::io::Error) -> String {
    format!("cannot run {}: {error}", program.display())
}

fn message(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let text: String = lines.join("; ").chars().take(MESSAGE_CHARS_MAX).collect();
    if text.is_empty() { "it failed without a message".to_owned() } else { text }
}
