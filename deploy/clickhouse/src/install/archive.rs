//! Takes libchdb.so out of an archive and computes its checksum.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use super::download::watch;
use super::{InstallError, LIBRARY_FILE, Progress, cache_error};

/// How much is read at a time.
const READ_BYTES: usize = 1024 * 1024;

/// Writes the libchdb.so of `archive` to `fresh`, and to the disk. tar holds the lock too, so that
/// it is alone with the file even when this process is killed.
pub(super) fn unpack(
    archive: &Path,
    fresh: &Path,
    lock: &File,
    total: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), InstallError> {
    let failed = |reason: String| InstallError::Unpack { path: archive.to_path_buf(), reason };
    let member = member(archive).map_err(failed)?;
    let file = File::create(fresh).map_err(cache_error(fresh))?;
    let out = file.try_clone().map_err(cache_error(fresh))?;
    // To standard output: no path of the archive's making is ever created.
    let child = Command::new("tar")
        .arg("-xzOf")
        .arg(archive)
        .arg(&member)
        .stdin(lock.try_clone().map_err(cache_error(fresh))?)
        .stdout(out)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("cannot run tar: {error}")))?;
    watch(child, fresh, &mut |bytes| progress(Progress::Unpacking { bytes, total }))
        .map_err(failed)?;
    file.sync_all().map_err(cache_error(fresh))
}

/// The name of the library inside the archive: npm puts it into `package/`, a release at the top.
fn member(archive: &Path) -> Result<String, String> {
    let listed = Command::new("tar")
        .arg("-tzf")
        .arg(archive)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run tar: {error}"))?;
    if !listed.status.success() {
        return Err(String::from_utf8_lossy(&listed.stderr).trim().to_owned());
    }
    String::from_utf8_lossy(&listed.stdout)
        .lines()
        .find(|name| name.rsplit('/').next() == Some(LIBRARY_FILE))
        .map(str::to_owned)
        .ok_or_else(|| format!("it has no {LIBRARY_FILE}"))
}

/// The SHA-256 of a file, in hexadecimal.
pub(super) fn sha256(
    path: &Path,
    total: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<String, InstallError> {
    let failed = |source| cache_error(path)(source);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0_u64;
    loop {
        let read = match file.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.map_err(failed)?,
        };
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
        progress(Progress::Verifying { bytes, total });
    }
    let digest: [u8; 32] = hasher.finalize().into();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}
