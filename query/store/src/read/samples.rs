//! Rows of samples as they arrive.
//!
//! Without labels a page comes in columns, ClickHouse's Native format: what does not change from row
//! to row, which is most of a GPU's identity, is made, sent and read once. With labels it comes row by
//! row: each row may have long ones, so that a page must not be in memory as a whole.

use std::ops::ControlFlow;

use bytes::Bytes;
use clickhouse::Row;
use clickhouse::error::{Error, Result};
use clickhouse::query::{BytesCursor, Query, RowCursor};
use lanecast_telemetry::{Identity, labels};
use serde::Deserialize;

use super::SamplePosition;
use super::columns::Block;
use crate::error::StoreError;
use crate::limits;
use crate::store::Store;

/// One sample, borrowed from the answer's buffer.
#[derive(Clone, Debug, PartialEq, Row, Deserialize)]
pub struct SampleRow<'a> {
    /// Milliseconds since 1970.
    pub ts: i64,
    pub source_ts: i64,
    pub metric: &'a str,
    pub value: f64,
    pub gpu_uuid: &'a str,
    pub gpu_index: u32,
    pub device: &'a str,
    pub model: &'a str,
    pub hostname: &'a str,
    pub container: &'a str,
    pub pod: &'a str,
    pub namespace: &'a str,
    pub topic_partition: u32,
    pub topic_offset: u64,
    /// Empty unless the page asked for labels.
    #[serde(borrow)]
    pub labels: Vec<(&'a str, &'a str)>,
}

/// The samples of a page, as they arrive. Dropped early, it closes the connection and the server
/// stops.
pub struct Samples {
    cursor: Cursor,
    store: Store,
}

enum Cursor {
    Columns(BytesCursor),
    Rows(RowCursor<SampleRow<'static>>),
}

impl std::fmt::Debug for Samples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Samples").finish_non_exhaustive()
    }
}

impl SampleRow<'_> {
    /// All labels of the sample as its exporter wrote them; empty if it had none of its own.
    #[must_use]
    pub fn labels_raw(&self) -> String {
        let identity = Identity {
            uuid: self.gpu_uuid,
            device: self.device,
            model: self.model,
            hostname: self.hostname,
            container: self.container,
            pod: self.pod,
            namespace: self.namespace,
            gpu_index: self.gpu_index,
            labels: &self.labels,
        };
        labels::render(&identity, self.metric)
    }

    #[must_use]
    pub fn position(&self) -> SamplePosition {
        SamplePosition {
            ts_ms: self.ts,
            metric: self.metric.to_owned(),
            partition: self.topic_partition,
            offset: self.topic_offset,
        }
    }
}

impl Samples {
    pub(super) fn without_labels(query: Query, store: &Store) -> Result<Self> {
        Ok(Self { cursor: Cursor::Columns(query.fetch_bytes("Native")?), store: store.clone() })
    }

    pub(super) fn with_labels(query: Query, store: &Store) -> Result<Self> {
        Ok(Self { cursor: Cursor::Rows(query.fetch()?), store: store.clone() })
    }

    /// Shows each sample to `visit` until that has seen enough. Says how many samples the filter
    /// admits, if the statement [counts](super::SamplePage::counts) them and the page has a row.
    ///
    /// # Errors
    /// What the server says, also in the middle of its answer, or that it went away.
    pub async fn read(
        self,
        mut visit: impl FnMut(&SampleRow<'_>) -> ControlFlow<()>,
    ) -> Result<Option<u64>, StoreError> {
        let store = self.store;
        let read = match self.cursor {
            Cursor::Columns(cursor) => read_columns(cursor, &mut visit).await,
            Cursor::Rows(cursor) => read_rows(cursor, &mut visit).await.map(|()| None),
        };
        read.map_err(|error| store.error(&error))
    }
}

async fn read_rows(
    mut cursor: RowCursor<SampleRow<'static>>,
    visit: &mut impl FnMut(&SampleRow<'_>) -> ControlFlow<()>,
) -> Result<()> {
    while let Some(row) = cursor.next().await? {
        if visit(&row).is_break() {
            break;
        }
    }
    Ok(())
}

async fn read_columns(
    mut cursor: BytesCursor,
    visit: &mut impl FnMut(&SampleRow<'_>) -> ControlFlow<()>,
) -> Result<Option<u64>> {
    let answer = collect(&mut cursor).await?;
    let mut rest = &*answer;
    let mut total = None;
    let malformed = |error| Error::DataFormat(Box::new(error));
    while let Some(block) = Block::take(&mut rest).map_err(malformed)? {
        total = total.or_else(|| block.total());
        if block.rows().any(|row| visit(&row).is_break()) {
            break;
        }
    }
    Ok(total)
}

/// The whole answer. Mostly it comes in one piece, which is not copied.
async fn collect(cursor: &mut BytesCursor) -> Result<Bytes> {
    let Some(first) = cursor.next().await? else { return Ok(Bytes::new()) };
    let Some(second) = cursor.next().await? else { return Ok(first) };
    let (mut all, mut next) = (Vec::from(first), Some(second));
    while let Some(more) = next {
        if all.len() + more.len() > limits::PAGE_BYTES_MAX {
            let detail = format!("a page of over {} bytes", limits::PAGE_BYTES_MAX);
            return Err(Error::DataFormat(detail.into()));
        }
        all.extend_from_slice(&more);
        next = cursor.next().await?;
    }
    Ok(all.into())
}
