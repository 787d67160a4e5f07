//! Reads the values of samples.

use super::rejected::{Rejected, reject};
use super::rows::Rows;
use crate::source::RejectReason;

/// The number in a field; `None` when the exporter had none.
///
/// DCGM marks "no value" by 64-bit integers from 0x7ffffffffffffff0 up (`dcgm_structs.h`,
/// `DCGM_INT64_BLANK`), and exporters pass them on as they are.
pub(super) fn parse_value<R: std::io::Read>(
    rows: &Rows<R>,
    column: usize,
) -> Result<Option<f64>, Rejected> {
    const BLANK: f64 = 0x7fff_ffff_ffff_fff0_u64 as f64;
    let raw = rows.raw_field(column).trim_ascii();
    if raw.is_empty() {
        return Ok(None);
    }
    let number = core::str::from_utf8(raw).ok().and_then(|text| text.parse::<f64>().ok());
    match number {
        Some(number) if !number.is_finite() => {
            let shown = String::from_utf8_lossy(raw);
            Err(reject(Some(column), RejectReason::NotFinite, &format!("{shown:?}")))
        }
        Some(number) if number >= BLANK => Ok(None),
        Some(number) => Ok(Some(number)),
        None => {
            let shown = format!("{:?}", String::from_utf8_lossy(raw));
            Err(reject(Some(column), RejectReason::BadValue, &shown))
        }
    }
}
