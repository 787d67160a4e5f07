//! `GET /api/v1/gpus/{id}/series`

use lanecast_store::read::{Aggregate, Grid, SeriesFilter};

use crate::answer::{Answer, Freshness};
use crate::encode::format::Format;
use crate::encode::series::{Fill, Frame, TooLong, TooManySeries};
use crate::limits;
use crate::params::gpu_id::GpuId;
use crate::params::step::{self, Step};
use crate::params::time::Nanoseconds;
use crate::params::window::{Ends, Window};
use crate::params::{ParameterError, table};
use crate::problem::Problem;
use crate::service::{Asked, Failure, Service};

pub(crate) async fn answer(service: &Service, asked: &Asked<'_>) -> Result<Answer, Problem> {
    let arguments = &asked.arguments;
    let formats = asked.operation.content.formats();
    let format = Format::choose(arguments.text(&table::FORMAT), asked.headers, formats)?;
    let id = asked.gpu_id()?;
    let ends = asked.ends()?;
    let step = Step::read(arguments)?;
    let aggregate_name = arguments.choice(&table::AGG).unwrap_or("avg");
    let fill = fill(arguments.choice(&table::FILL).unwrap_or("null"));
    let mut metrics: Vec<_> =
        arguments.texts(&table::METRIC).into_iter().map(str::to_owned).collect();
    metrics.sort_unstable();
    metrics.dedup();
    let mut frame = service
        .ask(read(service, Question { id: &id, ends, step, aggregate_name, metrics }))
        .await?;
    let grid = frame.grid;
    let shown = frame.fill(fill);
    let body = match format {
        Format::Json => frame.json(&step::written(grid.step_ms), &shown),
        Format::Ndjson => frame.ndjson(&shown),
        Format::Csv => frame.csv(&shown),
        Format::Arrow => unreachable!("not among the formats of the operation"),
    };
    let body = body.map_err(|TooLong| {
        let reason = format!(
            "makes so many points that they need more than {} bytes, which no answer may have; \
             ask for wider ones, or for fewer metrics",
            limits::ANSWER_BYTES_MAX
        );
        ParameterError::new("step", reason)
    })?;
    let mut answer = Answer::ok(format.media_type(), body);
    // The buckets may go on after the end of the window.
    let window = Window { start_ms: None, end_ms: Some(grid.end_ms()) };
    if window.is_closed(asked.now, service.ingest_slack) {
        answer.freshness = Freshness::Revalidated;
    }
    Ok(answer)
}

/// What is asked of the store.
struct Question<'a> {
    id: &'a GpuId,
    ends: Ends,
    step: Step,
    aggregate_name: &'static str,
    metrics: Vec<String>,
}

async fn read(service: &Service, question: Question<'_>) -> Result<Frame, Failure> {
    let Question { id, ends, step, aggregate_name, metrics } = question;
    let aggregate = aggregate(aggregate_name);
    let (gpu_uuid, (start_ms, end_ms)) = match (ends.start, ends.end, &id.slot) {
        // A GPU with a point needs no looking up, unless its slot names it.
        (Some(start), Some(end), None) => (id.uuid.clone(), (start.floor_ms(), end.ceil_ms())),
        (start, end, _) => {
            let gpu = service.find(id).await?;
            let start_ms = start.map_or(gpu.first_seen, Nanoseconds::floor_ms);
            let end_ms = end.map_or_else(|| gpu.last_seen + 1, Nanoseconds::ceil_ms);
            (gpu.gpu_uuid, (start_ms, end_ms))
        }
    };
    let grid: Grid = step.cut(start_ms, end_ms).map_err(Problem::from)?;
    let resolution = grid.resolution(aggregate);
    let mut frame = Frame::new(grid, resolution, aggregate_name);
    if grid.points > 0 {
        let filter = SeriesFilter { gpu_uuid, metrics };
        let mut points = service.reader.series(&filter, &grid, aggregate, resolution)?;
        while let Some(point) = points.next().await? {
            frame.push(&point).map_err(|TooManySeries| {
                let reason = format!(
                    "must name the series to show: there are more than {}",
                    limits::SERIES_MAX
                );
                Problem::from(ParameterError::new("metric", reason))
            })?;
        }
    }
    if frame.is_empty() {
        service.find(id).await?;
    }
    Ok(frame)
}

/// Of a name in [`table::AGGREGATES`].
fn aggregate(name: &'static str) -> Aggregate {
    match name {
        "avg" => Aggregate::Average,
        "min" => Aggregate::Minimum,
        "max" => Aggregate::Maximum,
        "last" => Aggregate::Last,
        "sum" => Aggregate::Sum,
        "count" => Aggregate::Count,
        "rate" => Aggregate::Rate,
        percentile => {
            let number = percentile.strip_prefix('p').and_then(|number| number.parse().ok());
            Aggregate::Percentile(number.expect("tested: all the others are percentiles"))
        }
    }
}

/// Of a name in [`table::FILLS`].
fn fill(name: &'static str) -> Fill {
    match name {
        "zero" => Fill::Zero,
        "previous" => Fill::Previous,
        "none" => Fill::None,
        _ => Fill::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_means_something_else() {
        let mut aggregates: Vec<_> =
            table::AGGREGATES.iter().map(|name| format!("{:?}", aggregate(name))).collect();
        aggregates.sort();
        aggregates.dedup();
        assert_eq!(aggregates.len(), table::AGGREGATES.len());
        assert_eq!(aggregate("p99"), Aggregate::Percentile(99));
        let mut fills: Vec<_> =
            table::FILLS.iter().map(|name| format!("{:?}", fill(name))).collect();
        fills.sort();
        fills.dedup();
        assert_eq!(fills.len(), table::FILLS.len());
    }
}
