//! What becomes of bad rows: logged, counted, and written down.
//!
//! The rejects file is a CSV file again: three columns that say where and why, then the row as it
//! stood. Repaired, it can be read like any other, since columns go by name.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::source::{RejectReason, SourceError};

pub(crate) struct RejectsFile {
    path: PathBuf,
    output: BufWriter<File>,
    header_written: bool,
}

impl RejectsFile {
    pub(crate) fn create(path: &Path) -> Result<Self, SourceError> {
        let failed = |source| SourceError::Rejects { path: path.to_owned(), source };
        let output = BufWriter::new(File::create(path).map_err(failed)?);
        Ok(RejectsFile { path: path.to_owned(), output, header_written: false })
    }

    /// `header` is the raw header row; it is written once.
    pub(crate) fn write(
        &mut self,
        header: &[u8],
        line: u64,
        column: &str,
        reason: RejectReason,
        detail: &str,
        row: &[u8],
    ) -> Result<(), SourceError> {
        let written = self.write_row(header, line, column, reason, detail, row);
        written.map_err(|source| SourceError::Rejects { path: self.path.clone(), source })
    }

    pub(crate) fn flush(&mut self) -> Result<(), SourceError> {
        let flushed = self.output.flush();
        flushed.map_err(|source| SourceError::Rejects { path: self.path.clone(), source })
    }

    fn write_row(
        &mut self,
        header: &[u8],
        line: u64,
        column: &str,
        reason: RejectReason,
        detail: &str,
        row: &[u8],
    ) -> std::io::Result<()> {
        if !self.header_written {
            self.header_written = true;
            self.output.write_all(b"reject_line,reject_column,reject_reason,")?;
            self.output.write_all(header)?;
            self.output.write_all(b"\n")?;
        }
        let column = column.replace('"', "\"\"");
        let detail = detail.replace('"', "\"\"");
        write!(self.output, "{line},\"{column}\",\"{reason}: {detail}\",")?;
        self.output.write_all(row)?;
        self.output.write_all(b"\n")
    }
}
