//! The ready file: a role says where it listens, once it does.
//!
//! With `--ready-file FILE` a role writes one JSON object there as soon as it serves. The file
//! appears whole (written beside and renamed), so a reader never sees half of it. `lanecast up`
//! and the tests learn the ports from it that port 0 picked.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Where a role listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) pid: u32,
    /// What clients connect to.
    pub(crate) addr: Option<SocketAddr>,
    /// Health, statistics and metrics, where they have a port of their own.
    pub(crate) admin_addr: Option<SocketAddr>,
}

impl Ready {
    pub(crate) fn new(addr: Option<SocketAddr>, admin_addr: Option<SocketAddr>) -> Self {
        Self { pid: std::process::id(), addr, admin_addr }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// As the file system says, with the path.
    pub(crate) fn write(&self, path: &Path) -> Result<(), String> {
        let failed = |error: std::io::Error| {
            format!("cannot write the ready file {}: {error}", path.display())
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or_else(|| Path::new(".")))
            .map_err(failed)?;
        serde_json::to_writer(&mut file, self).map_err(|error| failed(error.into()))?;
        file.flush().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// Reads the file; `None` while it is not there.
    ///
    /// # Errors
    /// It is there but is not what [`Self::write`] wrote.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, String> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| format!("ready file {}: {error}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read the ready file {}: {error}", path.display())),
        }
    }
}
