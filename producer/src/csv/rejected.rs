//! A row that is not taken.

use super::split::Fault;
use crate::limits;
use crate::source::RejectReason;

/// Why a row is bad.
pub(super) struct Rejected {
    /// Counted from 0; none when it is the row as a whole.
    pub(super) column: Option<usize>,
    pub(super) reason: RejectReason,
    pub(super) detail: String,
}

pub(super) fn reject(column: Option<usize>, reason: RejectReason, detail: &str) -> Rejected {
    // A field may be as long as a row; what it is shown for fits a line.
    let shown: String = detail.chars().take(200).collect();
    Rejected { column, reason, detail: shown }
}

impl From<Fault> for Rejected {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::OpenQuote { column } => {
                reject(Some(column), RejectReason::BadQuotes, "quote is never closed")
            }
            Fault::TextAfterQuote { column } => {
                reject(Some(column), RejectReason::BadQuotes, "text after the closing quote")
            }
            Fault::TooLong => {
                let detail = format!("row has more than {} bytes", limits::ROW_BYTES_MAX);
                reject(None, RejectReason::RowTooLong, &detail)
            }
            Fault::TooManyColumns => {
                let detail = format!("row has more than {} fields", limits::COLUMNS_MAX);
                reject(None, RejectReason::RowTooLong, &detail)
            }
        }
    }
}
