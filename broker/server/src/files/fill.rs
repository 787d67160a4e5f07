//! Makes segment files: their room first, then zeros as far as there is time.
//!
//! A commit into blocks that were written before only has to flush data; into blocks that are merely
//! allocated, it has to flush the file system's journal, too. So zeros make commits quicker, but only if
//! they do not take the disk's time from them: a log that fills segments faster than zeros come is
//! better off without. What is allocated reads as zeros, too, and no later write runs out of space.

use std::io;
use std::path::Path;
use std::rc::Rc;

use glommio::GlommioError;
use glommio::io::{DmaFile, OpenOptions};
use lanecast_core::DiskError;

use super::{full_write, glommio_failure};
use crate::limits::{DISK_FILL_BYTES, DISK_FILL_LEAD_BYTES};

/// Makes a file of `bytes` that reads as zeros, durably. `committed` says how much the log that waits
/// for it has written since.
pub(super) async fn fill(
    path: &Path,
    bytes: u64,
    committed: impl Fn() -> u64,
) -> Result<(), DiskError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .dma_open(path)
        .await
        .map_err(|e| glommio_failure("making", path, e))?;
    match file.pre_allocate(bytes, false).await {
        Ok(()) => write_zeros(&file, path, bytes, committed).await?,
        // Then zeros are the only way to have the room.
        Err(e) if is_unsupported(&e) => write_zeros(&file, path, bytes, || 0).await?,
        Err(e) => return Err(glommio_failure("allocating", path, e)),
    }
    file.fdatasync().await.map_err(|e| glommio_failure("syncing", path, e))?;
    file.close().await.map_err(|e| glommio_failure("closing", path, e))?;
    Ok(())
}

fn is_unsupported(error: &GlommioError<()>) -> bool {
    let (GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. }) = error
    else {
        return false;
    };
    source.kind() == io::ErrorKind::Unsupported
}

async fn write_zeros(
    file: &DmaFile,
    path: &Path,
    bytes: u64,
    committed: impl Fn() -> u64,
) -> Result<(), DiskError> {
    let mut zeros = file.alloc_dma_buffer(DISK_FILL_BYTES);
    zeros.as_bytes_mut().fill(0);
    let zeros = Rc::new(zeros);
    let mut position = 0;
    // Zeros have to come twice as fast: while they do, they and the commits share the disk.
    while position < bytes && committed() <= position / 2 + DISK_FILL_LEAD_BYTES {
        let left = (bytes - position) as usize;
        let written = if left >= zeros.len() {
            let written = file.write_rc_at(Rc::clone(&zeros), position).await;
            let written = written.map_err(|e| glommio_failure("filling", path, e))?;
            full_write(written, zeros.len(), path)?;
            written
        } else {
            let mut rest = file.alloc_dma_buffer(left);
            rest.as_bytes_mut().fill(0);
            let written = file.write_at(rest, position).await;
            let written = written.map_err(|e| glommio_failure("filling", path, e))?;
            full_write(written, left, path)?;
            written
        };
        position += written as u64;
    }
    Ok(())
}
