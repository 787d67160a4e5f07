//! From the raw text of a row's identity columns to its series, with one hash a row.
//!
//! The same GPU comes again with every metric and every time, and its raw columns are the same
//! each time but for the metric's name within the label text, which is cut out. So the bytes are
//! looked up as they stand, and only a new one is decoded, parsed and interned.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use lanecast_telemetry::labels::{self, LabelSet};
use lanecast_telemetry::{Identity, SeriesCatalog, SeriesId};

use super::header::{Header, Role};
use super::rejected::{Rejected, reject};
use super::rows::Rows;
use crate::limits;
use crate::shard::ShardOf;
use crate::source::RejectReason;

/// Known identities by raw text.
pub(crate) struct Identities {
    shard: ShardOf,
    columns: Vec<usize>,
    labels_column: Option<usize>,
    known: HashMap<Box<[u8]>, Owner, FixedState>,
    known_bytes: usize,
    key: Vec<u8>,
    label_set: LabelSet,
    scratch: [Vec<u8>; 8],
}

/// Whose row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Ours(SeriesId),
    OtherShard,
}

impl Identities {
    pub(crate) fn new(header: &Header, shard: ShardOf) -> Self {
        Identities {
            shard,
            columns: header.identity_columns(),
            labels_column: header.column(Role::Labels),
            known: HashMap::with_hasher(FixedState::with_seed(0x67_7075)),
            known_bytes: 0,
            key: Vec::new(),
            label_set: LabelSet::default(),
            scratch: Default::default(),
        }
    }

    /// The owner of the current row, if its columns were seen before. `metric` is the raw metric
    /// field of a long row.
    pub(crate) fn find<R: std::io::Read>(
        &mut self,
        rows: &Rows<R>,
        metric: &[u8],
    ) -> Option<Owner> {
        self.fill_key(rows, metric);
        self.known.get(self.key.as_slice()).copied()
    }

    /// Reads the columns of the row that was last looked for, and remembers its owner.
    #[cold]
    pub(crate) fn learn<R: std::io::Read>(
        &mut self,
        rows: &Rows<R>,
        header: &Header,
        metric: &[u8],
        catalog: &mut SeriesCatalog,
    ) -> Result<Owner, Rejected> {
        let owner = self.read(rows, header, metric, catalog)?;
        self.known_bytes += self.key.len();
        self.known.insert(self.key.as_slice().into(), owner);
        Ok(owner)
    }

    /// Whether the next new identity might not fit; the catalog is then to be started afresh.
    pub(crate) fn is_full(&self, catalog: &SeriesCatalog) -> bool {
        use lanecast_telemetry::limits as telemetry;
        let strings = 16 + 2 * telemetry::LABELS_MAX;
        self.known.len() >= limits::IDENTITIES_MAX
            || self.known_bytes >= limits::IDENTITY_TEXT_BYTES_MAX
            || catalog.string_count() + strings >= telemetry::CATALOG_STRINGS_MAX
            || catalog.text_bytes() + telemetry::IDENTITY_BYTES_MAX
                >= telemetry::CATALOG_TEXT_BYTES_MAX
    }

    pub(crate) fn clear(&mut self) {
        self.known.clear();
        self.known_bytes = 0;
    }

    /// Fields end in a byte that UTF-8 never has, another one where quotes are doubled.
    fn fill_key<R: std::io::Read>(&mut self, rows: &Rows<R>, metric: &[u8]) {
        const END: u8 = 0xfe;
        self.key.clear();
        for column in &self.columns {
            self.key.extend_from_slice(rows.raw_field(*column));
            self.key.push(END + u8::from(rows.is_doubled(*column)));
        }
        if let Some(column) = self.labels_column {
            let text = rows.raw_field(column);
            let (before, after) = cut_name(text, metric).unwrap_or((text, &[]));
            self.key.extend_from_slice(before);
            self.key.push(END + u8::from(rows.is_doubled(column)));
            self.key.extend_from_slice(after);
        }
    }

    fn read<R: std::io::Read>(
        &mut self,
        rows: &Rows<R>,
        header: &Header,
        metric: &[u8],
        catalog: &mut SeriesCatalog,
    ) -> Result<Owner, Rejected> {
        let [gpu, device, uuid, model, hostname, container, pod, namespace] = &mut self.scratch;
        let gpu = text(rows, header.column(Role::GpuIndex), gpu)?;
        let device = text(rows, header.column(Role::Device), device)?;
        let uuid = match header.column(Role::Uuid) {
            Some(column) => text(rows, Some(column), uuid)?,
            // A GPU's number is unique in its host only; a name may be an id.
            None if gpu.parse::<u32>().is_err() => gpu,
            None => "",
        };
        if uuid.is_empty() {
            let column = header.column(Role::Uuid).or_else(|| header.column(Role::GpuIndex));
            return Err(reject(column, RejectReason::MissingUuid, "names no GPU"));
        }
        if !self.shard.owns(uuid.as_bytes()) {
            return Ok(Owner::OtherShard);
        }
        let gpu_index = gpu_index(gpu, device, uuid)
            .ok_or_else(|| reject(header.column(Role::GpuIndex), RejectReason::BadGpuIndex, gpu))?;
        let mut label_text = Vec::new();
        let label_text = text(rows, self.labels_column, &mut label_text)?;
        self.label_set
            .parse(label_text)
            .map_err(|e| reject(self.labels_column, RejectReason::BadLabels, &e.to_string()))?;
        let plain = Identity {
            uuid,
            device,
            model: text(rows, header.column(Role::Model), model)?,
            hostname: text(rows, header.column(Role::Hostname), hostname)?,
            container: text(rows, header.column(Role::Container), container)?,
            pod: text(rows, header.column(Role::Pod), pod)?,
            namespace: text(rows, header.column(Role::Namespace), namespace)?,
            gpu_index,
            labels: &[],
        };
        let metric = core::str::from_utf8(metric).unwrap_or("");
        let extra: Vec<(&str, &str)> = self
            .label_set
            .iter()
            .filter(|(key, value)| !labels::repeats_column(key, value, &plain, metric))
            .collect();
        catalog
            .series(&Identity { labels: &extra, ..plain })
            .map(Owner::Ours)
            .map_err(|refused| reject(None, RejectReason::LimitExceeded, &refused.to_string()))
    }
}

/// The label text around `__name__="metric"`, whose quotes are doubled in a quoted field, when it
/// names this row's metric.
fn cut_name<'a>(text: &'a [u8], metric: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    const NAME: &[u8] = b"__name__=";
    let at = memchr::memmem::find(text, NAME)?;
    let value = &text[at + NAME.len()..];
    let quotes = value.iter().take_while(|byte| **byte == b'"').count();
    let after = value[quotes..].strip_prefix(metric)?;
    let closed = after.len() >= quotes && after[..quotes].iter().all(|byte| *byte == b'"');
    let whole = closed && matches!(after.get(quotes), None | Some(b',' | b';'));
    (whole && (1..=2).contains(&quotes)).then(|| (&text[..at], &after[quotes..]))
}

fn text<'a, R: std::io::Read>(
    rows: &'a Rows<R>,
    column: Option<usize>,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a str, Rejected> {
    let Some(at) = column else { return Ok("") };
    core::str::from_utf8(rows.field(at, scratch))
        .map_err(|error| reject(column, RejectReason::NotUtf8, &error.to_string()))
}

/// The column says it; where it is blank or is the id itself, the device's name may.
fn gpu_index(gpu: &str, device: &str, uuid: &str) -> Option<u32> {
    if gpu.is_empty() || gpu == uuid {
        let digits = device.trim_start_matches(|c: char| !c.is_ascii_digit());
        return Some(digits.parse().unwrap_or(0));
    }
    gpu.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_label_equal_to_the_metric_is_cut() {
        let cut = |text: &'static str| {
            cut_name(text.as_bytes(), b"M").map(|(before, after)| {
                (core::str::from_utf8(before).unwrap(), core::str::from_utf8(after).unwrap())
            })
        };
        assert_eq!(cut(r#"a="1",__name__="M",b="2""#), Some((r#"a="1","#, r#",b="2""#)));
        assert_eq!(cut(r#"a=""1"",__name__=""M"""#), Some((r#"a=""1"","#, "")));
        assert_eq!(cut(r#"__name__="MX""#), None);
        assert_eq!(cut(r#"__name__="M"x"#), None);
        assert_eq!(cut(r#"__name__="M"#), None);
        assert_eq!(cut("__name__=M;b=2"), None);
        assert_eq!(cut(""), None);
    }
}
