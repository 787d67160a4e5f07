//! `GET /api/v1/gpus/{id}/telemetry`

use std::ops::ControlFlow;

use bytes::Bytes;
use lanecast_store::read::{SampleFilter, SamplePage, SamplePosition};

use crate::answer::{Answer, Freshness};
use crate::encode::column::{Column, columns};
use crate::encode::format::Format;
use crate::encode::json;
use crate::encode::rows::{HEAD_BYTES_MAX, Rows};
use crate::limits;
use crate::params::cursor::{CursorError, Position};
use crate::params::paging::Paging;
use crate::params::{Arguments, ParameterError, table};
use crate::problem::Problem;
use crate::service::{Asked, Failure, Service};

/// The rows of a page, encoded, and what is around them.
struct Page {
    /// After [`HEAD_BYTES_MAX`] of room, in JSON.
    rows: Vec<u8>,
    shown: u32,
    /// `None` if it was not asked for, or is not known yet.
    total: Option<u64>,
    /// The last row, if others follow it.
    more_after: Option<SamplePosition>,
}

/// How a page is written.
struct Writing {
    format: Format,
    columns: &'static [Column],
    counted: bool,
}

pub(crate) async fn answer(service: &Service, asked: &Asked<'_>) -> Result<Answer, Problem> {
    let arguments = &asked.arguments;
    let formats = asked.operation.content.formats();
    let format = Format::choose(arguments.text(&table::FORMAT), asked.headers, formats)?;
    let id = asked.gpu_id()?;
    let requested = asked.ends()?.closed();
    let mut metrics = arguments.texts(&table::METRIC);
    metrics.sort_unstable();
    metrics.dedup();
    let limit = asked.operation.page_rows.number(service.default_page_size);
    let paging = Paging::read(arguments, limit, &question(&id.uuid, arguments, &metrics))?;
    // As the first page resolved it, or `window=5m` would move under a walk.
    let window = paging.after.as_ref().map_or(requested, |cursor| cursor.window);
    let after = match paging.after.as_ref().map(|cursor| &cursor.position) {
        None => None,
        Some(Position::Sample { ts_ms, metric, partition, offset }) => Some(SamplePosition {
            ts_ms: *ts_ms,
            metric: metric.clone(),
            partition: *partition,
            offset: *offset,
        }),
        Some(Position::Gpu { .. }) => {
            let reason = CursorError::OtherQuestion.to_string();
            return Err(ParameterError::new("cursor", reason).into());
        }
    };
    let labels = arguments.choice(&table::INCLUDE).is_some();
    let writing = Writing {
        format,
        columns: columns(labels),
        // Only JSON has a place for the count.
        counted: format == Format::Json && arguments.choice(&table::COUNT).is_none(),
    };
    let page = SamplePage {
        direction: paging.sort.into(),
        after,
        // One more than is shown says whether there is a next page.
        limit: paging.limit + 1,
        offset: paging.offset(),
        labels,
        counted: writing.counted,
    };
    let found = service
        .ask(async {
            // A GPU whose samples are shown needs no looking up, unless its slot names it.
            let gpu_uuid = match &id.slot {
                Some(_) => service.find(&id).await?.gpu_uuid,
                None => id.uuid.clone(),
            };
            let filter = SampleFilter {
                gpu_uuid,
                start_ms: window.start_ms,
                end_ms: window.end_ms,
                metrics: metrics.iter().map(|metric| (*metric).to_owned()).collect(),
            };
            let found = read(service, &filter, &page, &paging, &writing).await?;
            if found.shown == 0 {
                service.find(&id).await?;
            }
            Ok(found)
        })
        .await?;
    let next = found.more_after.map(|last| {
        let SamplePosition { ts_ms, metric, partition, offset } = last;
        paging.next(window, Position::Sample { ts_ms, metric, partition, offset }).encode()
    });
    let body = match format {
        Format::Json => wrap(found.rows, found.total, &paging, next.as_deref()),
        Format::Ndjson | Format::Csv | Format::Arrow => Bytes::from(found.rows),
    };
    let mut answer = Answer::ok(format.media_type(), body);
    answer.headers.extend(next.map(|cursor| asked.next_link(&cursor)));
    if window.is_closed(asked.now, service.ingest_slack) {
        answer.freshness = Freshness::Revalidated;
    }
    Ok(answer)
}

/// All that the order and choice of rows depends on, as it was written.
fn question<'a>(id: &'a str, arguments: &'a Arguments, metrics: &[&'a str]) -> Vec<&'a str> {
    let mut question = vec![
        "telemetry",
        id,
        arguments.written(&table::START_TIME),
        arguments.written(&table::END_TIME),
        arguments.written(&table::WINDOW),
    ];
    question.extend(metrics);
    question
}

/// The rows of a page and, where it is shown, how many there are in all. Where the page's statement
/// does not count them, another is asked at the same time, as the two together take less time than
/// one after the other; while others need the turns, it has to wait.
async fn read(
    service: &Service,
    filter: &SampleFilter,
    page: &SamplePage,
    paging: &Paging,
    writing: &Writing,
) -> Result<Page, Failure> {
    let rows = rows(service, filter, page, paging, writing);
    if !writing.counted {
        return rows.await;
    }
    let beside = if page.counts(filter) { None } else { service.turn_beside() };
    let mut found = match beside {
        Some(_turn) => {
            let count = async { Ok(service.reader.sample_count(filter).await?) };
            let (rows, count) = tokio::try_join!(rows, count)?;
            Page { total: Some(count), ..rows }
        }
        None => rows.await?,
    };
    // A first page that is not full has shown all there is, also where rows came between the two.
    let all_shown =
        found.more_after.is_none() && page.after.is_none() && (found.shown > 0 || page.offset == 0);
    if all_shown {
        found.total = Some(u64::from(page.offset) + u64::from(found.shown));
    } else if found.total.is_none() {
        found.total = Some(service.reader.sample_count(filter).await?);
    }
    Ok(found)
}

/// Encodes the rows of a page as they arrive.
async fn rows(
    service: &Service,
    filter: &SampleFilter,
    page: &SamplePage,
    paging: &Paging,
    writing: &Writing,
) -> Result<Page, Failure> {
    let mut rows = Rows::new(writing.format, writing.columns);
    let mut shown: u32 = 0;
    let mut last = None;
    let mut more = false;
    let samples = service.reader.samples(filter, page)?;
    let total = samples
        .read(|row| {
            if shown == paging.limit {
                // The last one. What is read to its end leaves the connection for the next question.
                more = true;
                return ControlFlow::Continue(());
            }
            rows.push(row);
            if rows.bytes() > limits::ANSWER_BYTES_MAX {
                return ControlFlow::Break(());
            }
            shown += 1;
            if shown == paging.limit {
                last = Some(row.position());
            }
            ControlFlow::Continue(())
        })
        .await?;
    if rows.bytes() > limits::ANSWER_BYTES_MAX {
        let reason = format!(
            "so many rows need more than {} bytes, which no answer may have; ask for fewer",
            limits::ANSWER_BYTES_MAX
        );
        return Err(Problem::from(ParameterError::new("limit", reason)).into());
    }
    Ok(Page { rows: rows.finish(), shown, total, more_after: last.filter(|_| more) })
}

/// The JSON object around the rows, which begin after [`HEAD_BYTES_MAX`].
fn wrap(mut rows: Vec<u8>, total: Option<u64>, paging: &Paging, next: Option<&str>) -> Bytes {
    let total = total.map_or_else(|| "null".to_owned(), |total| total.to_string());
    let Paging { page, limit, .. } = paging;
    let head = format!("{{\"total\":{total},\"page\":{page},\"limit\":{limit},\"items\":[");
    let start = HEAD_BYTES_MAX - head.len();
    rows[start..HEAD_BYTES_MAX].copy_from_slice(head.as_bytes());
    rows.extend_from_slice(b"],\"next_cursor\":");
    match next {
        Some(cursor) => json::write_text(&mut rows, cursor),
        None => rows.extend_from_slice(b"null"),
    }
    rows.push(b'}');
    Bytes::from(rows).slice(start..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Sort;
    use crate::params::cursor::Fingerprint;

    #[test]
    fn the_longest_head_fits_its_room() {
        let paging = Paging {
            limit: u32::MAX,
            page: u32::MAX,
            sort: Sort::Ascending,
            filters: Fingerprint(0),
            after: None,
        };
        for (total, next) in [(Some(u64::MAX), None), (None, Some("abc"))] {
            let mut rows = vec![0; HEAD_BYTES_MAX];
            rows.extend_from_slice(b"{\"a\":1}");
            let body = wrap(rows, total, &paging, next);
            let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(value["total"].as_u64(), total);
            assert_eq!(value["items"][0]["a"], 1);
            assert_eq!(value["next_cursor"].as_str(), next);
        }
    }
}
