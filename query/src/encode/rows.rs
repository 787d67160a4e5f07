//! The rows of one answer while they arrive, in the format of the answer.

use lanecast_store::read::SampleRow;

use super::arrow::ArrowStream;
use super::column::Column;
use super::csv;
use super::format::Format;
use super::json::JsonRows;

/// Room at the start of the rows for what stands before them in JSON, which is known only after
/// them: so a large page is not copied.
pub(crate) const HEAD_BYTES_MAX: usize = 96;

/// Room to begin with.
const BYTES: usize = 16 * 1024;

/// The rows so far.
pub struct Rows {
    columns: &'static [Column],
    written: Written,
}

enum Written {
    /// After [`HEAD_BYTES_MAX`] of room, with commas between.
    Json(Vec<u8>, JsonRows),
    Ndjson(Vec<u8>, JsonRows),
    Csv(Vec<u8>),
    Arrow(Box<ArrowStream>),
}

impl Rows {
    /// A page without rows.
    #[must_use]
    pub fn new(format: Format, columns: &'static [Column]) -> Self {
        let mut out = Vec::with_capacity(BYTES);
        let written = match format {
            Format::Json => {
                out.resize(HEAD_BYTES_MAX, b' ');
                Written::Json(out, JsonRows::new(columns))
            }
            Format::Ndjson => Written::Ndjson(out, JsonRows::new(columns)),
            Format::Csv => {
                csv::write_header(&mut out, columns);
                Written::Csv(out)
            }
            Format::Arrow => Written::Arrow(Box::new(ArrowStream::new(out, columns))),
        };
        Self { columns, written }
    }

    /// Appends a row.
    pub fn push(&mut self, row: &SampleRow<'_>) {
        match &mut self.written {
            Written::Json(out, rows) => {
                if out.len() > HEAD_BYTES_MAX {
                    out.push(b',');
                }
                rows.write(out, row);
            }
            Written::Ndjson(out, rows) => {
                rows.write(out, row);
                out.push(b'\n');
            }
            Written::Csv(out) => csv::write_row(out, self.columns, row),
            Written::Arrow(stream) => stream.push(row),
        }
    }

    /// Bytes that the rows take by now.
    pub(crate) fn bytes(&self) -> usize {
        match &self.written {
            Written::Json(out, _) | Written::Ndjson(out, _) | Written::Csv(out) => out.len(),
            Written::Arrow(stream) => stream.bytes(),
        }
    }

    /// The page. In JSON it is the items of a list, separated, after room for what stands before
    /// them.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        match self.written {
            Written::Json(out, _) | Written::Ndjson(out, _) | Written::Csv(out) => out,
            Written::Arrow(stream) => stream.finish(),
        }
    }
}
