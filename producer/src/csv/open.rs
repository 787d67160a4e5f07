//! Opens an input and reads its header.

use lanecast_telemetry::{MetricId, SeriesCatalog};

use super::CsvConfig;
use super::header::{Header, Layout, Role};
use super::input::{Bytes, Input};
use super::rejected::Rejected;
use super::rows::{RowStep, Rows};
use crate::source::SourceError;

pub(super) fn open_rows(
    config: &CsvConfig,
    needs_time: bool,
) -> Result<(Rows<Bytes>, Header), SourceError> {
    let input = || config.input.to_string();
    let mut rows = Rows::new(config.input.open()?, config.delimiter);
    loop {
        let step = rows.advance().map_err(|source| SourceError::Read {
            input: input(),
            line: 1,
            source,
        })?;
        match step {
            RowStep::Row => break,
            RowStep::End => return Err(SourceError::Empty { input: input() }),
            RowStep::Fault(fault) => {
                let reason = Rejected::from(fault).detail;
                return Err(SourceError::Header { input: input(), reason });
            }
            // Nothing can be done before the header is there.
            RowStep::Quiet => std::thread::sleep(core::time::Duration::from_millis(10)),
        }
    }
    let mut scratch = Vec::new();
    let names = (0..rows.field_count())
        .map(|column| String::from_utf8_lossy(rows.field(column, &mut scratch)).trim().to_owned())
        .collect();
    let header = Header::parse(names, needs_time)
        .map_err(|reason| SourceError::Header { input: input(), reason })?;
    if let (Layout::Long { .. }, Some(labels)) = (&header.layout, header.column(Role::Labels))
        && labels + 1 == header.names.len()
    {
        rows.trust_last(labels);
    }
    Ok((rows, header))
}

pub(super) fn intern_wide(
    header: &Header,
    catalog: &mut SeriesCatalog,
    input: &Input,
) -> Result<Vec<MetricId>, SourceError> {
    let Layout::Wide { metrics } = &header.layout else { return Ok(Vec::new()) };
    let ids = metrics.iter().map(|column| catalog.metric(&header.names[*column]));
    ids.collect::<Result<_, _>>().map_err(|refused| SourceError::Header {
        input: input.to_string(),
        reason: refused.to_string(),
    })
}
