//! The data directory of `up`: chosen, made, and held by one process at a time.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The directory, locked while this value lives.
pub(super) struct DataDir {
    pub(super) path: PathBuf,
    /// The lock goes with the file, also when the process is killed.
    _lock: File,
}

impl DataDir {
    /// Makes and locks `given`, or the default place.
    ///
    /// # Errors
    /// It cannot be made or written, or another `up` holds it; in words, with what to do.
    pub(super) fn open(given: Option<&str>) -> Result<Self, String> {
        let path = match given {
            Some(path) => PathBuf::from(path),
            None => default_place()?,
        };
        let failed = |error: std::io::Error| {
            format!(
                "cannot use the data directory {}: {error}; give another one with --data-dir",
                path.display()
            )
        };
        std::fs::create_dir_all(&path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }
}

/// `$XDG_DATA_HOME/lanecast`, else `~/.local/share/lanecast`
/// (XDG Base Directory Specification 0.8).
fn default_place() -> Result<PathBuf, String> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = match (variable("XDG_DATA_HOME"), variable("HOME")) {
        (Some(base), _) => PathBuf::from(base),
        (None, Some(home)) => PathBuf::from(home).join(".local/share"),
        (None, None) => {
            return Err("neither XDG_DATA_HOME nor HOME is set; give --data-dir DIR".to_owned());
        }
    };
    Ok(base.join("lanecast"))
}

fn lock(folder: &Path) -> Result<File, String> {
    let path = folder.join("up.lock");
    let failed = |error: std::io::Error| format!("cannot lock {}: {error}", path.display());
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Without the number the message still says what matters.
            let _ = file.read_to_string(&mut holder);
            return Err(format!(
                "another `lanecast up` (process {}) uses the data directory {}; stop it, or give another directory with --data-dir",
                holder.trim(),
                folder.display()
            ));
        }
        Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_by_name_and_a_later_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let given = folder.path().join("data");
        let first = DataDir::open(given.to_str()).unwrap();
        let refusal = DataDir::open(given.to_str()).err().unwrap();
        assert!(refusal.contains(&std::process::id().to_string()), "{refusal}");
        assert!(refusal.contains("--data-dir"), "{refusal}");
        drop(first);
        assert!(DataDir::open(given.to_str()).is_ok());
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refusal = DataDir::open(file.path().to_str()).err().unwrap();
        assert!(refusal.contains(&file.path().display().to_string()), "{refusal}");
    }
}
